"""A network that is somebody's: trained on pictures that Keras loaded, and its owner's own function."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.pictures import LABELS, fill_folder
from wetread.export import NetworkDescription, export_keras
from wetread.export.contract import finish
from wetread.export.network import quiet
from wetread.runtime.model.spec import extract_spec

SIDE = 32
NEAREST = "keras:load_img,nearest"


@dataclass(frozen=True)
class Owned:
    """The network's file, the network itself, and where exports of it go."""

    file: Path
    model: Any
    folder: Path
    gray: bool = False

    def load(self, path: str | Path, **options: object) -> np.ndarray:
        """As its owner does, by keras.utils.load_img: float32 (H, W, C), 0 to 255."""
        import keras

        mode = "grayscale" if self.gray else "rgb"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of palettes
            image = keras.utils.load_img(path, target_size=(SIDE, SIDE), color_mode=mode, **options)
        return keras.utils.img_to_array(image)

    def answer(self, path: str | Path) -> np.ndarray:
        """The owner's way from a path to probabilities."""
        return self.predict(self.load(path))

    def predict(self, image: np.ndarray) -> np.ndarray:
        """What the network says of one image, 0 to 255."""
        with quiet():
            return np.asarray(self.model(image[None] / np.float32(255), training=False))[0]

    def export(self, name: str, **changes: object) -> Path:
        """Export it as its owner would, but for the changes."""
        values = {"labels": LABELS, "scale": (1 / 255,), "pipeline": NEAREST} | changes
        output = self.folder / f"{name}.onnx"
        export_keras(self.file, network_description=NetworkDescription(**values), output=output)
        return output

    def export_other_pixels(self, name: str, **changes: object) -> Path:
        """Export it with other fields of the recipe than any option gives."""
        right, output = self.folder / "right.onnx", self.folder / f"{name}.onnx"
        spec = extract_spec((right if right.exists() else self.export("right")).read_bytes(), name=name)
        pixels = dataclasses.replace(spec.pixels, **changes)
        output.write_bytes(finish(onnx.load(right), dataclasses.replace(spec, golden=None, pixels=pixels)))
        return output


def train_owned(folder: Path, *, gray: bool = False) -> Owned:
    """Train a small network for a few seconds on pictures as Keras loads them."""
    import keras
    from keras import layers

    paths = [path for path in fill_folder(folder / "train", count=160) if _is_plain(path)]
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1 if gray else 3)),
            layers.Conv2D(12, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    owned = Owned(folder / "owned.keras", model, folder, gray)
    images = np.stack([owned.load(path) for path in paths]) / np.float32(255)
    targets = np.array([LABELS.index(path.parent.name) for path in paths])
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    with quiet():
        model.fit(images, targets, batch_size=16, epochs=4, verbose=0)
    model.save(owned.file)
    return owned


def _is_plain(path: Path) -> bool:
    """Whether Keras' load_img brings a file to 8 bits in gray, too."""
    return path.suffix == ".jpg" or path.read_bytes()[24] <= 8


def add_class_names(function: Callable[[str], Any], *names: str) -> Callable[[str], Any]:
    """A function that says in which order its labels are."""

    def named(path: str) -> Any:
        return function(path)

    named.class_names = list(names)
    return named
