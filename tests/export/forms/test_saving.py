"""`wetread convert`, and Teachable Machine's folder through `export` and `parity`, as users call them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from tests.export.forms.conftest import ask, read_pixels
from tests.export.networks import KERAS_WARNING
from wetread import Classifier
from wetread.cli import run
from wetread.errors import ExportError, UsageError
from wetread.export.forms.saving import convert_network
from wetread.export.network import quiet

pytestmark = [
    pytest.mark.filterwarnings(KERAS_WARNING),
    pytest.mark.usefixtures("without_tf_keras"),
]


def test_a_converted_file_loads_in_bare_keras_and_answers_alike(zoo, tmp_path, capsys):
    import keras

    output = tmp_path / "net.keras"
    assert run(["convert", str(zoo / "nested.h5"), "--output", str(output)]) == 0
    printed = capsys.readouterr()
    assert "takes (None, 32, 32, 1), gives 'dense" in printed.out
    assert "not compared with Keras 2" in printed.err
    with quiet():
        found = ask(keras.saving.load_model(output, safe_mode=True), read_pixels(zoo, 1))
    assert np.abs(found - np.load(zoo / "nested.h5.npy")).max() <= 1e-5


@pytest.mark.parametrize("form", ["sequential", "dict"])
def test_networks_of_keras_3_are_converted_and_compared(tmp_path, form):
    import keras

    layers = [keras.layers.Flatten(), keras.layers.Dense(2)]
    if form == "sequential":
        model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    else:
        image = keras.Input((8, 8, 1), name="image")
        model = keras.Model({"image": image}, layers[1](layers[0](image)))
    model.save(tmp_path / "own.keras")
    convert_network(tmp_path / "own.keras", output=tmp_path / "converted.keras")
    assert keras.saving.load_model(tmp_path / "converted.keras").count_params() == model.count_params()


def test_what_a_keras_file_cannot_hold(zoo, tmp_path):
    with pytest.raises(ExportError, match=r"only its TensorFlow graph is known.*wetread export --keras"):
        convert_network(zoo / "custom-saved", output=tmp_path / "net.keras")
    for output in ("net.h5", "no/folder/net.keras"):
        with pytest.raises(UsageError, match=r"must end in \.keras"):
            convert_network(zoo / "nested.h5", output=tmp_path / output)
    assert list(tmp_path.iterdir()) == []


def test_teachable_machine_as_its_user_has_it(zoo, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    pixels = read_pixels(zoo, 3)[:12]
    for index, picture in enumerate(pixels):
        cv2.imwrite(str(images / f"{index:02d}.png"), picture[..., ::-1])
    model = tmp_path / "net.onnx"
    options = ["--scale", "0.00392156862745", "--output", str(model)]
    assert run(["export", "--keras", str(zoo / "teachable"), *options]) == 0
    assert "labels, in this order, from" in (said := capsys.readouterr().err) and ": left, right" in said
    classifier = Classifier(model, device="cpu")
    assert classifier.spec.labels == ("left", "right")
    expected = np.load(zoo / "teachable.npy")[:12]
    assert np.abs(classifier.classify(pixels) - expected).max() <= 1e-4
    report = tmp_path / "report.json"
    network = str(zoo / "teachable" / "keras_model.h5")
    assert run(["parity", network, str(model), "--images", str(images), "--json", str(report)]) == 0
    assert json.loads(report.read_text())["passed"]


def test_options_of_a_network_with_a_run_are_refused(zoo, capsys):
    assert run(["export", "run", "--custom", "mine"]) == 2
    assert "--custom and --output-name belong to --keras" in capsys.readouterr().err
    assert run(["export", "--keras", str(zoo / "nested.h5")]) == 2
    assert "no labels.txt beside it" in " ".join(capsys.readouterr().err.split())
