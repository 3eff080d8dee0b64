"""Networks from keras.applications: the application without its top, pooling, and one dense layer.

Each application's preprocessing is part of the network, as Keras layers. So `model.keras` takes the same
scaled pixels as any other network and exports like any other. Gray is repeated to three channels there.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from wetread.errors import ConfigError
from wetread.keras_backend import import_keras

if TYPE_CHECKING:
    import keras

Shape = tuple[int, int, int]

# How each is preprocessed. 'signed': -1 to 1. 'torch': ImageNet's mean subtracted, divided by its deviation.
# 'caffe': BGR, 0 to 255, ImageNet's mean subtracted. Missing are those whose layers tf2onnx cannot convert
# (EfficientNet, ConvNeXt).
BACKBONES = {
    "DenseNet121": "torch",
    "EfficientNetV2B0": "torch",
    "InceptionV3": "signed",
    "MobileNet": "signed",
    "MobileNetV2": "signed",
    "MobileNetV3Small": "signed",
    "ResNet50": "caffe",
    "ResNet50V2": "signed",
    "VGG16": "caffe",
    "VGG19": "caffe",
    "Xception": "signed",
}
_OUTSIDE = ("EfficientNetV2B0", "MobileNetV3Small")  # built without their own scaling, which is done here
_TORCH_MEAN, _TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red, of 255
_DROPOUT = 0.3


def check_backbone(backbone: str | None, weights: str) -> None:
    """Refuse a backbone that is not in BACKBONES, and weights that are not there. Raises ConfigError."""
    if backbone is None and weights != "none":
        raise ConfigError(f"weights {weights!r} need a backbone: name one with --backbone.")
    if backbone is not None and backbone not in BACKBONES:
        raise ConfigError(f"There is no backbone {backbone!r}. Choose {', '.join(BACKBONES)}.")
    if weights not in ("none", "imagenet") and not os.path.isfile(weights):
        raise ConfigError(
            f"weights must be imagenet, none, or a file, and there is no file {weights!r}. Check the name."
        )


def build_backbone(backbone: str, shape: Shape, outputs: int, *, weights: str) -> keras.Model:
    """Build a network on an application of BACKBONES: scaled pixels to logits, one output for two labels.

    `weights`: 'none' (random), 'imagenet' (Keras downloads them), or a file of the application's weights as
    Keras saves them without its top (`include_top=False`). Raises ConfigError.
    """
    keras = import_keras()
    image = keras.Input(shape)
    body = _build_body(keras, backbone, _prepare(keras, image, BACKBONES[backbone]), weights)
    features = keras.layers.Dropout(_DROPOUT)(body.output)
    return keras.Model(image, keras.layers.Dense(outputs)(features), name=backbone.lower())


def _prepare(keras: Any, image: Any, kind: str) -> Any:
    """Turn scaled pixels, gray or RGB, into the three channels that an application expects."""
    layers = keras.layers
    if image.shape[-1] == 1:
        image = layers.Concatenate()([image] * 3)
    elif kind == "caffe":
        image = layers.Concatenate()([image[..., i : i + 1] for i in (2, 1, 0)])
    if kind == "signed":
        return layers.Rescaling(2.0, offset=-1.0)(image)
    if kind == "caffe":
        return layers.Rescaling([255.0] * 3, offset=[-mean for mean in _CAFFE_MEAN])(image)
    pairs = list(zip(_TORCH_MEAN, _TORCH_DEVIATION, strict=True))
    return layers.Rescaling([1 / d for _, d in pairs], offset=[-m / d for m, d in pairs])(image)


def _build_body(keras: Any, backbone: str, prepared: Any, weights: str) -> Any:
    """Apply the application without its top to preprocessed pixels, and average its features by image."""
    options = {"include_preprocessing": False} if backbone in _OUTSIDE else {}
    with warnings.catch_warnings():
        # MobileNets were trained at a few sizes and warn about others, but work at any size.
        warnings.filterwarnings("ignore", "`input_shape` is undefined or non-square", UserWarning)
        try:
            return getattr(keras.applications, backbone)(
                include_top=False,
                pooling="avg",
                input_tensor=prepared,
                weights=None if weights == "none" else weights,
                **options,
            )
        except Exception as error:  # Keras raises a bare Exception where the download fails
            text = " ".join(str(error).split())[:300]
            if weights == "imagenet":
                raise ConfigError(
                    f"Keras could not download {backbone}'s ImageNet weights: {text}. Download that file "
                    "where there is a network, and give it with --weights FILE."
                ) from error
            raise ConfigError(
                f"{backbone} does not take images of {tuple(prepared.shape[1:3])} with weights {weights!r}: "
                f"the images may be too small, or the weights not its own without its top. {text}"
            ) from error
