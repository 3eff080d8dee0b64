"""Bring a graph that tf2onnx wrote to the contract of `wetread.runtime`.

Pixels go in as uint8 (scaling inside), probabilities come out (head and temperature inside), and what a
CPU would only copy is folded away. The functions change a ModelProto in place.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from wetread.errors import ExportError
from wetread.export.graph import (
    INPUT,
    LOGITS,
    OUTPUT,
    add_array,
    consumers,
    find_array,
    name_nodes,
    producer,
    prune,
    rename_tensor,
)
from wetread.runtime.model.spec import METADATA_KEY, ModelSpec, stamp_digest

_SHUFFLES = ("Reshape", "Transpose", "Identity")


def attach_pixels(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Let the graph take uint8 (N, H, W, C): cast, scale and offset stand inside.

    What only moves pixels (to channels first) is done on bytes, before the cast. A scale without offset
    goes into the weights of the first convolution, so that the pixels feed it as they are and an int8
    convolution reads them without any rounding. Where a network scales its own pixels, `pixels` is the
    cast: a node that only renames it would go with the first simplification, and its name with it.
    """
    graph = model.graph
    shuffles = _leading_shuffles(model, flatten=max(len(spec.scale), len(spec.offset)) == 1)
    last = shuffles[-1].output[0] if shuffles else graph.input[0].name
    folded = _fold_scale(model, last, spec)
    rename_tensor(model, last, "pixels")
    if shuffles:
        rename_tensor(model, graph.input[0].name, INPUT)
        shuffles[-1].output[0] = "shuffled"
    added = [helper.make_node("Cast", ["shuffled" if shuffles else INPUT], ["cast"], to=TensorProto.FLOAT)]
    channels_axis = 1 if any(n.op_type in ("Transpose", "Reshape") for n in shuffles) else -1
    if not folded:
        added += _affine_nodes(model, spec, channels_axis)
    added[-1].output[0] = "pixels"
    at = len(shuffles)
    _move_to_front(graph, shuffles)
    for node in reversed(added):
        graph.node.insert(at, node)
    graph.input[0].CopyFrom(
        helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", *spec.pixels.shape])
    )
    name_nodes(model)


def _leading_shuffles(model: onnx.ModelProto, *, flatten: bool) -> list[onnx.NodeProto]:
    """The chain of nodes, from the input on, that only move pixels and feed nothing else.

    Without `flatten` it ends before channels lose their axis: a scale for each channel needs it.
    """
    chain: list[onnx.NodeProto] = []
    name = model.graph.input[0].name
    while len(users := consumers(model, name)) == 1 and users[0].op_type in _SHUFFLES:
        if users[0].op_type == "Reshape":
            shape = find_array(model, users[0].input[1])
            if shape is None or (len(shape) != 4 and not flatten):
                break
        chain.append(users[0])
        name = users[0].output[0]
    return chain


def _move_to_front(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    for node in nodes:
        graph.node.remove(node)
    for node in reversed(copies):
        graph.node.insert(0, node)


def _fold_scale(model: onnx.ModelProto, name: str, spec: ModelSpec) -> bool:
    """Multiply the scale into the convolution that alone reads `name`; False where that is not exact."""
    users = consumers(model, name)
    if any(spec.offset) or len(users) != 1 or users[0].op_type != "Conv":
        return False
    weight = find_array(model, users[0].input[1])
    if weight is None or weight.shape[1] != spec.pixels.channels:
        return False
    scale = np.broadcast_to(np.array(spec.scale), (spec.pixels.channels,))
    scaled = (weight * scale.reshape(1, -1, *[1] * (weight.ndim - 2))).astype(np.float32)
    users[0].input[1] = add_array(model, f"{users[0].input[1]}_scaled", scaled)
    return True


def _affine_nodes(model: onnx.ModelProto, spec: ModelSpec, axis: int) -> list[onnx.NodeProto]:
    """Nodes from `cast` on that multiply by the scale and add the offset, each where it does something."""
    nodes: list[onnx.NodeProto] = []
    for op, name, values, neutral in (("Mul", "scale", spec.scale, 1.0), ("Add", "offset", spec.offset, 0.0)):
        if all(value == neutral for value in values):
            continue
        array: NDArray[np.float32] = np.array(values, np.float32)
        if axis == 1 and len(array) > 1:
            array = array.reshape(1, -1, 1, 1)
        source = nodes[-1].output[0] if nodes else "cast"
        nodes.append(helper.make_node(op, [source, add_array(model, name, array)], [f"{name}d"]))
    return nodes


def attach_head(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Let the graph give `probabilities`, float32 (N, K), rows that sum to 1.

    The temperature divides the logits. A final Sigmoid or Softmax is taken off first, so that the logits
    are the network's own; one logit z becomes the softmax of (-z/2, z/2), which is its sigmoid.
    """
    graph = model.graph
    result = _take_off_activation(model, spec)
    rename_tensor(model, result, LOGITS)
    single = spec.head == "sigmoid" or _columns(graph) == 1
    factor = (np.array([[-0.5, 0.5]] if single else [[1.0]]) / spec.temperature).astype(np.float32)
    logits = LOGITS
    if single or spec.temperature != 1:
        graph.node.append(helper.make_node("Mul", [LOGITS, add_array(model, "head", factor)], ["wide"]))
        logits = "wide"
    graph.node.append(helper.make_node("Softmax", [logits], [OUTPUT], axis=-1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", len(spec.labels)]))
    name_nodes(model)


def _columns(graph: onnx.GraphProto) -> int:
    return int(graph.output[0].type.tensor_type.shape.dim[-1].dim_value)


def _take_off_activation(model: onnx.ModelProto, spec: ModelSpec) -> str:
    """Remove the final Sigmoid or Softmax, or undo it where other nodes stand after it; name the logits."""
    graph = model.graph
    name = str(graph.output[0].name)
    if spec.head == "logits":
        return name
    maker = producer(model, name)
    while maker is not None and maker.op_type in ("Identity", "Reshape", "Squeeze") and maker.input:
        maker = producer(model, maker.input[0])
    if maker is not None and maker.op_type.lower() == spec.head and len(maker.input) == 1:
        logits = str(maker.input[0])
        graph.node.remove(producer(model, maker.output[0]))
        prune(model, [logits])
        return logits
    raise ExportError(
        f"The network's last operation must be a {spec.head}; it is "
        f"{maker.op_type if maker is not None else 'none'}. End it in logits, or in a Dense or "
        f"Activation layer with {spec.head}."
    )


def finish(model: onnx.ModelProto, spec: ModelSpec) -> bytes:
    """Put the spec into the metadata and the digest into the spec. Returns the bytes of the file."""
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, spec.to_json()
    # tf2onnx writes counters of its process here: the same network would make another file each time.
    model.graph.name, model.graph.doc_string, model.doc_string = "wetread", "", ""
    for node in model.graph.node:
        node.doc_string = ""
    model.producer_name, model.producer_version = "wetread", spec.tools.get("wetread", "")
    return stamp_digest(model.SerializeToString(deterministic=True))
