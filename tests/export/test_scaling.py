"""Which networks scale pixels from 0 to 255 themselves, and which only look as if they did."""

from __future__ import annotations

import numpy as np
import pytest

from tests.export.networks import KERAS_WARNING, build_network
from wetread.errors import ConfigError
from wetread.export import NetworkDescription, export_keras
from wetread.export.network import load_network
from wetread.export.scaling import find_doubt
from wetread.runtime.scoring.classifier import Classifier

pytestmark = pytest.mark.filterwarnings(KERAS_WARNING)

IMAGENET = {"mean": [0.485, 0.456, 0.406], "variance": [0.229**2, 0.224**2, 0.225**2]}


def bodies():
    """Bodies of networks by name, and words of the doubt; None where there is none."""
    import keras
    from keras import layers as kl

    def convolve(x):
        return kl.Conv2D(4, 3, padding="same", name="conv")(x)

    def residual(x):
        first = convolve(x)
        return kl.Add()([first, kl.Rescaling(0.2)(kl.Conv2D(4, 3, padding="same")(first))])

    def one_way_of_two(x):
        return kl.Concatenate()([kl.Conv2D(4, 3)(kl.Rescaling(1 / 255)(x)), kl.Conv2D(4, 3, name="bare")(x)])

    def beside_pixels(x):
        return convolve(kl.Concatenate()([kl.Rescaling(1 / 255)(x), x]))

    def adapt(x, highest):
        layer = kl.Normalization(name="norm")
        layer.adapt(np.random.default_rng(0).uniform(0, highest, (8, 16, 16, 3)))
        return convolve(layer(x))

    def nest(x, *layers):
        return convolve(keras.Sequential(layers)(x))

    behind = "layer 'conv' (Conv2D) reads the pixels before any Rescaling or Normalization layer"
    return {
        "none": (convolve, "the network has no Rescaling or Normalization layer"),
        "rescaling": (lambda x: convolve(kl.Rescaling(1 / 127.5, offset=-1)(x)), None),
        "deviation-alone": (
            lambda x: convolve(kl.Normalization(mean=0.0, variance=255.0**2)(x)),
            None,
        ),
        "rescaling-by-channel": (lambda x: convolve(kl.Rescaling([0.01, 0.02, 0.03])(x)), None),
        "mean-off": (lambda x: convolve(kl.Rescaling(1.0, offset=[-123.0, -116.0, -104.0])(x)), None),
        "rescaling-of-0-to-1": (
            lambda x: convolve(kl.Rescaling(2.0, offset=-1.0, name="twice")(x)),
            "layer 'twice' multiplies by 2, as if pixels were from 0 to 1",
        ),
        "residual": (residual, behind),
        "batch-norm-first": (
            lambda x: convolve(kl.Rescaling(1 / 255)(kl.BatchNormalization(name="bn")(x))),
            "layer 'bn' (BatchNormalization) reads the pixels before",
        ),
        "one-way-of-two": (one_way_of_two, "layer 'bare' (Conv2D) reads the pixels before"),
        "beside-pixels": (beside_pixels, behind),
        "normalization-of-0-to-1": (
            lambda x: convolve(kl.Normalization(name="norm", **IMAGENET)(x)),
            "layer 'norm' (Normalization) takes a mean of 0.485 off, as if pixels were from 0 to 1",
        ),
        "normalization-after-rescaling": (
            lambda x: convolve(kl.Normalization(**IMAGENET)(kl.Rescaling(1 / 255)(x))),
            None,
        ),
        "normalization": (
            lambda x: convolve(kl.Normalization(mean=[123.7, 116.3, 103.5], variance=[3400.0] * 3)(x)),
            None,
        ),
        "inverted": (
            lambda x: convolve(kl.Normalization(mean=[123.7] * 3, variance=[9.0] * 3, invert=True)(x)),
            "takes no mean of pixels off",
        ),
        "adapted": (lambda x: adapt(x, 255), None),
        "adapted-to-0-to-1": (lambda x: adapt(x, 1), "as if pixels were from 0 to 1"),
        "after-augmentation": (
            lambda x: nest(x, kl.RandomFlip(), kl.RandomRotation(0.1), kl.Rescaling(1 / 255)),
            None,
        ),
        "behind-in-a-sequence": (
            lambda x: nest(x, kl.Conv2D(3, 3, name="first"), kl.Rescaling(0.2)),
            "layer 'first' (Conv2D) reads the pixels before",
        ),
        "in-a-pipeline": (
            lambda x: convolve(kl.Pipeline([kl.Resizing(12, 12), kl.Rescaling(1 / 255)])(x)),
            None,
        ),
        "after-an-operation": (lambda x: convolve(kl.Rescaling(1 / 255)(keras.ops.flip(x, axis=2))), None),
    }


@pytest.mark.parametrize("name", sorted(bodies()))
def test_what_the_pixels_meet_first(name, tmp_path):
    body, words = bodies()[name]
    model = build_network(body)
    model.save(tmp_path / "net.keras")
    for one in (model, load_network(tmp_path / "net.keras")):
        found = find_doubt(one)
        assert found is None if words is None else words in str(found)


@pytest.mark.parametrize("name", ["residual", "normalization-of-0-to-1"])
def test_no_file_is_written_with_a_scale_that_is_a_guess(name, tmp_path):
    body, words = bodies()[name]
    build_network(body).save(tmp_path / "net.keras")
    labels, output = ("a", "b", "c"), tmp_path / "net.onnx"
    with pytest.raises(ConfigError, match="The scale of the pixels.*Say it: --scale") as caught:
        export_keras(
            tmp_path / "net.keras", network_description=NetworkDescription(labels=labels), output=output
        )
    assert words in str(caught.value)
    assert not output.exists()
    said = NetworkDescription(labels=labels, scale=(1 / 255,))
    export_keras(tmp_path / "net.keras", network_description=said, output=output)
    assert Classifier(output, device="cpu").spec.scale == (1 / 255,)


APPLICATIONS = {
    "EfficientNetB0": True,
    "EfficientNetV2B0": True,
    "MobileNetV3Small": True,
    "ConvNeXtTiny": True,
    "MobileNetV2": False,
    "ResNet50V2": False,
}
SMALL = ("EfficientNetV2B0", "MobileNetV3Small", "MobileNetV2")


@pytest.mark.parametrize(
    "name", [n if n in SMALL else pytest.param(n, marks=pytest.mark.long) for n in APPLICATIONS]
)
def test_keras_applications_that_scale_themselves(name):
    import keras

    application = getattr(keras.applications, name)
    base = application(weights=None, include_top=False, input_shape=(96, 96, 3))
    image = keras.Input((96, 96, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(base(keras.layers.RandomFlip()(image)))
    model = keras.Model(image, keras.layers.Dense(2)(pooled))
    assert (find_doubt(model) is None) is APPLICATIONS[name]
    assert (find_doubt(base) is None) is APPLICATIONS[name]
