"""Prove from a model's bytes that no CPU saturates in its integer products.

Without VNNI, x86 adds two products of uint8 and int8 in 16 bits (VPMADDUBSW), and 255 x 127 x 2 does not fit:
the same file then gives other results than on a newer CPU. It cannot happen if, in every output channel, the
two largest absolute weights sum to at most 128: 255 x 128 = 32,640 < 32,767.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wetread.runtime.model.onnx_graph import Graph, Node, read_graph

PAIR_BOUND = 128
# Layers that onnxruntime multiplies in integers, and which of their inputs is the weight.
_WEIGHT_INPUT = {
    "Conv": 1,
    "Gemm": 1,
    "MatMul": 1,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
    "QGemm": 3,
    "MatMulInteger": 1,
    "ConvInteger": 1,
    "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
}
_CONVOLUTIONS = ("Conv", "QLinearConv", "ConvInteger")
_REQUANTIZED = ("Conv", "ConvTranspose", "Gemm")
# Operations that may be between them and their QuantizeLinear or DequantizeLinear: onnxruntime moves those.
_CLAMPS = ("Relu", "Clip")
_MOVED_THROUGH = ("MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather")


@dataclass(frozen=True)
class LayerProof:
    """The proof for one layer: the type of its weights, and the largest sum of two absolute weights.

    `kind`: 'int8', 'uint8' (multiplied in 16 bits everywhere, so exact), or 'float32' for a layer whose
    weights onnxruntime would itself quantize when it loads the file.
    """

    layer: str
    operation: str
    kind: str
    largest_pair: int | None
    holds: bool


def prove_layers(model: bytes) -> tuple[LayerProof, ...]:
    """Examine every layer of a model's bytes that may multiply 8-bit integers; none for a float model.

    Raises ModelError if the bytes are not an ONNX model.
    """
    graph = read_graph(model)
    makers = {name: node for node in graph.nodes for name in node.outputs}
    proofs = []
    for node in graph.nodes:
        proof = _prove_layer(node, graph, makers) or _find_requantized(node, graph, makers)
        if proof is not None:
            proofs.append(proof)
    return tuple(proofs)


def _prove_layer(node: Node, graph: Graph, makers: Mapping[str, Node]) -> LayerProof | None:
    """Return the proof for a layer with 8-bit weights; None for another layer."""
    index = _WEIGHT_INPUT.get(node.operation)
    if index is None or index >= len(node.inputs):
        return None
    name, moved = node.inputs[index], False
    while name in makers and makers[name].operation in (
        "DequantizeLinear",
        "Transpose",
        "Reshape",
        "Identity",
    ):
        moved = moved or makers[name].operation not in ("DequantizeLinear", "Identity")
        name = makers[name].inputs[0]
    tensor = graph.tensors.get(name)
    if tensor is None or tensor.kind not in ("|i1", "|u1"):
        return None
    label = node.name or node.outputs[0]
    if tensor.kind == "|u1":
        return LayerProof(label, node.operation, "uint8", None, True)
    if tensor.array is None:
        return LayerProof(label, node.operation, "int8", None, False)
    pair = largest_pair(tensor.array, axis=None if moved else _output_axis(node, tensor.array.ndim))
    return LayerProof(label, node.operation, "int8", pair, pair <= PAIR_BOUND)


def largest_pair(weight: NDArray[np.int8], *, axis: int | None) -> int:
    """Return the largest sum of two absolute weights in one output channel (overall, without an axis)."""
    sizes = np.abs(weight.astype(np.int16))
    rows = (
        sizes.reshape(1, -1) if axis is None else np.moveaxis(sizes, axis, 0).reshape(sizes.shape[axis], -1)
    )
    if rows.shape[1] > 2:
        rows = np.partition(rows, rows.shape[1] - 2, axis=1)[:, -2:]
    return int(rows.sum(axis=1).max(initial=0))


def _output_axis(node: Node, rank: int) -> int:
    if node.operation in _CONVOLUTIONS or node.integers.get("transB", 0):
        return 0
    return rank - 1


def _find_requantized(node: Node, graph: Graph, makers: Mapping[str, Node]) -> LayerProof | None:
    """Find a float layer between a DequantizeLinear and a QuantizeLinear, both with one scale per tensor.

    onnxruntime's WeightBiasQuantization gives its weights the full range of int8 when it loads the file.
    """
    if node.operation not in _REQUANTIZED or len(node.inputs) < 2 or node.inputs[0] not in makers:
        return None
    weight, above = graph.tensors.get(node.inputs[1]), makers[node.inputs[0]]
    while above.operation in _MOVED_THROUGH and above.inputs[0] in makers:
        above = makers[above.inputs[0]]
    if weight is None or weight.kind != "<f4" or above.operation != "DequantizeLinear":
        return None
    scale = graph.tensors.get(above.inputs[1])
    if scale is None or int(np.prod(scale.shape)) != 1:
        return None
    below = node
    while True:
        readers = [other for other in graph.nodes if below.outputs[0] in other.inputs]
        if len(readers) != 1:
            return None
        below = readers[0]
        if below.operation == "QuantizeLinear":
            return LayerProof(node.name or node.outputs[0], node.operation, "float32", None, False)
        if below.operation not in (*_CLAMPS, *_MOVED_THROUGH):
            return None
