"""Our reader of ONNX files beside the onnx package."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from tests.models import build_model, toy_spec
from wetread.errors import ModelError
from wetread.runtime.model.onnx_graph import read_graph

names = st.text(min_size=1, max_size=12)
kinds = st.sampled_from([np.float32, np.int8, np.uint8, np.int32, np.int64, np.float16, np.float64])
arrays = kinds.flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=4, max_side=5)))


@settings(max_examples=80, deadline=None)
@given(
    tensors=st.dictionaries(names, arrays, max_size=4),
    attributes=st.dictionaries(names, st.integers(-(2**63), 2**63 - 1), max_size=3),
    inputs=st.lists(st.text(max_size=8), max_size=4),
    texts=st.lists(st.text(max_size=5), max_size=3),
)
def test_what_onnx_writes_is_read(tensors, attributes, inputs, texts):
    node = helper.make_node(
        "Some", inputs, ["out"], name="node", **{f"i{k}": v for k, v in attributes.items()}
    )
    node.attribute.append(helper.make_attribute("texts", ["x", *texts]))
    node.attribute.append(helper.make_attribute("real", 0.5))
    graph = helper.make_graph(
        [node, helper.make_node("Other", ["out"], ["end"])],
        "graph",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["N", 3])],
        [],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph)
    helper.set_model_props(model, {"key": "value" * 300})
    found = read_graph(model.SerializeToString())
    assert [(n.name, n.operation, n.outputs) for n in found.nodes] == [
        ("node", "Some", ("out",)),
        ("", "Other", ("end",)),
    ]
    assert found.nodes[0].inputs == tuple(inputs)
    assert found.nodes[0].integers == {f"i{k}": v for k, v in attributes.items()}
    assert set(found.tensors) == set(tensors)
    for name, array in tensors.items():
        tensor = found.tensors[name]
        assert tensor.shape == array.shape
        assert tensor.array is not None and tensor.array.dtype == array.dtype
        assert np.array_equal(tensor.array, array, equal_nan=array.dtype.kind == "f")


def test_packed_shapes_and_typed_data():
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [2], [1.0, 2.0])  # in float_data, not raw
    graph = helper.make_graph([], "graph", [], [], [tensor])
    found = read_graph(helper.make_model(graph).SerializeToString()).tensors["t"]
    assert (found.kind, found.shape, found.array) == ("<f4", (2,), None)


def test_a_real_model_is_read_whole():
    data = build_model(toy_spec())
    expected = onnx.load_from_string(data).graph
    found = read_graph(data)
    assert [(n.operation, n.inputs, n.outputs) for n in found.nodes] == [
        (n.op_type, tuple(n.input), tuple(n.output)) for n in expected.node
    ]
    for tensor in expected.initializer:
        assert np.array_equal(found.tensors[tensor.name].array, numpy_helper.to_array(tensor))


@settings(max_examples=80, deadline=None)
@given(data=st.binary(max_size=60))
def test_other_bytes_are_refused_and_nothing_else_happens(data):
    try:
        read_graph(data)
    except ModelError as error:
        assert "not an ONNX model" in str(error)


def test_a_cut_model_is_refused():
    data = build_model(toy_spec())
    with pytest.raises(ModelError):
        read_graph(data[: len(data) // 2])
