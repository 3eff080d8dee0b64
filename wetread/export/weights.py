"""Weights as 8-bit integers, scaled so that their products cannot saturate."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from wetread.runtime.model.saturation import PAIR_BOUND

Integers = NDArray[np.integer]
Floats = NDArray[np.float32]


def output_axis(node: onnx.NodeProto, rank: int) -> int:
    """The axis of a weight that counts output channels."""
    if node.op_type == "Conv":
        return 0
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if transposed else rank - 1


def quantize_weight(
    weight: Floats, axis: int, kind: str, *, floor: NDArray[np.float64] | float = 0.0
) -> tuple[Integers, Floats]:
    """Round a weight to 8-bit integers, with a scale for each output channel of at least `floor`.

    's8': int8 of which no two in a channel sum, by size, to more than 128. 'u8': uint8 around 128.
    """
    flat = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
    sizes = -np.sort(-np.abs(flat), axis=1)[:, :2]
    largest = sizes[:, 0]
    wanted = largest / 127
    if kind == "s8" and flat.shape[1] > 1:
        # Rounding may add half to each of the two: 127 leaves room for it.
        wanted = np.maximum(wanted, sizes.sum(axis=1) / (PAIR_BOUND - 1))
    scales: Floats = np.maximum(np.maximum(wanted, floor), 1e-12).astype(np.float32)
    shape = [1] * weight.ndim
    shape[axis] = -1
    integers = np.clip(np.rint(weight / scales.reshape(shape)), -127, 127)
    if kind == "u8":
        return (integers + 128).astype(np.uint8), scales
    return integers.astype(np.int8), scales
