"""Small Keras networks and drawn images for the tests of exports."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np

from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.spec import ModelSpec

# Keras asks numpy for arrays in a way that numpy 2 warns of; nothing of ours does.
KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
SIDE = 32
LABELS = ("left", "right")


def draw_lamp(seed: int, *, side: int = 48) -> tuple[np.ndarray, int]:
    """A noisy picture that is brighter on one side, uint8 (side, side), and which side: 0 or 1."""
    random = np.random.default_rng(seed)
    target = int(random.integers(2))
    ramp = np.linspace(0, 1, side) if target else np.linspace(1, 0, side)
    picture = 60 + ramp[None, :] * random.uniform(12, 120) + random.normal(0, 22, (side, side))
    return np.clip(picture, 0, 255).astype(np.uint8), target


def draw_lamps(folder: Path, *, count: int, first: int = 0) -> list[tuple[str, str]]:
    """Fill folder/<label>/*.jpg; returns (name below the folder, label) of each."""
    rows = []
    for seed in range(first, first + count):
        picture, target = draw_lamp(seed)
        name = f"{LABELS[target]}/lamp{seed}.jpg"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())
        rows.append((name, LABELS[target]))
    return rows


def toy_spec(**changes: object) -> ModelSpec:
    values = {"labels": LABELS, "pixels": PixelRecipe(height=SIDE, width=SIDE)} | changes
    return ModelSpec(**values)


def train_toy(rows: list[tuple[str, str]], folder: Path):
    """Train a small network on drawn lamps: two convolutions, two dense layers, one logit."""
    import keras
    from keras import layers

    from wetread.runtime.images.pixels import read_pixels

    recipe = toy_spec().pixels
    images = np.stack([read_pixels((folder / name).read_bytes(), recipe) for name, _ in rows])
    targets = np.array([LABELS.index(label) for _, label in rows], np.float32)
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1), name="image"),
            layers.Conv2D(16, 3, activation="relu", name="conv2d"),
            layers.MaxPooling2D(2, name="max_pooling2d"),
            layers.Conv2D(24, 3, activation="relu", name="conv2d_1"),
            layers.MaxPooling2D(2, name="max_pooling2d_1"),
            layers.Dropout(0.2),
            layers.Flatten(name="flatten"),
            layers.Dense(24, activation="relu", name="dense"),
            layers.Dense(1, name="dense_1"),
        ]
    )
    model.compile(keras.optimizers.Adam(2e-3), keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(images / np.float32(255), targets, batch_size=32, epochs=4, verbose=0)
    return model


def write_run(run: Path, model, rows: list[tuple[str, str]], *, data: Path, spec: ModelSpec) -> Path:
    """Lay out a RUN directory as training leaves it: the last quarter of the rows judges."""
    (run / "calibration").mkdir(parents=True)
    model.save(run / "model.keras")
    (run / "spec.json").write_text(spec.to_json())
    (run / "config.json").write_text(json.dumps({"data": str(data)}))
    held_out = len(rows) * 3 // 4
    with (run / "splits.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "label", "group", "split"))
        for index, (name, label) in enumerate(rows):
            writer.writerow((name, label, name, "train" if index < held_out else "val"))
    names = "".join(f"{name}\n" for name, _ in rows[: held_out // 2])
    (run / "calibration" / "files.txt").write_text(names)
    return run


def build_network(body, *, shape: tuple[int, int, int] = (16, 16, 3), units: int = 3, end: str | None = None):
    """Body, pooled where it still has height and width, and a Dense layer with the given activation."""
    import keras
    from keras import layers

    image = keras.Input(shape)
    features = body(image)
    if len(features.shape) == 4:
        features = layers.GlobalAveragePooling2D()(features)
    elif len(features.shape) == 3:
        features = layers.Flatten()(features)
    dense = layers.Dense(units, activation=end, kernel_initializer="glorot_normal")
    return keras.Model(image, dense(features))


def stir(model, *, seed: int = 0):
    """Give a network's BatchNorm layers statistics of their own, so that inference mode shows."""
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([np.abs(random.normal(1, 0.3, w.shape)) for w in layer.get_weights()])
    return model
