"""What an int8 export promises, kept on images that it never saw: forty networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.export.networks import KERAS_WARNING, LABELS, SIDE, draw_lamps
from wetread.errors import ExportError
from wetread.export import ExportOptions, NetworkDescription, export_keras, measure_parity
from wetread.export.network import quiet
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe

pytestmark = pytest.mark.filterwarnings(KERAS_WARNING)


def build(seed: int):
    """One of several small designs: width, depth, activation, batch norm and head go by the seed."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    choose = np.random.default_rng(seed)
    width, activation = int(choose.choice((6, 10, 16))), str(choose.choice(("relu", "elu", "swish")))
    network = keras.Sequential([keras.Input((SIDE, SIDE, 1))])
    for depth in range(int(choose.integers(1, 4))):
        network.add(layers.Conv2D(width * (depth + 1), 3, use_bias=seed % 2 == 0))
        if choose.random() < 0.5:
            network.add(layers.BatchNormalization())
        network.add(layers.Activation(activation))
        network.add(layers.MaxPooling2D(2))
    network.add(layers.Flatten() if seed % 3 else layers.GlobalAveragePooling2D())
    network.add(layers.Dense(2, activation="softmax") if seed % 4 else layers.Dense(1, activation="sigmoid"))
    return network


def train(network, rows: list[tuple[str, str]], folder: Path, path: Path) -> Path:
    import keras

    recipe = PixelRecipe(height=SIDE, width=SIDE)
    images = np.stack([read_pixels((folder / name).read_bytes(), recipe) for name, _ in rows])
    targets = np.array([LABELS.index(label) for _, label in rows])
    single = network.output_shape[-1] == 1
    network.compile(
        keras.optimizers.Adam(2e-3), "binary_crossentropy" if single else "sparse_categorical_crossentropy"
    )
    with quiet():
        network.fit(images / np.float32(255), targets, batch_size=16, epochs=4, verbose=0)
    network.save(path)
    return path


@pytest.mark.long
def test_an_int8_file_holds_on_fresh_images_at_the_same_tolerance(tmp_path):
    """38 of 40; a network for which no form holds writes no file, and does not count."""
    rows = draw_lamps(tmp_path / "train", count=200)
    draw_lamps(tmp_path / "calibration", count=160, first=1_000)
    draw_lamps(tmp_path / "fresh", count=80, first=2_000)
    held, written = 0, 0
    for seed in range(40):
        file = train(build(seed), rows, tmp_path / "train", tmp_path / f"{seed}.keras")
        output = tmp_path / f"{seed}.onnx"
        try:
            export_keras(
                file,
                network_description=NetworkDescription(labels=LABELS, scale=(1 / 255,)),
                output=output,
                options=ExportOptions(precision="int8", calibration=tmp_path / "calibration"),
            )
        except ExportError:
            continue
        written += 1
        held += measure_parity(file, models=[output], images=tmp_path / "fresh").passed
    assert written >= 30 and held >= 0.95 * written
