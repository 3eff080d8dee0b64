"""Weights as Keras 2 writes them, in the form of Keras' published files, and what tf_keras answers with them.

    python -m tests.train.keras2_weights FOLDER SIZE NAME[:ALPHA]...

writes NAME_notop.h5, NAME_top.h5 (7 labels), NAME.npy (features of the images) and images.npy to FOLDER. No
weight stays as it was initialized: fresh batch norms would let an exchange of their statistics pass.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np

MODULES = {
    "ConvNeXtTiny": "convnext",
    "DenseNet121": "densenet",
    "EfficientNetB0": "efficientnet",
    "EfficientNetV2B0": "efficientnet_v2",
    "InceptionV3": "inception_v3",
    "MobileNet": "mobilenet",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3Large": "mobilenet_v3",
    "MobileNetV3Small": "mobilenet_v3",
    "ResNet50": "resnet",
    "ResNet50V2": "resnet_v2",
    "VGG16": "vgg16",
    "VGG19": "vgg19",
    "Xception": "xception",
}


def write_weights(folder: Path, *names: str, size: int) -> None:
    """Call this module in a process of its own: tf_keras and Keras do not share one in the tests."""
    command = [sys.executable, "-m", "tests.train.keras2_weights", str(folder), str(size), *names]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[2])


def main(folder: Path, size: int, names: list[str]) -> None:
    import tf_keras

    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (3, size, size, 3)).astype(np.uint8)
    np.save(folder / "images.npy", images)
    for text in names:
        name, _, alpha = text.partition(":")
        options = {"weights": None, **({"alpha": float(alpha)} if alpha else {})}
        build = getattr(tf_keras.applications, name)
        body = build(include_top=False, pooling="avg", input_shape=(size, size, 3), **options)
        body.set_weights([stir(weight, variable.name, chance) for variable, weight in list_weights(body)])
        body.save_weights(folder / f"{name}_notop.h5")
        if alpha or name.startswith("EfficientNet"):  # the others' tops are large
            top = build(include_top=True, classes=7, input_shape=(size, size, 3), **options)
            top.set_weights([*body.get_weights(), *top.get_weights()[len(body.get_weights()) :]])
            top.save_weights(folder / f"{name}_top.h5")
        prepare = import_module(f"tf_keras.applications.{MODULES[name]}").preprocess_input
        np.save(folder / f"{name}.npy", body(prepare(images.astype(np.float32)), training=False))


def list_weights(model):
    return zip(model.weights, model.get_weights(), strict=True)


def stir(weight: np.ndarray, name: str, chance: np.random.Generator) -> np.ndarray:
    """Another value of a weight, as if it were trained; of a Normalization, Keras' published one."""
    if name.startswith("normalization"):
        if "mean" in name:
            return np.array((0.485, 0.456, 0.406), weight.dtype)
        return np.array((0.229, 0.224, 0.225), weight.dtype) ** 2 if "variance" in name else weight
    if "variance" in name:
        return chance.uniform(0.5, 1.5, weight.shape).astype(weight.dtype)
    return (weight + chance.normal(0, 0.05, weight.shape) * (weight.ndim == 1)).astype(weight.dtype)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
