"""The nodes that compute the output `unlike`, and the arrays that they hold. `unlike.py` fits those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from wetread.errors import ExportError
from wetread.export.graph import (
    INPUT,
    add_array,
    add_outputs,
    copy_model,
    find_outputs,
    name_nodes,
    open_plain,
    prune,
)
from wetread.runtime.images.pixels import Pixels
from wetread.runtime.model.session import UNLIKE

Floats = NDArray[np.float64]

CLIP = 8.0
_BATCH = 32


@dataclass(frozen=True)
class FeatureMap:
    """One tensor whose means are features: its name, every how manieth channel, and the grid's cells."""

    name: str
    step: int
    kernel: tuple[int, int]


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
    session = open_plain(add_outputs(copy, [f"{UNLIKE}/features"]).SerializeToString())
    parts = [
        session.run([f"{UNLIKE}/features"], {INPUT: images[at : at + _BATCH]})[0]
        for at in range(0, len(images), _BATCH)
    ]
    return np.concatenate(parts).astype(np.float64)


def run_unlike(model: onnx.ModelProto, images: Pixels) -> NDArray[np.float32]:
    """The output `unlike` of images, float32 (N,)."""
    session = open_plain(model.SerializeToString())
    parts = [
        session.run([UNLIKE], {INPUT: images[at : at + _BATCH]})[0] for at in range(0, len(images), _BATCH)
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
        raise ExportError(f"Expected the features {sorted(missing)} in the exported graph. Received none.")
    copy.graph.node.extend([*_make_features(copy, measure.maps), *_make_measure(copy, measure)])
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
    nodes, flat = [], []
    for at, found in enumerate(maps):
        nodes.append(_node("Cast", [found.name], f"{at}/float", to=TensorProto.FLOAT))
        source = f"{UNLIKE}/{at}/float"
        if found.name == INPUT:  # channels last
            nodes.append(_node("Transpose", [source], f"{at}/planes", perm=[0, 3, 1, 2]))
            source = f"{UNLIKE}/{at}/planes"
        if found.step > 1:
            nodes.append(_thin(model, source, at, found.step))
            source = f"{UNLIKE}/{at}/thin"
        kernel = list(found.kernel)
        nodes.append(_node("AveragePool", [source], f"{at}/means", kernel_shape=kernel, strides=kernel))
        nodes.append(_node("Flatten", [f"{UNLIKE}/{at}/means"], f"{at}/flat", axis=1))
        flat.append(f"{UNLIKE}/{at}/flat")
    return [*nodes, _node("Concat", flat, "features", axis=1)]


def _thin(model: onnx.ModelProto, source: str, at: int, step: int) -> onnx.NodeProto:
    """Take every `step`-th channel."""
    values = {"start": 0, "end": np.iinfo(np.int64).max, "axis": 1, "step": step}
    names = [
        add_array(model, f"{UNLIKE}/{at}/{name}", np.array([value], np.int64))
        for name, value in values.items()
    ]
    return _node("Slice", [source, *names], f"{at}/thin")


def _make_measure(model: onnx.ModelProto, measure: Measure) -> list[onnx.NodeProto]:
    """From features (N, d) to the larger of the distance and the changes, (N,)."""
    small = {"matrix": measure.matrix, "heads": measure.heads}
    arrays = {"centre": measure.centre, "spread": measure.spread, "weights": measure.weights}
    arrays |= {"rest": np.array(measure.rest, np.float32), "bias": measure.bias}
    arrays |= {"axis": np.array([1], np.int64), "low": np.array(-CLIP, np.float32)}
    arrays["high"] = np.array(CLIP, np.float32)
    has_heads = measure.heads.shape[1] > 0
    names = {
        name: add_array(model, f"{UNLIKE}/{name}", np.asarray(array))
        for name, array in (arrays | small).items()
        if has_heads or name not in ("heads", "bias", "low", "high")
    }
    distance = [
        _node("Sub", [f"{UNLIKE}/features", names["centre"]], "centred"),
        _node("Mul", [f"{UNLIKE}/centred", names["spread"]], "standard"),
        _node("Cast", [names["matrix"]], "axes", to=TensorProto.FLOAT),
        _node("MatMul", [f"{UNLIKE}/standard", f"{UNLIKE}/axes"], "along"),
        _node("Mul", [f"{UNLIKE}/along", f"{UNLIKE}/along"], "squares"),
        _node("MatMul", [f"{UNLIKE}/squares", names["weights"]], "near"),
        _node("ReduceSumSquare", [f"{UNLIKE}/standard"], "all", axes=[1], keepdims=1),
        _node("ReduceSum", [f"{UNLIKE}/squares", names["axis"]], "inside", keepdims=1),
        _node("Sub", [f"{UNLIKE}/all", f"{UNLIKE}/inside"], "outside"),
        _node("Mul", [f"{UNLIKE}/outside", names["rest"]], "far"),
        _node("Add", [f"{UNLIKE}/near", f"{UNLIKE}/far"], "distance"),
    ]
    return [*distance, *_make_heads(names)] if has_heads else [*distance, _squeeze("distance", names)]


def _make_heads(names: dict[str, str]) -> list[onnx.NodeProto]:
    return [
        _node("Clip", [f"{UNLIKE}/standard", names["low"], names["high"]], "clipped"),
        _node("Cast", [names["heads"]], "changes", to=TensorProto.FLOAT),
        _node("MatMul", [f"{UNLIKE}/clipped", f"{UNLIKE}/changes"], "each"),
        _node("Add", [f"{UNLIKE}/each", names["bias"]], "changed"),
        _node("Concat", [f"{UNLIKE}/distance", f"{UNLIKE}/changed"], "both", axis=1),
        _node("ReduceMax", [f"{UNLIKE}/both"], "largest", axes=[1], keepdims=1),
        _squeeze("largest", names),
    ]


def _squeeze(name: str, names: dict[str, str]) -> onnx.NodeProto:
    return _node("Squeeze", [f"{UNLIKE}/{name}", names["axis"]], UNLIKE)
