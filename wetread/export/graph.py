"""Surgery on ONNX graphs: from what tf2onnx writes to the contract of `wetread.runtime`.

Pixels go in as uint8 (scaling inside), probabilities come out (head and temperature inside), and what a
CPU would only copy is folded away. The functions take a ModelProto and change it in place.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from wetread.errors import ExportError
from wetread.runtime.providers import import_onnxruntime
from wetread.runtime.spec import METADATA_KEY, ModelSpec, stamp_digest

OPSET = 17  # 18 turns GlobalAveragePooling into ReduceMean plus a Transpose.
INPUT, OUTPUT, LOGITS = "image", "probabilities", "logits"
_SHUFFLES = ("Reshape", "Transpose", "Identity")


def attach_pixels(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Let the graph take uint8 (N, H, W, C): cast, scale and offset stand inside.

    What only moves pixels (to channels first) is done on bytes, before the cast. A scale without offset
    goes into the weights of the first convolution, so that the pixels feed it as they are and an int8
    convolution reads them without any rounding.
    """
    graph = model.graph
    shuffles = _leading_shuffles(model)
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


def _leading_shuffles(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The chain of nodes, from the input on, that only move pixels and feed nothing else."""
    chain: list[onnx.NodeProto] = []
    name = model.graph.input[0].name
    while len(users := consumers(model, name)) == 1 and users[0].op_type in _SHUFFLES:
        if users[0].op_type == "Reshape" and find_array(model, users[0].input[1]) is None:
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
    scale = np.broadcast_to(np.float64(spec.scale), (spec.pixels.channels,))
    scaled = (weight * scale.reshape(1, -1, *[1] * (weight.ndim - 2))).astype(np.float32)
    users[0].input[1] = add_array(model, f"{users[0].input[1]}_scaled", scaled)
    return True


def _affine_nodes(model: onnx.ModelProto, spec: ModelSpec, axis: int) -> list[onnx.NodeProto]:
    """Nodes from `cast` on that multiply by the scale and add the offset, each where it does something."""
    nodes: list[onnx.NodeProto] = []
    for op, name, values, neutral in (("Mul", "scale", spec.scale, 1.0), ("Add", "offset", spec.offset, 0.0)):
        if all(value == neutral for value in values):
            continue
        array = np.float32(values)
        if axis == 1 and len(array) > 1:
            array = array.reshape(1, -1, 1, 1)
        source = nodes[-1].output[0] if nodes else "cast"
        nodes.append(helper.make_node(op, [source, add_array(model, name, array)], [f"{name}d"]))
    # A graph that wants raw pixels still needs one node to carry the name.
    return nodes or [helper.make_node("Identity", ["cast"], ["same"])]


def attach_head(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Let the graph give `probabilities`, float32 (N, K), rows that sum to 1.

    The temperature divides the logits. A final Sigmoid or Softmax is taken off first, so that the logits
    are the network's own; one logit z becomes the softmax of (-z/2, z/2), which is its sigmoid.
    """
    graph = model.graph
    result = _take_off_activation(model, spec)
    rename_tensor(model, result, LOGITS)
    single = spec.head == "sigmoid" or _columns(graph) == 1
    factor = np.float32([[-0.5, 0.5]] if single else [[1.0]]) / np.float32(spec.temperature)
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
    name = graph.output[0].name
    if spec.head == "logits":
        return name
    maker = producer(model, name)
    while maker is not None and maker.op_type in ("Identity", "Reshape", "Squeeze") and maker.input:
        maker = producer(model, maker.input[0])
    if maker is not None and maker.op_type.lower() == spec.head and len(maker.input) == 1:
        logits = maker.input[0]
        graph.node.remove(producer(model, maker.output[0]))
        prune(model, [logits])
        return logits
    raise ExportError(
        f"Expected a network whose last operation is a {spec.head}. Received one that ends in "
        f"{maker.op_type if maker is not None else 'no operation'}. End it in logits, or in a Dense or "
        f"Activation layer with {spec.head}."
    )


def finish(model: onnx.ModelProto, spec: ModelSpec) -> bytes:
    """Put the spec into the metadata and the digest into the spec. Returns the bytes of the file."""
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, spec.to_json()
    model.producer_name, model.producer_version = "wetread", spec.tools.get("wetread", "")
    return stamp_digest(model.SerializeToString(deterministic=True))


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants and BatchNorm, drop what does nothing: onnxruntime's own basic passes, done once.

    They only use standard operators. Raises ExportError when onnxruntime does not take the graph.
    """
    simple = optimize_graph(model, "ORT_ENABLE_BASIC")
    used = {node.domain for node in simple.graph.node}
    kept = [opset for opset in simple.opset_import if opset.domain in used or not opset.domain]
    del simple.opset_import[:]
    simple.opset_import.extend(kept)
    del simple.graph.value_info[:]
    simple.ir_version = min(simple.ir_version, 8)
    name_nodes(simple)
    return simple


def optimize_graph(model: onnx.ModelProto, level: str) -> onnx.ModelProto:
    """The graph after onnxruntime's passes up to a level, as it would run them at load."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        open_plain(model.SerializeToString(), options)
        return onnx.load(options.optimized_model_filepath)


def open_plain(model: bytes, options: Any = None) -> Any:
    """A session on the CPU. Raises ExportError when onnxruntime does not take the graph, saying why."""
    onnxruntime = import_onnxruntime()
    if options is None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(
            f"Expected a graph that onnxruntime runs. Received: {str(error).splitlines()[0][:400]}."
        ) from error


def freeze_shapes(model: onnx.ModelProto) -> None:
    """Replace shapes that the graph computes at run time by constants, where only N varies in them.

    Two runs with different N tell: a side that stays is constant, the one that grows with N becomes -1.
    """
    reshapes = [
        node for node in model.graph.node if node.op_type == "Reshape" and producer(model, node.input[1])
    ]
    if not reshapes:
        return
    two, three = (_probe_shapes(model, [node.output[0] for node in reshapes], count) for count in (2, 3))
    for node, before, after in zip(reshapes, two, three, strict=True):
        grows = np.array(before) != np.array(after) if len(before) == len(after) else np.ones(2, bool)
        if grows.sum() <= 1:
            shape = np.where(grows, -1, before).astype(np.int64)
            node.input[1] = add_array(model, f"{node.name}_shape", shape)
    prune(model, [output.name for output in model.graph.output])


def _probe_shapes(model: onnx.ModelProto, names: list[str], count: int) -> list[tuple[int, ...]]:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = open_plain(copy.SerializeToString())
    entry = session.get_inputs()[0]
    kind = np.uint8 if entry.type == "tensor(uint8)" else np.float32
    values = session.run(names, {entry.name: np.zeros((count, *entry.shape[1:]), kind)})
    return [value.shape for value in values]


def producer(model: onnx.ModelProto, name: str) -> onnx.NodeProto | None:
    """The node that makes a tensor; None for an input or an initializer."""
    return next((node for node in model.graph.node if name in node.output), None)


def consumers(model: onnx.ModelProto, name: str) -> list[onnx.NodeProto]:
    """The nodes that read a tensor, in graph order."""
    return [node for node in model.graph.node if name in node.input]


def find_array(model: onnx.ModelProto, name: str) -> NDArray[Any] | None:
    """The value of an initializer or of a Constant node; None for anything else."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    maker = producer(model, name)
    if maker is not None and maker.op_type == "Constant":
        return numpy_helper.to_array(maker.attribute[0].t)
    return None


def add_array(model: onnx.ModelProto, name: str, array: NDArray[Any]) -> str:
    """Add an initializer under a free name near `name`; returns that name."""
    taken = {tensor.name for tensor in model.graph.initializer}
    while name in taken:
        name += "_"
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return name


def rename_tensor(model: onnx.ModelProto, old: str, new: str) -> None:
    """Give one tensor another name wherever it is made or read."""
    rename_tensors(model, {old: new})


def rename_tensors(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Give tensors and initializers other names wherever they are made or read."""
    for node in model.graph.node:
        for listed in (node.input, node.output):
            for index, name in enumerate(listed):
                listed[index] = names.get(name, name)
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)


def find_outputs(model: onnx.ModelProto) -> list[str]:
    """The names of all tensors that nodes make, in graph order."""
    return [name for node in model.graph.node for name in node.output if name]


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own: quantization reverts nodes by name."""
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)


def prune(model: onnx.ModelProto, outputs: list[str]) -> None:
    """Drop the nodes and initializers that no output needs."""
    needed, kept = set(outputs), []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    kept.reverse()
    arrays = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    del model.graph.initializer[:]
    model.graph.initializer.extend(arrays)


def sort_nodes(model: onnx.ModelProto) -> None:
    """Order the nodes so that each follows what it reads, and otherwise as they stood."""
    waiting = list(model.graph.node)
    made = {name for node in waiting for name in node.output}
    known: set[str] = set()
    ordered: list[onnx.NodeProto] = []
    while waiting:
        later = []
        for node in waiting:
            if all(name in known or name not in made for name in node.input):
                ordered.append(node)
                known.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise ExportError("Expected a graph without a cycle. Received one.")
        waiting = later
    del model.graph.node[:]
    model.graph.node.extend(ordered)
