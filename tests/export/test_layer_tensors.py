"""Which tensor is which layer's output."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.export.networks import KERAS_WARNING, build_network, stir
from wetread.export.description import draw_probes
from wetread.export.graph import find_outputs
from wetread.export.keras_to_onnx import build_graph
from wetread.export.layer_tensors import align, is_same, record_layers, run_tensors
from wetread.export.network import scale_pixels, wrap_network
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.spec import ModelSpec

pytestmark = pytest.mark.filterwarnings(KERAS_WARNING)
SPEC = ModelSpec(labels=("a", "b", "c"), pixels=PixelRecipe(height=16, width=16, color="rgb"))


@settings(max_examples=60, deadline=None)
@given(sides=st.tuples(*[st.integers(1, 3)] * 4), last=st.booleans())
def test_both_layouts_are_found(sides, last):
    values = np.random.default_rng(0).normal(size=sides).astype(np.float32)
    found = values if last else values.transpose(0, 3, 1, 2)
    assert (align(values, found) == values).all()
    assert is_same(values, found)
    assert not is_same(values + np.float32(0.1 * np.abs(values).max() + 0.1), found)


def test_other_shapes_do_not_align():
    values = np.zeros((2, 6), np.float32)
    assert align(values, np.zeros((2, 6, 1, 1), np.float32)).shape == (2, 6)
    assert align(values, np.zeros((3, 4), np.float32)) is None
    assert not is_same(values, np.zeros((2, 6), np.float64))


def test_layers_inside_layers_are_named_and_recorded_in_order():
    import keras
    from keras import layers

    block = keras.Sequential(
        [
            layers.Conv2D(16, 3, name="inner"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="clip"),
        ],
        name="block",
    )
    model = stir(build_network(lambda x: layers.Conv2D(4, 3, name="last")(block(x))))
    wrapped = wrap_network(model, (16, 16, 3))
    images = draw_probes(SPEC)[:2]
    recorded = record_layers(wrapped, scale_pixels(images, SPEC))
    kinds = [layer.kind for layer in recorded]
    assert kinds == ["Conv2D", "BatchNormalization", "ReLU", "Conv2D", "GlobalAveragePooling2D", "Dense"]
    graph = build_graph(wrapped, SPEC)
    names = [layer.name for layer in recorded]
    assert names[:3] == ["inner", "norm", "clip"]
    present = find_outputs(graph)
    assert "inner" not in present  # merged with its BatchNormalization
    shared = [layer for layer in recorded if layer.name in present]
    assert [layer.name for layer in shared][:3] == ["norm", "clip", "last"]
    values = run_tensors(graph, [layer.name for layer in shared], images)
    assert all(is_same(layer.values, values[layer.name]) for layer in shared)
    assert not any("call" in vars(layer) for layer in model._flatten_layers())


def test_a_layer_that_runs_twice_has_two_names():
    from keras import layers

    twice = layers.Conv2D(3, 3, padding="same", name="twice")
    wrapped = wrap_network(build_network(lambda x: twice(twice(x))), (16, 16, 3))
    images = draw_probes(SPEC)[:2]
    recorded = record_layers(wrapped, scale_pixels(images, SPEC))
    assert [layer.name for layer in recorded][:2] == ["twice", "twice:2"]
    values = run_tensors(build_graph(wrapped, SPEC), ["twice", "twice:2"], images)
    assert all(is_same(layer.values, values[layer.name]) for layer in recorded[:2])


def test_names_are_unique_and_keep_what_wetread_reads(float32_model):
    graph = onnx.load(float32_model).graph
    names = [node.name for node in graph.node]
    outputs = [output for node in graph.node for output in node.output]
    tensors = [tensor.name for tensor in graph.initializer]
    for listed in (names, outputs, tensors):
        assert len(listed) == len(set(listed))
    assert {"pixels", "logits", "probabilities"} <= set(outputs)
    assert not set(tensors) & set(outputs)


def test_a_layer_called_like_a_tensor_of_ours():
    from keras import layers

    model = build_network(lambda x: layers.Conv2D(4, 3, name="logits")(layers.Conv2D(4, 3, name="pixels")(x)))
    graph = build_graph(wrap_network(model, (16, 16, 3)), SPEC)
    onnx.checker.check_model(graph, full_check=True)
    assert [output.name for output in graph.graph.output] == ["probabilities"]
