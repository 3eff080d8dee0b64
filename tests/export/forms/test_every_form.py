"""Every form of a network, trained, through export and parity: a campaign, judged by tf_keras' own answers.

Thirty files of Keras 2 and 3, gray and color. Each becomes a float32 file that says what its writer said, and
an int8 file; `parity` compares both with the network as its owner has it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.export.forms.conftest import COUNT, WEIGHTS, read_pixels
from tests.export.networks import KERAS_WARNING
from wetread import Classifier
from wetread.export import (
    ExportOptions,
    Gate,
    NetworkDescription,
    NetworkSource,
    export_keras,
    measure_parity,
)
from wetread.export.forms import keras2
from wetread.export.network import quiet

pytestmark = [
    pytest.mark.filterwarnings(KERAS_WARNING),
    pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match:UserWarning"),
]

GRAY2 = [
    "plain.h5",
    "plain.hdf5",
    "named-otherwise.keras",
    "nested.h5",
    "nested.keras",
    "older.keras",
    "nested-saved",
    "legacy.json",
    "two-outputs.h5",
    "list-of-one.h5",
    "lambda.h5",
]
COLOR2 = [
    "no-extension",
    "rich.h5",
    "rich.keras",
    "zip-named.h5",
    "rich-saved",
    "checkpoint.json",
    "new.json",
    "teachable",
    "logits.h5",
    "custom.h5",
    "custom-saved",
]
KERAS3 = (
    "k3.keras",
    "k3.h5",
    "k3-h5-as.keras",
    "k3-zip-as.h5",
    "k3-folder",
    "k3.json",
    "k3-saved",
    "k3-dict.keras",
)


@pytest.fixture(scope="session")
def images(trained_zoo) -> Path:
    """The pixels as PNG files, gray and color, in folders by their label: what is read is what was asked."""
    folder = trained_zoo / "images"
    for name in ("gray", "color"):
        with np.load(trained_zoo / f"{name}.npz") as file:
            for index, (picture, target) in enumerate(zip(file["pixels"], file["targets"], strict=True)):
                path = folder / name / ("left", "right")[int(target)] / f"{index:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), picture[..., ::-1] if picture.shape[-1] == 3 else picture)
    return folder


@pytest.fixture(scope="session")
def keras3_files(trained_zoo) -> Path:
    """One network of Keras 3 in each of its forms, and what Keras 3 answers."""
    import keras
    from keras import layers

    with quiet(), np.load(trained_zoo / "color.npz") as file:
        pixels, targets = file["pixels"], file["targets"]
        keras.utils.set_random_seed(3)
        image = keras.Input((32, 32, 3))
        x = layers.MaxPooling2D()(layers.Conv2D(8, 3, activation="hard_sigmoid")(image))
        x = layers.MaxPooling2D()(layers.SeparableConv2D(8, 3, activation="leaky_relu")(x))
        answer = layers.Dense(2, activation="softmax", name="one")(layers.Flatten()(x))
        model = keras.Model(image, answer)
        model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
        model.fit(pixels * np.float32(1 / 255), targets, batch_size=32, epochs=12, verbose=0)
        answers = model.predict(pixels * np.float32(1 / 255), verbose=0)
        model.save(trained_zoo / "k3.keras")
        model.save(trained_zoo / "k3.h5")
        shutil.copyfile(trained_zoo / "k3.h5", trained_zoo / "k3-h5-as.keras")
        shutil.copyfile(trained_zoo / "k3.keras", trained_zoo / "k3-zip-as.h5")
        shutil.unpack_archive(trained_zoo / "k3.keras", trained_zoo / "k3-folder", "zip")
        (trained_zoo / "k3.json").write_text(model.to_json())
        model.save_weights(trained_zoo / "k3.weights.h5")
        model.export(trained_zoo / "k3-saved", verbose=False)
        pair = {"one": answer, "other": layers.Dense(3, name="grade")(layers.Flatten()(x))}
        keras.Model(image, pair).save(trained_zoo / "k3-dict.keras")
    for name in KERAS3:
        np.save(trained_zoo / f"{name}.npy", answers)
    return trained_zoo


def name_source(zoo: Path, name: str) -> NetworkSource:
    weights = WEIGHTS | {"k3.json": "k3.weights.h5"}
    return NetworkSource(
        path=zoo / name,
        weights=zoo / weights[name] if name in weights else None,
        custom=str(zoo / "own_layers.py") if name in ("custom.h5", "lambda.h5") else None,
        output_name="one" if name in ("two-outputs.h5", "k3-dict.keras") else None,
    )


def expect(zoo: Path, name: str) -> np.ndarray:
    """Who wrote the file, of probabilities: float (N, 2)."""
    answers = np.load(zoo / f"{name}.npy").astype(np.float64)
    if name == "logits.h5":
        answers = np.exp(answers) / np.exp(answers).sum(axis=1, keepdims=True)
    return np.concatenate([1 - answers, answers], axis=1) if answers.shape[1] == 1 else answers


@pytest.fixture
def read_once(monkeypatch, tmp_path) -> None:
    """Keep what the reading process found: it is asked three times about each file, and takes seconds."""
    ask, kept = keras2.ask_reader, {}

    def recall(folder, request, *, graph, layers=True):
        if graph not in kept:
            place = tmp_path / f"kept-{graph}"
            place.mkdir(exist_ok=True)  # the first time, it may have been refused
            kept[graph] = (place, ask(place, request, graph=graph, layers=layers))
        shutil.copytree(kept[graph][0], folder, dirs_exist_ok=True)
        return kept[graph][1]

    monkeypatch.setattr(keras2, "ask_reader", recall)


@pytest.mark.long
@pytest.mark.usefixtures("read_once")
@pytest.mark.parametrize("name", [*GRAY2, *COLOR2, *KERAS3])
def test_export_and_parity(name, trained_zoo, keras3_files, images, tmp_path):
    source = name_source(trained_zoo, name)
    color = "gray" if name in GRAY2 else "color"
    folder = images / color
    description = NetworkDescription(labels=("left", "right"), scale=(1 / 255,))
    gate = Gate(max_flips=0.03)  # one of forty
    files = []
    for precision in ("float32", "int8"):
        output = tmp_path / f"{precision}.onnx"
        options = ExportOptions(precision=precision, calibration=folder, gate=gate)
        export_keras(source, network_description=description, output=output, options=options)
        files.append(output)
    pixels, expected = read_pixels(trained_zoo, 1 if color == "gray" else 3), expect(trained_zoo, name)
    assert (expected.argmax(axis=1) == 0).sum() in range(COUNT // 5, COUNT * 4 // 5)
    found = Classifier(files[0], device="cpu").classify(pixels)
    assert np.abs(found - expected).max() <= 1e-4
    flips = (
        Classifier(files[1], device="cpu").classify(pixels).argmax(axis=1) != expected.argmax(axis=1)
    ).sum()
    assert flips <= 0.03 * COUNT
    report = measure_parity(source, models=files, images=folder, max_flips=0.03)
    assert report.passed
