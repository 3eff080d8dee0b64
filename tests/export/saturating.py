"""Integer products as a CPU without VNNI computes them: the trap that exported files must not fall into."""

from __future__ import annotations

import numpy as np

from wetread.export.emulation import Array, multiply_exactly

_LIMIT = np.iinfo(np.int16)
_ROWS = 4096


def multiply_saturating(left: Array, right: Array) -> Array:
    """The same as AVX2 does it: neighbours along K are multiplied and added to 16 bits that saturate.

    `left`: uint8 (or int8, which is moved up by 128 first, as onnxruntime does); `right`: int8. Products
    with uint8 weights are widened first on every CPU, and so exact.
    """
    if right.dtype == np.uint8:
        return multiply_exactly(left, right)
    shift = 128 if left.dtype == np.int8 else 0
    weights = right.astype(np.int32)
    total = np.empty((left.shape[0], right.shape[1]), np.int64)
    for start in range(0, left.shape[0], _ROWS):
        raw = left[start : start + _ROWS].astype(np.int32) + shift
        total[start : start + _ROWS] = _add_pairs(raw, weights)
    return total - shift * weights.sum(axis=0, dtype=np.int64) if shift else total


def _add_pairs(left: Array, right: Array) -> Array:
    total = np.zeros((left.shape[0], right.shape[1]), np.int64)
    for k in range(0, left.shape[1], 2):
        pair = left[:, k, None] * right[k]
        if k + 1 < left.shape[1]:
            pair = pair + left[:, k + 1, None] * right[k + 1]
        total += np.clip(pair, _LIMIT.min, _LIMIT.max)
    return total
