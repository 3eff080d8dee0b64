"""The nodes that compute the output `unlike`, and their arrays. `unlike_output.py` fits those."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from wetread.errors import ExportError
from wetread.export.graph import (
    INPUT,
    add_array,
    clear_name,
    copy_model,
    find_array,
    find_outputs,
    name_nodes,
    open_plain,
    producer,
    prune,
)
from wetread.runtime.images.pixels import Pixels
from wetread.runtime.model.session import UNLIKE

Floats = NDArray[np.float64]

CLIP = 8.0
_BATCH = 32


@dataclass(frozen=True)
class FeatureMap:
    """One tensor whose means are features: its name, every n-th channel, and the grid's cells.

    A cell has the sides `kernel`, and the next one begins `stride` further: the first and the last touch the
    edges. A layer's map has 2 x 2 cells.
    """

    name: str
    step: int
    kernel: tuple[int, int]
    stride: tuple[int, int]


@dataclass(frozen=True)
class Measure:
    """The arrays of the measure, in float32 but for the matrices in float16, as they stand in the file.

    `matrix` (d, k): the axes of the training images' subspace; `weights` (k, 1) and `rest`: what a step along
    an axis, and outside all of them, counts. `heads` (d, c) and `bias` (c,): the changes.
    """

    maps: tuple[FeatureMap, ...]
    centre: NDArray[np.float32]
    spread: NDArray[np.float32]
    matrix: NDArray[np.float16]
    weights: NDArray[np.float32]
    rest: float
    heads: NDArray[np.float16]
    bias: NDArray[np.float32]


def compute_features(model: onnx.ModelProto, maps: tuple[FeatureMap, ...], images: Pixels) -> Floats:
    """The features of images, float64 (N, d), computed by the nodes that the exported graph has."""
    copy = copy_model(model)
    copy.graph.node.extend(_make_features(copy, maps))
    del copy.graph.output[:]
    copy.graph.output.append(onnx.ValueInfoProto(name=f"{UNLIKE}/features"))
    prune(copy, [f"{UNLIKE}/features"])  # an ensemble may need only one member
    return _run(copy, f"{UNLIKE}/features", images).astype(np.float64)


def run_unlike(model: onnx.ModelProto, images: Pixels) -> NDArray[np.float32]:
    """The output `unlike` of images, float32 (N,)."""
    copy = copy_model(model)
    kept = [output for output in copy.graph.output if output.name == UNLIKE]
    del copy.graph.output[:]
    copy.graph.output.extend(kept)
    prune(copy, [UNLIKE])
    return _run(copy, UNLIKE, images)


def _run(model: onnx.ModelProto, output: str, images: Pixels) -> NDArray[np.float32]:
    session = open_plain(model.SerializeToString())
    parts = [
        session.run([output], {INPUT: images[at : at + _BATCH]})[0] for at in range(0, len(images), _BATCH)
    ]
    return np.concatenate(parts)


def attach_unlike(model: onnx.ModelProto, measure: Measure) -> onnx.ModelProto:
    """Return a copy of a graph with `unlike`, float32 (N,), as its second output.

    The model, float32, float16 or int8, has the tensors by the names that the measure was fitted on. Raises
    ExportError where it has not.
    """
    copy = copy_model(model)
    missing = {found.name for found in measure.maps} - {INPUT, *find_outputs(copy)}
    if missing:
        raise ExportError(f"The exported graph lacks the features {sorted(missing)}.")
    cleared = clear_name(copy, UNLIKE)
    maps = tuple(replace(found, name=cleared) if found.name == UNLIKE else found for found in measure.maps)
    copy.graph.node.extend([*_make_features(copy, maps), *_make_measure(copy, measure)])
    copy.graph.output.insert(1, helper.make_tensor_value_info(UNLIKE, TensorProto.FLOAT, ["N"]))
    name_nodes(copy)
    return copy


def detach_unlike(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a graph without the output `unlike` and what computes it alone."""
    copy = copy_model(model)
    kept = [output for output in copy.graph.output if output.name != UNLIKE]
    del copy.graph.output[:]
    copy.graph.output.extend(kept)
    prune(copy, [output.name for output in kept])
    return copy


def _node(op: str, inputs: list[str], made: str, **more: Any) -> onnx.NodeProto:
    name = UNLIKE if made == UNLIKE else f"{UNLIKE}/{made}"
    return helper.make_node(op, inputs, [name], name=f"{name}/{op}", **more)


def _make_features(model: onnx.ModelProto, maps: tuple[FeatureMap, ...]) -> list[onnx.NodeProto]:
    """The means of each cell of the grid of each map, side by side: (N, d)."""
    nodes, means = [], []  # of each map: (N, C, cells)
    for at, found in enumerate(maps):
        average = _average_integers if _has_one_scale(model, found.name) else _average_floats
        nodes += average(model, at, found)
        means.append(f"{UNLIKE}/{at}/means")
    if len(means) > 1:
        nodes.append(_node("Concat", means, "means", axis=1))
    return [*nodes, _node("Flatten", [f"{UNLIKE}/means" if len(means) > 1 else means[0]], "features")]


def _has_one_scale(model: onnx.ModelProto, name: str) -> bool:
    """Whether a tensor is made of integers of one scale; before a layer in float each channel has its own."""
    maker = producer(model, name)
    if maker is None or maker.op_type != "DequantizeLinear":
        return False
    scale = find_array(model, maker.input[1])
    return scale is not None and scale.size == 1


def _average_floats(model: onnx.ModelProto, at: int, found: FeatureMap) -> list[onnx.NodeProto]:
    nodes = [_node("Cast", [found.name], f"{at}/float", to=TensorProto.FLOAT)]
    source = f"{UNLIKE}/{at}/float"
    if found.name == INPUT:  # channels last
        nodes.append(_node("Transpose", [source], f"{at}/planes", perm=[0, 3, 1, 2]))
        source = f"{UNLIKE}/{at}/planes"
    if found.step > 1:
        nodes.append(_thin(model, source, at, found.step))
        source = f"{UNLIKE}/{at}/thin"
    cells = {"kernel_shape": list(found.kernel), "strides": list(found.stride)}
    nodes.append(_node("AveragePool", [source], f"{at}/cells", **cells))
    shape = add_array(model, f"{UNLIKE}/{at}/sides", np.array([0, 0, -1], np.int64))
    return [*nodes, _node("Reshape", [f"{UNLIKE}/{at}/cells", shape], f"{at}/means")]


def _average_integers(model: onnx.ModelProto, at: int, found: FeatureMap) -> list[onnx.NodeProto]:
    """The same means of an int8 map: a product with a matrix of ones, which onnxruntime computes in integers.

    The map is never written as float32, and the sums are exact.
    """
    maker = producer(model, found.name)
    assert maker is not None
    nodes, source = [], maker.input[0]
    if found.step > 1:
        nodes.append(_thin(model, source, at, found.step))
        source = f"{UNLIKE}/{at}/thin"
    cells = _list_cells(found)
    shape = np.array([0, -1, len(cells)], np.int64)  # of a map (N, C, H, W)
    ones = {"ones": cells, "share": np.float32(1 / cells[:, 0].sum()), "zero": np.int8(0)}
    matrix = [add_array(model, f"{UNLIKE}/{at}/{name}", np.asarray(array)) for name, array in ones.items()]
    flat = [source, add_array(model, f"{UNLIKE}/{at}/shape", shape)]
    return [
        *nodes,
        _node("Reshape", flat, f"{at}/flat"),
        _node("DequantizeLinear", [f"{UNLIKE}/{at}/flat", *maker.input[1:]], f"{at}/values"),
        _node("DequantizeLinear", matrix, f"{at}/matrix"),
        _node("MatMul", [f"{UNLIKE}/{at}/values", f"{UNLIKE}/{at}/matrix"], f"{at}/means"),
    ]


def _list_cells(found: FeatureMap) -> NDArray[np.int8]:
    """Which pixels of a map (rows) lie in which cell of its 2 x 2 grid (columns): int8, 1 or 0."""
    (high, wide), (down, right) = found.kernel, found.stride
    cells = np.zeros((down + high, right + wide, 2, 2), np.int8)
    for row in range(2):
        for column in range(2):
            cells[row * down :, column * right :, row, column][:high, :wide] = 1
    return cells.reshape(-1, 4)


def _thin(model: onnx.ModelProto, source: str, at: int, step: int) -> onnx.NodeProto:
    """Take every `step`-th channel."""
    values = {"start": 0, "end": np.iinfo(np.int64).max, "axis": 1, "step": step}
    names = [
        add_array(model, f"{UNLIKE}/{at}/{name}", np.array([value], np.int64))
        for name, value in values.items()
    ]
    return _node("Slice", [source, *names], f"{at}/thin")


def _make_measure(model: onnx.ModelProto, measure: Measure) -> list[onnx.NodeProto]:
    """From features (N, d) to the largest of the distance and the changes, (N,).

    The distance is near + rest (all - inside): what lies along the axes, and what is left of the whole.
    """
    rest = np.array(measure.rest, np.float32)
    arrays: dict[str, NDArray[Any]] = {
        "centre": measure.centre,
        "spread": measure.spread,
        "matrix": measure.matrix,
        "weights": measure.weights - rest,
    }
    if has_heads := measure.heads.shape[1] > 0:
        arrays |= {"heads": measure.heads, "bias": measure.bias}
        arrays |= {"low": np.array(-CLIP, np.float32), "high": np.array(CLIP, np.float32)}
    else:
        arrays["axis"] = np.array([1], np.int64)
    names = {name: add_array(model, f"{UNLIKE}/{name}", array) for name, array in arrays.items()}
    distance = [
        _node("Sub", [f"{UNLIKE}/features", names["centre"]], "centred"),
        _node("Mul", [f"{UNLIKE}/centred", names["spread"]], "standard"),
        _node("Cast", [names["matrix"]], "axes", to=TensorProto.FLOAT),
        _node("MatMul", [f"{UNLIKE}/standard", f"{UNLIKE}/axes"], "along"),
        _node("Mul", [f"{UNLIKE}/along", f"{UNLIKE}/along"], "squares"),
        _node("ReduceSumSquare", [f"{UNLIKE}/standard"], "all", axes=[1], keepdims=1),
        # Weighted squares, and the rest times the sum of all: one node, as each takes time of its own.
        _node("Gemm", [f"{UNLIKE}/squares", names["weights"], f"{UNLIKE}/all"], "distance", beta=float(rest)),
    ]
    if has_heads:
        return [*distance, *_make_heads(names)]
    return [*distance, _node("Squeeze", [f"{UNLIKE}/distance", names["axis"]], UNLIKE)]


def _make_heads(names: dict[str, str]) -> list[onnx.NodeProto]:
    return [
        _node("Clip", [f"{UNLIKE}/standard", names["low"], names["high"]], "clipped"),
        _node("Cast", [names["heads"]], "changes", to=TensorProto.FLOAT),
        _node("MatMul", [f"{UNLIKE}/clipped", f"{UNLIKE}/changes"], "each"),
        _node("Add", [f"{UNLIKE}/each", names["bias"]], "changed"),
        _node("Concat", [f"{UNLIKE}/distance", f"{UNLIKE}/changed"], "both", axis=1),
        _node("ReduceMax", [f"{UNLIKE}/both"], UNLIKE, axes=[1], keepdims=0),
    ]
