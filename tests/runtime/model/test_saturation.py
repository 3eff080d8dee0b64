"""The proof that no product saturates, on small graphs of every form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper, numpy_helper

from wetread.runtime.model.saturation import largest_pair, prove_layers


def prove(nodes, **arrays):
    graph = helper.make_graph(
        nodes, "graph", [], [], [numpy_helper.from_array(np.asarray(v), k) for k, v in arrays.items()]
    )
    return prove_layers(helper.make_model(graph).SerializeToString())


def weights(*rows):
    return np.array(rows, np.int8)


def dequantize(source: str, output: str, **attributes):
    return helper.make_node("DequantizeLinear", [source, "scale", "zero"], [output], **attributes)


@settings(max_examples=80, deadline=None)
@given(
    weight=hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=4, max_side=4)), axis=st.integers(0, 1)
)
def test_the_largest_pair_by_hand(weight, axis):
    channels = np.moveaxis(weight.astype(int), axis, 0)
    expected = max(sum(sorted(abs(v) for v in channel.ravel())[-2:]) for channel in channels)
    assert largest_pair(weight, axis=axis) == expected
    assert largest_pair(weight, axis=None) >= expected


def test_the_bound_is_the_right_one():
    """255 x 128 is the most that two products can add up to, and it fits 16 bits; 129 does not."""
    assert 255 * 128 <= np.iinfo(np.int16).max < 255 * 129


FORMS = [
    ("Conv", ["x", "w"], 0, {}),
    ("Gemm", ["x", "w"], 1, {}),
    ("Gemm", ["x", "w"], 0, {"transB": 1}),
    ("MatMul", ["x", "w"], 1, {}),
]


@pytest.mark.parametrize(("operation", "inputs", "axis", "attributes"), FORMS)
def test_dequantized_weights_by_output_channel(operation, inputs, axis, attributes):
    safe = np.moveaxis(weights([64, 64, 1], [127, 1, 0], [-128, 0, 0]), 0, axis)
    nodes = [dequantize("wq", "w"), helper.make_node(operation, inputs, ["y"], name="layer", **attributes)]
    (proof,) = prove(nodes, wq=safe)
    assert (proof.layer, proof.kind, proof.largest_pair, proof.holds) == ("layer", "int8", 128, True)
    unsafe = safe.copy()
    unsafe[0, 0] = 65
    (proof,) = prove(nodes, wq=unsafe)
    assert (proof.largest_pair, proof.holds) == (129, False)


@pytest.mark.parametrize("operation", ["QLinearConv", "QLinearMatMul", "QGemm"])
def test_quantized_operators(operation):
    weight = weights([100, 1], [20, 30]) if operation == "QLinearConv" else weights([100, 1], [20, 30]).T
    (proof,) = prove([helper.make_node(operation, ["x", "a", "b", "w", "c", "d"], ["y"])], w=weight)
    assert (proof.layer, proof.largest_pair, proof.holds) == ("y", 101, True)
    heavy = weight.copy()
    heavy[weight == 30] = 109
    (proof,) = prove([helper.make_node(operation, ["x", "a", "b", "w", "c", "d"], ["y"])], w=heavy)
    assert (proof.largest_pair, proof.holds) == (129, False)


def test_unsigned_weights_are_exact_and_float_ones_no_matter():
    nodes = [dequantize("wq", "w"), helper.make_node("Conv", ["x", "w"], ["y"], name="layer")]
    (proof,) = prove(nodes, wq=np.full((2, 2), 255, np.uint8))
    assert (proof.kind, proof.largest_pair, proof.holds) == ("uint8", None, True)
    assert prove([helper.make_node("Conv", ["x", "w"], ["y"])], w=np.ones((2, 2), np.float32)) == ()


def test_a_moved_weight_is_held_to_the_whole_tensor():
    nodes = [
        dequantize("wq", "moved"),
        helper.make_node("Transpose", ["moved"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="layer"),
    ]
    (proof,) = prove(nodes, wq=weights([100, 0], [0, 100]))
    assert (proof.largest_pair, proof.holds) == (200, False)


def sandwich(*between, scale):
    """A float layer between DequantizeLinear and QuantizeLinear, with operations after it."""
    nodes = [dequantize("xq", "x"), helper.make_node("Conv", ["x", "w"], ["t0"], name="layer")]
    for index, operation in enumerate(between):
        nodes.append(helper.make_node(operation, [f"t{index}"], [f"t{index + 1}"]))
    nodes.append(helper.make_node("QuantizeLinear", [f"t{len(between)}", "scale", "zero"], ["yq"]))
    return prove(nodes, w=np.ones((2, 2), np.float32), scale=scale, zero=np.uint8(0))


@pytest.mark.parametrize("between", [(), ("Relu",), ("Clip",), ("Relu", "MaxPool", "Transpose", "Reshape")])
def test_a_float_layer_that_onnxruntime_would_quantize_is_found(between):
    (proof,) = sandwich(*between, scale=np.float32(1))
    assert (proof.layer, proof.kind, proof.holds) == ("layer", "float32", False)


def test_a_float_layer_that_it_would_not_is_left_alone():
    assert sandwich(scale=np.ones(2, np.float32)) == ()
    assert sandwich("Sigmoid", scale=np.float32(1)) == ()
