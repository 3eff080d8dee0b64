"""The contract's input: uint8 pixels, whoever scales them, the network itself or the graph around it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.export.networks import KERAS_WARNING, build_network
from wetread.export.description import draw_probes
from wetread.export.images import ExportImages, Images
from wetread.export.judging import Gate, Judge
from wetread.export.keras_to_onnx import build_graph, compare_with_keras
from wetread.export.network import predict_network, wrap_network
from wetread.export.quantize import Settings, activation_names, quantize_graph
from wetread.export.ranges import collect_histograms
from wetread.keras_backend import import_keras
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.golden_inputs import draw_image
from wetread.runtime.model.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings(KERAS_WARNING)


def heads():
    """What may stand between the pixels and the first weights, by name."""
    keras = import_keras()
    kl, prepare = keras.layers, keras.applications.imagenet_utils.preprocess_input

    def normalize(x):
        channels = x.shape[-1]
        return kl.Normalization(mean=[120.0] * channels, variance=[3300.0] * channels)(x)

    return {
        "rescaling": lambda x: kl.Rescaling(1 / 255)(x),
        "rescaling-offset": lambda x: kl.Rescaling(1 / 127.5, offset=-1)(x),
        "normalization": normalize,
        "arithmetic": lambda x: x / 127.5 - 1.0,
        "ops": lambda x: keras.ops.multiply(keras.ops.cast(x, "float32"), 1 / 255),
        "batch-norm": lambda x: kl.BatchNormalization()(kl.Rescaling(1 / 255)(x)),
        "resizing": lambda x: kl.Resizing(12, 12)(kl.Rescaling(1 / 255)(x)),
        "preprocess-tf": lambda x: prepare(x, mode="tf"),
        "preprocess-torch": lambda x: prepare(x, mode="torch"),  # a mean for each of three channels
        "preprocess-caffe": lambda x: prepare(x, mode="caffe"),
        "nothing": lambda x: x,
    }


CASES = [(name, channels) for name in sorted(heads()) for channels in (1, 3)]
CASES = [case for case in CASES if case not in (("preprocess-torch", 1), ("preprocess-caffe", 1))]


def build(name: str, channels: int, *, flat: bool = False):
    keras = import_keras()
    keras.utils.set_random_seed(5)

    def body(x):
        x = heads()[name](x)
        return keras.layers.Flatten()(x) if flat else keras.layers.Conv2D(8, 3, activation="relu")(x)

    model = build_network(body, shape=(16, 16, channels), units=2)
    last = model.layers[-1]
    last.set_weights([w * 0.01 if name == "nothing" or "caffe" in name else w for w in last.get_weights()])
    return model


def compare(model, channels: int, *, scale: tuple[float, ...] = (1.0,)) -> tuple[float, float]:
    """The largest difference of a probability from Keras: of the float32 form, and of an int8 one."""
    recipe = PixelRecipe(height=16, width=16, color="gray" if channels == 1 else "rgb")
    spec = ModelSpec(labels=("a", "b"), pixels=recipe, scale=scale, head="logits")
    wrapped = wrap_network(model, recipe.shape)
    probes = draw_probes(spec)
    graph = build_graph(wrapped, spec)
    difference = compare_with_keras(graph, spec, probes, predict_network(wrapped, probes, spec))
    pixels = np.stack([draw_image(seed, shape=recipe.shape) for seed in range(1, 17)])
    held = Images(tuple(f"{index}" for index in range(16)), pixels, np.full(16, -1, np.intp))
    images = ExportImages(held, held)
    judge = Judge(spec, images, predict_network(wrapped, pixels, spec), Gate(max_flips=1.0))
    histograms = collect_histograms(graph, activation_names(graph), pixels)
    found = judge.measure(quantize_graph(graph, histograms, Settings(method="minmax")), "int8")
    assert found.safe
    return difference, found.max_difference


@pytest.mark.parametrize(("name", "channels"), CASES)
def test_networks_that_scale_their_own_pixels_as_float32_and_int8(name, channels):
    float32, int8 = compare(build(name, channels), channels)
    assert float32 <= 1e-5
    assert int8 <= 0.05


@pytest.mark.parametrize("scale", [(1.0,), (1 / 255,), (1 / 255, 1 / 128, 1 / 64)])
def test_pixels_that_are_flattened_at_once(scale):
    """A scale for each channel needs the channels' axis, which Flatten takes away."""
    float32, int8 = compare(build("nothing", 3, flat=True), 3, scale=scale)
    assert float32 <= 1e-5
    assert int8 <= 0.05
