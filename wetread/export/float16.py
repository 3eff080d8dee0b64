"""Half precision, for GPUs: weights and activations in float16, the head in float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from wetread.export.graph import LOGITS, copy_model, name_nodes, sort_nodes

_HEAD = ("wide", "probabilities")
# Inputs that stay float32 whatever the data's type is, by operation.
_FLOAT_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}


def halve_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a float32 graph that computes in float16 up to its logits."""
    copy = copy_model(model)
    kept = _float_names(copy)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            array = numpy_helper.to_array(tensor)
            largest = np.finfo(np.float16).max
            half = np.clip(array, -largest, largest).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    for node in copy.graph.node:
        _halve_attributes(node)
    _widen_logits(copy)
    del copy.graph.value_info[:]
    sort_nodes(copy)
    name_nodes(copy)
    return copy


def _float_names(model: onnx.ModelProto) -> set[str]:
    """The initializers that stay in float32: the head's, and what an operation wants so."""
    names: set[str] = set()
    for node in model.graph.node:
        if node.output[0] in _HEAD:
            names.update(node.input)
        for index in _FLOAT_INPUTS.get(node.op_type, ()):
            names.update(node.input[index : index + 1])
    return names


def _halve_attributes(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
            half = numpy_helper.to_array(attribute.t).astype(np.float16)
            attribute.t.CopyFrom(numpy_helper.from_array(half, attribute.t.name))


def _widen_logits(model: onnx.ModelProto) -> None:
    """Cast the logits back to float32 for the head."""
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == LOGITS:
                node.output[index] = f"{LOGITS}/half"
    cast = helper.make_node("Cast", [f"{LOGITS}/half"], [LOGITS], to=TensorProto.FLOAT)
    model.graph.node.append(cast)
