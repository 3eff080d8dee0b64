"""The largest number that a graph in half precision would have to hold."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.models import build_model, toy_spec
from wetread.export.float16 import LARGEST, find_largest, halve_graph
from wetread.runtime.model.answers import are_probabilities


def change(values: dict[str, np.ndarray]) -> onnx.ModelProto:
    model = onnx.load_from_string(build_model(toy_spec()))
    for tensor in model.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name].astype(np.float32), tensor.name))
    return model


def test_it_is_that_of_the_image_where_it_is_largest():
    """255 levels as they are, before they are scaled; with large weights what the layer computes of them."""
    dark, bright = np.zeros((9, 64, 64, 1), np.uint8), np.full((1, 64, 64, 1), 255, np.uint8)
    images = np.concatenate([dark, bright])
    assert find_largest(change({}), images) == ("Cast", 255.0)
    weights = np.full((64, 2), 100.0)
    name, size = find_largest(change({"weights": weights, "bias": np.zeros(2)}), images)
    assert (name, size) == ("Gemm", pytest.approx(6400.0))
    assert find_largest(change({"weights": weights, "bias": np.zeros(2)}), dark)[1] == pytest.approx(100.0)


def test_a_weight_counts_and_what_is_no_number_is_infinite():
    images = np.full((1, 64, 64, 1), 255, np.uint8)
    weights = np.zeros((64, 2))
    weights[0] = -1e5, 1e5
    assert find_largest(change({"weights": weights}), images[:0]) == ("weights", 1e5)
    assert find_largest(change({"weights": np.full((64, 2), 1e37)}), images) == ("Gemm", np.inf)


@pytest.mark.parametrize(("weight", "fits"), [(500.0, True), (1000.0, True), (1100.0, False), (1e5, False)])
def test_onnx_own_reference_overflows_where_half_precision_ends(weight, fits):
    """It computes a halved graph in half precision, as a GPU does and onnxruntime on a CPU does not."""
    images = np.full((2, 64, 64, 1), 255, np.uint8)
    model = change({"weights": np.full((64, 2), weight), "bias": np.zeros(2)})
    with np.errstate(over="ignore", invalid="ignore"):
        (found,) = ReferenceEvaluator(halve_graph(model)).run(["probabilities"], {"image": images})
    assert bool(are_probabilities(found).all()) is fits is (find_largest(model, images)[1] < LARGEST)
