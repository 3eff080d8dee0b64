"""Write small networks of Keras 2, in every form that people have, and what tf_keras itself answers.

    python -m tests.export.forms.maker FOLDER [--train | --layers] [NAME...]

FOLDER holds gray.npz and color.npz: `pixels` (uint8, N, H, W, C) and `targets`. Beside each NAME that is
written stands NAME.npy, tf_keras' answers to the pixels. Not trained, a network has the weights that it
begins with. NAMEs: only those. With --layers, single layers too (layer_cases.py).
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.export.forms.layer_cases import write_cases

SCALE = np.float32(1 / 255)
CUSTOM = '''
import tensorflow as tf
from keras import layers


class Doubled(layers.Layer):
    """Somebody's own layer."""

    def call(self, inputs):
        return tf.math.softplus(2.0 * inputs)


def squeeze_light(x):
    return x / (1.0 + x)
'''


def main(folder: Path, *, train: bool, names: list[str]) -> None:
    """Build, train where asked, and save."""
    import tf_keras as keras

    (folder / "own_layers.py").write_text(CUSTOM)
    data = {}
    for name in ("gray", "color"):
        with np.load(folder / f"{name}.npz") as file:
            data[name] = (file["pixels"], file["targets"])
    for kind, name, build, save in list_networks(keras, folder):
        if names and name not in names:
            continue
        keras.utils.set_random_seed(5)
        pixels, targets = data[kind]
        model = build(pixels.shape[1:])
        if train:
            fit(keras, model, pixels, targets)
        answers = model.predict(pixels * SCALE, verbose=0)
        save(model, folder / name)
        answers = answers["one"] if isinstance(answers, dict) else answers
        answers = answers[0] if isinstance(answers, list) else answers
        np.save(folder / f"{name}.npy", answers)


def fit(keras: Any, model: Any, pixels: np.ndarray, targets: np.ndarray) -> None:
    """Train a network of one, two or more outputs, that end in whatever they end in."""
    single = model.outputs[0].shape[-1] == 1
    logits = "logits" in model.name
    kind = keras.losses.BinaryCrossentropy if single else keras.losses.SparseCategoricalCrossentropy
    loss: Any = kind(from_logits=logits)
    wanted: Any = targets
    if len(model.outputs) > 1:
        loss, wanted = [loss] * len(model.outputs), [targets] * len(model.outputs)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(
        pixels * SCALE,
        wanted,
        batch_size=32,
        epochs=40 if "block" in [layer.name for layer in model.layers] else 12,
        verbose=0,
    )


def list_networks(
    keras: Any, folder: Path
) -> Iterator[tuple[str, str, Callable[..., Any], Callable[..., Any]]]:
    """Gray or color, the file's name, how it is built and how it is saved."""
    layers = keras.layers
    plain, rich, nested = _plain(keras), _rich(keras), _nested(keras)
    yield "gray", "plain.h5", plain, _save
    yield "gray", "plain.hdf5", plain, _save
    yield "gray", "named-otherwise.keras", plain, _save_h5
    yield "color", "no-extension", rich, _save_h5
    yield "color", "rich.h5", rich, _save
    yield "color", "rich.keras", rich, _save
    yield "color", "zip-named.h5", nested, _save_keras
    yield "gray", "nested.h5", nested, _save
    yield "gray", "nested.keras", nested, _save
    yield "gray", "older.keras", nested, _save_older
    yield "color", "rich-saved", rich, lambda model, path: model.save(path, save_format="tf")
    yield "gray", "nested-saved", nested, lambda model, path: model.save(path, save_format="tf")
    yield "gray", "legacy.json", plain, lambda m, path: _save_json(m, path, path.with_suffix(".weights2.h5"))
    yield "color", "checkpoint.json", rich, lambda m, path: _save_json(m, path, path.with_name("ckpt"))
    yield "color", "new.json", nested, lambda m, path: _save_json(m, path, path.with_suffix(".weights.h5"))
    yield "color", "teachable", _teachable(keras), _save_teachable
    yield "gray", "two-outputs.h5", _two_outputs(keras), _save
    yield "gray", "list-of-one.h5", _list_of_one(keras), _save
    yield "color", "logits.h5", _logits(keras), _save
    yield "gray", "lambda.h5", _lambda(keras), _save
    sys.path.insert(0, str(folder))
    sys.modules["keras"] = keras
    sys.modules["keras.layers"] = layers
    yield "color", "custom.h5", _custom(keras), _save
    yield "color", "custom-saved", _custom(keras), lambda model, path: model.save(path, save_format="tf")


def _plain(keras: Any) -> Callable[..., Any]:
    layers = keras.layers
    return lambda shape: keras.Sequential(
        [
            layers.Conv2D(8, 3, activation="relu", input_shape=shape),
            layers.MaxPooling2D(),
            layers.Dropout(0.2),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def _rich(keras: Any) -> Callable[..., Any]:
    """Layers whose options or meaning changed with Keras 3, and calls of TensorFlow's functions."""
    import tensorflow as tf

    layers = keras.layers

    def build(shape: Any) -> Any:
        image = keras.Input(shape)
        x = tf.cast(image, tf.float32) * 2.0 - 1.0
        x = x[:, :, :, ::-1]
        x = layers.Conv2D(8, 3, strides=2)(x)
        x = layers.BatchNormalization()(x)
        x = layers.LeakyReLU(alpha=0.2)(x)
        x = layers.DepthwiseConv2D(3)(x)
        x = layers.Conv2DTranspose(6, 3)(x)
        x = layers.ThresholdedReLU(0.05)(x)
        gate = layers.Conv2D(6, 1, activation="hard_sigmoid")(x)
        x = tf.concat([x * gate, tf.nn.relu6(x)], axis=-1)
        x = layers.Flatten()(layers.MaxPooling2D(2)(x))
        return keras.Model(image, layers.Dense(2, activation="softmax")(x))

    return build


def _nested(keras: Any) -> Callable[..., Any]:
    """A network inside, called twice, behind augmentation that keeps the labels, left and right."""
    layers = keras.layers

    def build(shape: Any) -> Any:
        inner = keras.Input((None, None, 6))
        part = layers.ReLU()(layers.BatchNormalization()(layers.SeparableConv2D(6, 3, padding="same")(inner)))
        block = keras.Model(inner, part, name="block")
        image = keras.Input(shape)
        augment = keras.Sequential(
            [layers.RandomFlip("vertical"), layers.RandomContrast(0.1)], name="augment"
        )
        x = layers.Conv2D(6, 3, activation="swish")(augment(image))
        x = layers.MaxPooling2D()(block(x) + block(layers.Activation("tanh")(x)))
        return keras.Model(image, layers.Dense(2, activation="softmax")(layers.Flatten()(x)))

    return build


def _teachable(keras: Any) -> Callable[..., Any]:
    """Teachable Machine's export: a Sequential of two Sequentials, of a network and its head."""
    layers = keras.layers

    def build(shape: Any) -> Any:
        image = keras.Input(shape)
        x = layers.ZeroPadding2D(((0, 1), (0, 1)))(image)
        x = layers.Conv2D(8, 3, strides=2, use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.Conv2D(16, 5, strides=3, activation="relu")(x)
        backbone = keras.Model(image, x, name="model1")
        features = keras.Sequential([backbone, layers.Flatten(name="pool")])
        head = [layers.Dense(20, activation="relu"), layers.Dense(2, activation="softmax", use_bias=False)]
        model = keras.Sequential([features, keras.Sequential(head)])
        model.build((None, *shape))
        return model

    return build


def _two_outputs(keras: Any) -> Callable[..., Any]:
    layers = keras.layers

    def build(shape: Any) -> Any:
        image = keras.Input(shape)
        x = layers.Flatten()(layers.Conv2D(8, 5, strides=3, activation="relu")(image))
        outputs = [layers.Dense(2, activation="softmax", name=name)(x) for name in ("one", "other")]
        return keras.Model(image, outputs)

    return build


def _list_of_one(keras: Any) -> Callable[..., Any]:
    layers = keras.layers

    def build(shape: Any) -> Any:
        image = keras.Input(shape)
        x = layers.Flatten()(layers.Conv2D(8, 5, strides=3, activation="elu")(image))
        return keras.Model([image], [layers.Dense(1, activation="sigmoid")(x)])

    return build


def _logits(keras: Any) -> Callable[..., Any]:
    layers = keras.layers

    def build(shape: Any) -> Any:
        image = keras.Input(shape)
        x = layers.Conv2D(8, 5, strides=3, activation=layers.LeakyReLU(0.1))(image)
        return keras.Model(image, layers.Dense(2)(layers.Flatten()(x)), name="logits")

    return build


def _lambda(keras: Any) -> Callable[..., Any]:
    layers = keras.layers

    def build(shape: Any) -> Any:
        image = keras.Input(shape)
        x = layers.Conv2D(8, 5, strides=3, activation="relu")(image)
        x = layers.Lambda(lambda y: y / (1.0 + y), name="squeeze_light")(x)
        return keras.Model(image, layers.Dense(2, activation="softmax")(layers.Flatten()(x)))

    return build


def _custom(keras: Any) -> Callable[..., Any]:
    layers = keras.layers

    def build(shape: Any) -> Any:
        from own_layers import Doubled

        image = keras.Input(shape)
        x = Doubled(name="doubled")(layers.Conv2D(8, 5, strides=3)(image))
        return keras.Model(image, layers.Dense(2, activation="softmax")(layers.Flatten()(x)))

    return build


def _save(model: Any, path: Path) -> None:
    model.save(path)


def _save_h5(model: Any, path: Path) -> None:
    model.save(path.with_name("passing.h5"))
    path.with_name("passing.h5").rename(path)


def _save_keras(model: Any, path: Path) -> None:
    model.save(path.with_name("passing.keras"))
    path.with_name("passing.keras").rename(path)


def _save_older(model: Any, path: Path) -> None:
    """As Keras 2.12 and 2.13 laid out weights: layers under another name."""
    import h5py

    passing = path.with_name("passing.keras")
    model.save(passing)
    with zipfile.ZipFile(passing) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    weights = path.with_name("passing.h5")
    weights.write_bytes(content["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        groups: list[str] = []
        file.visit(lambda name: groups.append(name) if name.rpartition("/")[2] == "layers" else None)
        for name in sorted(groups, key=len, reverse=True):
            file.move(name, f"{name.removesuffix('layers')}_layer_checkpoint_dependencies")
    content["model.weights.h5"] = weights.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    passing.unlink()
    weights.unlink()


def _save_json(model: Any, path: Path, weights: Path) -> None:
    path.write_text(model.to_json())
    model.save_weights(weights)


def _save_teachable(model: Any, path: Path) -> None:
    path.mkdir()
    model.save(path / "keras_model.h5")
    (path / "labels.txt").write_text("0 left\n1 right\n")


if __name__ == "__main__":
    asked = [argument for argument in sys.argv[2:] if not argument.startswith("-")]
    main(Path(sys.argv[1]), train="--train" in sys.argv, names=asked)
    if "--layers" in sys.argv:
        write_cases(sys.modules["tf_keras"], Path(sys.argv[1]))
