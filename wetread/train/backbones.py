"""Keras' own applications as networks: their body, with pooling and one dense layer of ours.

What a body expects of its pixels is inside the network, in Keras' own layers, so that `model.keras` takes
the same scaled pixels as any other and exports as any other. Gray is repeated to three channels there.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from wetread.backend import import_keras
from wetread.errors import ConfigError

if TYPE_CHECKING:
    import keras

Shape = tuple[int, int, int]

# What each expects. 'signed': -1 to 1. 'torch': ImageNet's mean and deviation taken out. 'caffe': blue first,
# 0 to 255, ImageNet's mean taken out. Those with layers of their own that tf2onnx cannot convert
# (EfficientNet, ConvNeXt) are not here.
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
_OUTSIDE = ("EfficientNetV2B0", "MobileNetV3Small")  # their scaling is left out of them and done here
_TORCH_MEAN, _TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red, of 255
_DROPOUT = 0.3


def check_backbone(backbone: str | None, weights: str) -> None:
    """Refuse a backbone that is not in BACKBONES, and weights that are not there. Raises ConfigError."""
    if backbone is None and weights != "none":
        raise ConfigError(f"Expected a backbone with weights. Received weights {weights!r} alone.")
    if backbone is not None and backbone not in BACKBONES:
        raise ConfigError(f"Expected a backbone: {', '.join(BACKBONES)}. Received {backbone!r}.")
    if weights not in ("none", "imagenet") and not os.path.isfile(weights):
        raise ConfigError(
            f"Expected weights to be imagenet, none, or a file. Received {weights!r}, which is none. "
            "Check the name."
        )


def build_backbone(backbone: str, shape: Shape, outputs: int, *, weights: str) -> keras.Model:
    """Build a network on a body of BACKBONES: scaled pixels to logits, one output for two labels.

    `weights`: 'none' (drawn at random), 'imagenet' (Keras fetches them), or a file of the body's weights as
    Keras saves them without its top (`include_top=False`). Raises ConfigError.
    """
    keras = import_keras()
    image = keras.Input(shape)
    body = _build_body(keras, backbone, _prepare(keras, image, BACKBONES[backbone]), weights)
    features = keras.layers.Dropout(_DROPOUT)(body.output)
    return keras.Model(image, keras.layers.Dense(outputs)(features), name=backbone.lower())


def _prepare(keras: Any, image: Any, kind: str) -> Any:
    """Three channels of what a body expects, of scaled pixels, gray or RGB."""
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
    """The application on prepared pixels, without its top, its features averaged over the image."""
    options = {"include_preprocessing": False} if backbone in _OUTSIDE else {}
    with warnings.catch_warnings():
        # MobileNets were trained at a few sizes and warn of others: they work at any.
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
                    f"Expected Keras to fetch {backbone}'s ImageNet weights. Received: {text}. Fetch that "
                    "file where there is a network, and give it: --weights FILE."
                ) from error
            raise ConfigError(
                f"Expected images large enough for {backbone}, and weights of it without its top. "
                f"Received {tuple(prepared.shape[1:3])} and weights {weights!r}: {text}"
            ) from error
