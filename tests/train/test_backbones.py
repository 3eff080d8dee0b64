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
from wetread.train.backbones import BACKBONES, build_application, build_backbone, check_backbone
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
    assert prepare(BACKBONES[name].scaling, images) == pytest.approx(wanted, abs=2e-4)
    gray = images[..., :1]
    wanted = np.asarray(module.preprocess_input(np.repeat(gray, 3, axis=3) * np.float32(255)))
    assert prepare(BACKBONES[name].scaling, gray) == pytest.approx(wanted, abs=2e-4)
    assert keras.applications is not None


@pytest.mark.parametrize(
    "name",
    [
        "MobileNetV3Small",
        pytest.param("MobileNetV3Large", marks=pytest.mark.long),
        pytest.param("EfficientNetB0", marks=pytest.mark.long),
        pytest.param("EfficientNetV2B0", marks=pytest.mark.long),
        pytest.param("ConvNeXtTiny", marks=pytest.mark.long),
    ],
)
def test_those_with_scaling_inside_get_the_same_from_outside(name: str) -> None:
    """Keras' own application, whose first layers scale pixels of 0 to 255, answers as ours on scaled ones."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    whole = build_application(name, input_shape=(64, 64, 3))
    for layer in whole.layers:
        if type(layer).__name__ == "Normalization" and layer.weights:  # EfficientNetB0's
            layer.set_weights([(0.485, 0.456, 0.406), np.square((0.229, 0.224, 0.225)), 0])
            layer.finalize_state()
    ours = build_backbone(name, (64, 64, 3), 1)
    weights = [w for layer in whole.layers if type(layer).__name__ != "Normalization" for w in layer.weights]
    body = keras.Model(ours.input, ours.layers[-1].input)
    body.set_weights([np.asarray(weight) for weight in weights])
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    wanted = np.asarray(whole(images * np.float32(255), training=False))
    assert np.asarray(body(images, training=False)) == pytest.approx(wanted, rel=1e-3, abs=1e-5)


def test_what_cannot_be_built_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no backbone 'ResNet9'. Choose ConvNeXtTiny, DenseNet121"):
        check_backbone("ResNet9")
    with pytest.raises(ConfigError, match="VGG16 does not take images of 16 x 16: they are too small. Give"):
        build_backbone("VGG16", (16, 16, 1), 1)
    with pytest.raises(ConfigError, match="Give --size 71 or more; it was made for 299"):
        check_backbone("Xception", size=64)
    check_backbone("Xception")
    with pytest.raises(ConfigError, match="backbone .* and architecture .* are both networks"):
        configure(tmp_path, tmp_path / "run", backbone="MobileNetV2")


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
