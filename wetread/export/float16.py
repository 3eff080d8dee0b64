"""Half precision, for GPUs: weights and activations in float16, the head in float32."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from wetread.export.graph import INPUT, LOGITS, add_outputs, copy_model, name_nodes, open_plain, sort_nodes

_HEAD = ("wide", "probabilities")
# Inputs that stay float32 whatever the data's type is, by operation.
_FLOAT_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}
LARGEST = float(np.finfo(np.float16).max)
_BATCH = 8


def halve_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a float32 graph that computes in float16 up to its logits."""
    copy = copy_model(model)
    kept = _float_names(copy)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            array = numpy_helper.to_array(tensor)
            half = np.clip(array, -LARGEST, LARGEST).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    for node in copy.graph.node:
        _halve_attributes(node)
    _widen_logits(copy)
    del copy.graph.value_info[:]
    sort_nodes(copy)
    name_nodes(copy)
    return copy


def find_largest(model: onnx.ModelProto, images: NDArray[np.uint8]) -> tuple[str, float]:
    """Find the largest number that a float32 graph, halved, has to hold: its layer or weight, and its size.

    `images`: uint8 (N, H, W, C). They are computed in float32: on a CPU onnxruntime computes a halved graph
    in float32 as well, and nothing overflows there. Infinite where a number is none.
    """
    kept = _float_names(model)
    found = {
        tensor.name: float(np.abs(numpy_helper.to_array(tensor)).max(initial=0))
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept
    }
    names = {
        node.output[0]: node.name or node.op_type
        for node in model.graph.node
        if node.op_type != "Constant" and node.output[0] not in _HEAD
    }
    for name, value in _run_all(model, list(names), images):
        size = float(np.abs(value).max(initial=0))
        found[names[name]] = max(found.get(names[name], 0.0), size if np.isfinite(size) else np.inf)
    return max(found.items(), key=lambda item: item[1])


def _run_all(
    model: onnx.ModelProto, names: list[str], images: NDArray[np.uint8]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the values of tensors that are float32, a few images at a time."""
    session = open_plain(add_outputs(model, names).SerializeToString())
    for start in range(0, len(images), _BATCH):
        for name, value in zip(
            names, session.run(names, {INPUT: images[start : start + _BATCH]}), strict=True
        ):
            if isinstance(value, np.ndarray) and value.dtype == np.float32:
                yield name, value


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
