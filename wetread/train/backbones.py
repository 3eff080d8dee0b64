"""Networks from keras.applications: the application without its top, pooling, and one dense layer.

Each application's preprocessing is part of the network, as Keras layers. So `model.keras` takes the same
scaled pixels as any other network and exports like any other. Gray is repeated to three channels there.
Weights that someone else trained are loaded by `wetread.train.pretrained`.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from wetread.errors import ConfigError
from wetread.keras_backend import import_keras

if TYPE_CHECKING:
    import keras

Shape = tuple[int, int, int]

_TORCH_MEAN, _TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red, of 255
_DROPOUT = 0.3


class Backbone(NamedTuple):
    """An application of Keras.

    `scaling`: how its pixels are prepared. 'signed': -1 to 1. 'torch': ImageNet's mean subtracted, divided
    by its deviation. 'caffe': BGR, 0 to 255, ImageNet's mean subtracted. `published`: the name of the file
    with its ImageNet weights without its top; {rows} stands for the size, of `sizes`, else 224. `smallest`:
    the smallest image that Keras takes, in pixels. `alpha`: the width, where an application has several.
    """

    application: str
    scaling: str
    published: str
    smallest: int = 32
    sizes: tuple[int, ...] = ()
    alpha: float | None = None

    def name_published(self, size: int) -> str:
        """Name the file that Keras publishes for images of a size in pixels."""
        return self.published.format(rows=size if size in self.sizes else 224)


_KERNELS = "{}_weights_tf_dim_ordering_tf_kernels_notop.h5"
_V3 = "weights_mobilenet_v3_{}_224_1.0_float_no_top_v2.h5"
_MOBILE_SIZES = (128, 160, 192, 224)


def _list_mobilenets() -> dict[str, Backbone]:
    """MobileNet and MobileNetV2 in the widths for which Keras publishes weights: 'MobileNetV2-0.35'."""
    found = {}
    for alpha, text in ((1.0, "1_0"), (0.75, "7_5"), (0.5, "5_0"), (0.25, "2_5")):
        name = "MobileNet" if alpha == 1 else f"MobileNet-{alpha}"
        file = f"mobilenet_{text}_{{rows}}_tf_no_top.h5"
        found[name] = Backbone("MobileNet", "signed", file, sizes=_MOBILE_SIZES, alpha=alpha)
    for alpha in (1.0, 0.35, 0.5, 0.75, 1.3, 1.4):
        name = "MobileNetV2" if alpha == 1 else f"MobileNetV2-{alpha}"
        file = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{{rows}}_no_top.h5"
        found[name] = Backbone("MobileNetV2", "signed", file, sizes=(96, *_MOBILE_SIZES), alpha=alpha)
    return found


BACKBONES = {
    "ConvNeXtTiny": Backbone("ConvNeXtTiny", "torch", "convnext_tiny_notop.h5"),
    "DenseNet121": Backbone("DenseNet121", "torch", _KERNELS.format("densenet121")),
    "EfficientNetB0": Backbone("EfficientNetB0", "torch", "efficientnetb0_notop.h5"),
    "EfficientNetV2B0": Backbone("EfficientNetV2B0", "torch", "efficientnetv2-b0_notop.h5"),
    "InceptionV3": Backbone("InceptionV3", "signed", _KERNELS.format("inception_v3"), smallest=75),
    **_list_mobilenets(),
    "MobileNetV3Large": Backbone("MobileNetV3Large", "signed", _V3.format("large")),
    "MobileNetV3Small": Backbone("MobileNetV3Small", "signed", _V3.format("small")),
    "ResNet50": Backbone("ResNet50", "caffe", _KERNELS.format("resnet50")),
    "ResNet50V2": Backbone("ResNet50V2", "signed", _KERNELS.format("resnet50v2")),
    "VGG16": Backbone("VGG16", "caffe", _KERNELS.format("vgg16")),
    "VGG19": Backbone("VGG19", "caffe", _KERNELS.format("vgg19")),
    "Xception": Backbone("Xception", "signed", _KERNELS.format("xception"), smallest=71),
}
# Built without their own scaling, which is done here. EfficientNetB0 has no option for that.
_OUTSIDE = ("ConvNeXtTiny", "EfficientNetV2B0", "MobileNetV3Large", "MobileNetV3Small")
SCALED_INSIDE = {"EfficientNetB0": "stem_conv_pad"}


def check_backbone(backbone: str | None, *, size: int | None = None) -> None:
    """Refuse a backbone that is not in BACKBONES, and images too small for it. Raises ConfigError."""
    if backbone is None:
        return
    if backbone not in BACKBONES:
        raise ConfigError(f"There is no backbone {backbone!r}. Choose {', '.join(BACKBONES)}.")
    smallest = BACKBONES[backbone].smallest
    if size is not None and size < smallest:
        raise ConfigError(
            f"{backbone} does not take images of {size} x {size}: they are too small. Give --size "
            f"{smallest} or more; it was made for {224 if smallest == 32 else 299}."
        )


def build_backbone(backbone: str, shape: Shape, outputs: int) -> keras.Model:
    """Build a network on an application of BACKBONES: scaled pixels to logits, one output for two labels.

    Its weights are random. Raises ConfigError.
    """
    keras = import_keras()
    check_backbone(backbone, size=min(shape[:2]))
    image = keras.Input(shape)
    prepared = _prepare(keras, image, BACKBONES[backbone].scaling)
    features = keras.layers.Dropout(_DROPOUT)(_apply_body(keras, backbone, prepared))
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
    scale, offset = standardize(_TORCH_MEAN, _TORCH_DEVIATION)
    return layers.Rescaling(scale, offset=offset)(image)


def standardize(means: Any, deviations: Any) -> tuple[list[float], list[float]]:
    """Return scale and offset that subtract means and divide by deviations, of pixels from 0 to 1."""
    pairs = [(float(mean), float(deviation)) for mean, deviation in zip(means, deviations, strict=True)]
    return [1 / deviation for _, deviation in pairs], [-mean / deviation for mean, deviation in pairs]


def _apply_body(keras: Any, backbone: str, prepared: Any) -> Any:
    """Apply the application without its top to preprocessed pixels; return its features, (N, F)."""
    if backbone not in SCALED_INSIDE:
        return build_application(backbone, input_tensor=prepared, preprocess=False).output
    body = build_application(backbone, input_shape=tuple(prepared.shape[1:]))
    first = body.get_layer(SCALED_INSIDE[backbone])
    return keras.Model(first.input, body.output, name=f"{backbone.lower()}_body")(prepared)


def build_application(
    backbone: str, *, top: bool = False, preprocess: bool = True, **place: Any
) -> keras.Model:
    """Build an application as Keras does, with random weights, averaging its features unless with its `top`.

    `place`: `input_tensor` or `input_shape`, and `classes` of the top. Raises ConfigError.
    """
    keras = import_keras()
    chosen = BACKBONES[backbone]
    options = dict(place) if top else {"include_top": False, "pooling": "avg", **place}
    if chosen.application in _OUTSIDE and not preprocess:
        options["include_preprocessing"] = False
    if chosen.alpha is not None:
        options["alpha"] = chosen.alpha
    with warnings.catch_warnings():
        # MobileNets were trained at a few sizes and warn about others, but work at any size.
        warnings.filterwarnings("ignore", "`input_shape` is undefined or non-square", UserWarning)
        try:
            return getattr(keras.applications, chosen.application)(weights=None, **options)
        except ValueError as error:
            text = " ".join(str(error).split())[:300]
            raise ConfigError(f"{backbone} cannot be built: {text}") from error
