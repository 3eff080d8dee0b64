"""Sums of old pixels by a kernel's weights, exact, by matrix products.

The products are float64's, whose every term and sum here is a whole number below 2**53: they are exact in
any order and on every machine, fused multiply-adds or not.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wetread.runtime.images.kernels import Side, Weights, find_weights, is_vertical_first
from wetread.runtime.images.recipe import PILLOW, find_family

# New pixels of one product: more of them share fewer of the old ones.
_BLOCK = 8
# Multiplications of one product: OpenBLAS starts threads above it, and a worker owns its core.
_PRODUCTS = 1 << 18


def scale_by_kernel(image: NDArray[np.uint8], rows: Side, columns: Side, *, kernel: str) -> NDArray[np.uint8]:
    """Scale a part of an image as a kernel of `recipe.KERNELS` does.

    `image`: uint8 (H, W, C). Returns uint8 (rows.size, columns.size, C). Pillow rounds to 8 bits after either
    pass; TensorFlow's floats are rounded once, half up, at the end. What overshoots is cut at 0 and 255.
    """
    down, across = find_weights(kernel, rows), find_weights(kernel, columns)
    used_rows, down = _keep_used(down)
    used_columns, across = _keep_used(across)
    image = np.ascontiguousarray(image[used_rows][:, used_columns])
    if not down.bits:
        return image[down.positions[:, 0]][:, across.positions[:, 0]]
    if find_family(kernel) == PILLOW:
        first, second = across.bits, down.bits
        if is_vertical_first(rows, columns):
            image = _scale_rows(image, down, shift=down.bits)
            return _scale_columns(image, across, shift=across.bits)
    else:
        first, second = 0, across.bits + down.bits
    return _scale_rows(_scale_columns(image, across, shift=first), down, shift=second)


def count_kernel_memory(shape: tuple[int, int, int], rows: Side, columns: Side) -> int:
    """Count the bytes that `scale_by_kernel` needs at most for an image (H, W, C), beside the image's own."""
    height, width, channels = shape
    parts = 2 * height * width * channels  # what is used, and the same turned
    wide = 8 * height * columns.size * channels
    taps = 200 * (rows.length + rows.size + columns.length + columns.size) * 12
    return parts + wide + taps + rows.size * columns.size * channels + 64 * _PRODUCTS


def _keep_used(weights: Weights) -> tuple[NDArray[np.intp], Weights]:
    """The old pixels that any weight touches, and the weights among those alone."""
    used, places = np.unique(weights.positions, return_inverse=True)
    return used, weights._replace(positions=places.reshape(weights.positions.shape))


def _scale_rows(image: NDArray[Any], weights: Weights, *, shift: int) -> NDArray[Any]:
    height, *rest = image.shape
    return _weigh(image.reshape(height, -1), weights, shift=shift).reshape(-1, *rest)


def _scale_columns(image: NDArray[Any], weights: Weights, *, shift: int) -> NDArray[Any]:
    return _turn(_scale_rows(_turn(image), weights, shift=shift))


def _turn(image: NDArray[Any]) -> NDArray[Any]:
    """(A, B, C) to (B, A, C)."""
    height, width, channels = image.shape
    return cv2.transpose(image).reshape(width, height, channels)


def _weigh(values: NDArray[Any], weights: Weights, *, shift: int) -> NDArray[Any]:
    """Weigh rows of values (old, M): (new, M), int32 as summed, or uint8 rounded and shifted down by bits."""
    size, width = len(weights.positions), values.shape[1]
    out = np.empty((size, width), np.uint8 if shift else np.int32)
    for top in range(0, size, _BLOCK):
        positions, shares = weights.positions[top : top + _BLOCK], weights.shares[top : top + _BLOCK]
        low, high = int(positions.min()), int(positions.max()) + 1
        matrix = np.zeros((len(positions), high - low))
        np.add.at(matrix, (np.arange(len(positions))[:, None], positions - low), shares)
        tile = max(_PRODUCTS // matrix.size, 1)
        for left in range(0, width, tile):
            sums = matrix @ values[low:high, left : left + tile].astype(np.float64)
            out[top : top + _BLOCK, left : left + tile] = _round(sums, shift) if shift else sums
    return out


def _round(sums: NDArray[np.float64], shift: int) -> NDArray[np.int64]:
    whole = (sums.astype(np.int64) + (1 << (shift - 1))) >> shift
    return np.clip(whole, 0, 255)  # type: ignore[no-any-return]
