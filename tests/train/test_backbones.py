from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from tests.train.drawn import draw_folder
from tests.train.test_fit import configure
from wetread.errors import ConfigError
from wetread.keras_backend import import_keras
from wetread.train import backbones
from wetread.train.backbones import BACKBONES, build_backbone, check_backbone
from wetread.train.fit import train

MODULES = {
    "DenseNet121": "densenet",
    "InceptionV3": "inception_v3",
    "MobileNet": "mobilenet",
    "MobileNetV2": "mobilenet_v2",
    "ResNet50": "resnet",
    "ResNet50V2": "resnet_v2",
    "VGG16": "vgg16",
    "VGG19": "vgg19",
    "Xception": "xception",
}


def prepare(kind: str, images: np.ndarray) -> np.ndarray:
    keras = import_keras()
    image = keras.Input(images.shape[1:])
    model = keras.Model(image, backbones._prepare(keras, image, kind))
    return np.asarray(model.predict_on_batch(images))


@pytest.mark.parametrize("name", MODULES)
def test_pixels_are_prepared_as_keras_does(name: str) -> None:
    keras = import_keras()
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    module = importlib.import_module(f"keras.applications.{MODULES[name]}")
    wanted = np.asarray(module.preprocess_input(images * np.float32(255)))
    assert prepare(BACKBONES[name], images) == pytest.approx(wanted, abs=2e-4)
    gray = images[..., :1]
    wanted = np.asarray(module.preprocess_input(np.repeat(gray, 3, axis=3) * np.float32(255)))
    assert prepare(BACKBONES[name], gray) == pytest.approx(wanted, abs=2e-4)
    assert keras.applications is not None


@pytest.mark.parametrize(
    "name", [pytest.param("EfficientNetV2B0", marks=pytest.mark.long), "MobileNetV3Small"]
)
def test_those_with_scaling_inside_get_the_same_from_outside(name: str) -> None:
    """The body with Keras' own preprocessing, on pixels of 0 to 255, answers as ours on scaled ones."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    whole = getattr(keras.applications, name)(
        include_top=False, pooling="avg", weights=None, input_shape=(64, 64, 3)
    )
    image = keras.Input((64, 64, 3))
    body = backbones._build_body(keras, name, backbones._prepare(keras, image, BACKBONES[name]), "none")
    weights = [w for layer in whole.layers if type(layer).__name__ != "Normalization" for w in layer.weights]
    body.set_weights([np.asarray(weight) for weight in weights])
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    wanted = np.asarray(whole.predict_on_batch(images * np.float32(255)))
    assert np.asarray(body.predict_on_batch(images)) == pytest.approx(wanted, rel=1e-3, abs=1e-5)


# Keras 3.15 asks TensorFlow's variables for an array in a way that NumPy 2 is leaving.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_weights_come_from_a_file(tmp_path: Path) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(1)
    bare = keras.applications.MobileNetV2(
        include_top=False, pooling="avg", weights=None, input_shape=(64, 64, 3)
    )
    bare.save_weights(tmp_path / "body.weights.h5")
    keras.utils.set_random_seed(2)
    found = build_backbone("MobileNetV2", (64, 64, 1), 1, weights=str(tmp_path / "body.weights.h5"))
    ours = found.get_weights()[:-2]  # but for the dense layer's
    assert len(ours) == len(bare.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(ours, bare.get_weights(), strict=True))
    with pytest.raises(ConfigError, match="weights not its own without its top"):
        build_backbone("VGG16", (64, 64, 1), 1, weights=str(tmp_path / "body.weights.h5"))


def test_what_cannot_be_built_is_refused_by_name(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(ConfigError, match="no backbone 'ResNet9'. Choose DenseNet121"):
        check_backbone("ResNet9", "none")
    with pytest.raises(ConfigError, match="weights must be imagenet, none, or a file"):
        check_backbone("MobileNetV2", str(tmp_path / "none.h5"))
    with pytest.raises(ConfigError, match="need a backbone"):
        check_backbone(None, "imagenet")
    with pytest.raises(ConfigError, match="VGG16 does not take images.*too small"):
        build_backbone("VGG16", (16, 16, 1), 1, weights="none")
    with pytest.raises(ConfigError, match="backbone .* and architecture .* are both networks"):
        configure(tmp_path, tmp_path / "run", backbone="MobileNetV2")

    def fail(*arguments, **options):
        raise Exception("URL fetch failure on https://somewhere/weights.h5")  # what Keras raises

    monkeypatch.setattr(import_keras().applications, "MobileNetV2", fail)
    with pytest.raises(ConfigError, match=r"ImageNet weights.*https://somewhere.*--weights FILE"):
        build_backbone("MobileNetV2", (64, 64, 1), 1, weights="imagenet")


@pytest.mark.long
@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_a_backbone_is_trained_and_exported_with_parity(color: str, tmp_path: Path) -> None:
    from wetread.export import assert_parity
    from wetread.export.convert import export_run

    data = draw_folder(tmp_path / "data", counts={"bar": 16, "disc": 16}, color=color == "rgb")
    config = configure(
        data, tmp_path / "run", architecture="edge", backbone="MobileNetV2", size=64, epochs=2, color=color
    )
    result = train(config)
    assert result.metrics["architecture"] == "MobileNetV2"
    assert result.metrics["parameters"] > 2_000_000
    model = export_run(result.run, output=tmp_path / "model.onnx").path
    assert_parity(result.run, models=[model], images=data)
