"""Surgery on ONNX graphs: find, add, rename, simplify. The functions change a ModelProto in place."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from wetread.errors import ExportError
from wetread.runtime.model.providers import import_onnxruntime

OPSET = 17  # 18 turns GlobalAveragePooling into ReduceMean plus a Transpose.
INPUT, OUTPUT, LOGITS = "image", "probabilities", "logits"


def copy_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def add_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """Copy a model, its named tensors being outputs too."""
    copy = copy_model(model)
    known = {output.name for output in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    return copy


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
        raise ExportError(f"onnxruntime cannot run the graph: {str(error).splitlines()[0][:400]}.") from error


def freeze_shapes(model: onnx.ModelProto) -> None:
    """Replace shapes that the graph computes at run time by constants, where only N varies in them.

    Two runs with different N tell: a side that stays is constant, the one that grows with N becomes -1.
    """
    nodes = model.graph.node
    reshapes = [n for n in nodes if n.op_type == "Reshape" and producer(model, n.input[1])]
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
    session = open_plain(add_outputs(model, names).SerializeToString())
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
    model.graph.initializer.append(numpy_helper.from_array(np.array(array, order="C"), name))
    return name


def find_free_name(model: onnx.ModelProto, name: str) -> str:
    """A name near `name` that no tensor of the graph has."""
    taken = {INPUT, *find_outputs(model), *(tensor.name for tensor in model.graph.initializer)}
    while name in taken:
        name += "_"
    return name


def clear_name(model: onnx.ModelProto, name: str) -> str:
    """Give the tensor of a layer another name if it has one that an output needs; returns what it has now.

    For example: the first Activation layer of a Keras network is called `activation`.
    """
    if name not in find_outputs(model):
        return name
    other = find_free_name(model, name)
    rename_tensor(model, name, other)
    return other


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
            raise ExportError("The graph has a cycle.")
        waiting = later
    del model.graph.node[:]
    model.graph.node.extend(ordered)
