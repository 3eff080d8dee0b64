"""Palette, RGB and YBR values to RGB of 8 bits, in whole numbers."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from wetread.runtime.images.dicom.gray import Lookup
from wetread.runtime.images.dicom.row_strips import map_strips

# Rec. 601 (PS3.3 C.7.6.3.1.2) in 65,536ths.
_RED_FROM_CR, _BLUE_FROM_CB, _GREEN_FROM_CB, _GREEN_FROM_CR = 91881, 116130, 22554, 46802
_HALF = 1 << 15


def to_eight_bits(values: NDArray[np.int32], bits: int) -> NDArray[np.uint8]:
    """Scale values of `bits` bits to 0..255, rounded half up."""
    top = (1 << bits) - 1
    return map_strips(lambda strip: (strip * 510 + top) // (2 * top), values, np.uint8)


def convert_ybr(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """YBR_FULL of 8 bits, (H, W, 3), to RGB."""
    return map_strips(_convert_strip, values, np.uint8)


def _convert_strip(values: NDArray[np.uint8]) -> NDArray[np.int32]:
    y, cb, cr = (values[..., k].astype(np.int32) - (128 if k else 0) for k in range(3))
    planes = (
        y + ((_RED_FROM_CR * cr + _HALF) >> 16),
        y - ((_GREEN_FROM_CB * cb + _GREEN_FROM_CR * cr + _HALF) >> 16),
        y + ((_BLUE_FROM_CB * cb + _HALF) >> 16),
    )
    rgb: NDArray[np.int32] = np.clip(np.stack(planes, axis=2), 0, 255)
    return rgb


def apply_palette(indices: NDArray[np.int32], palette: tuple[Lookup, Lookup, Lookup]) -> NDArray[np.uint8]:
    """Palette indices (H, W) to RGB (H, W, 3)."""
    rgb = np.empty((*indices.shape, 3), np.uint8)
    for channel, table in enumerate(palette):
        colors = to_eight_bits(np.array(table.entries, np.int32), table.bits)
        rgb[..., channel] = map_strips(partial(_look_up, colors, table.first), indices, np.uint8)
    return rgb


def _look_up(colors: NDArray[np.uint8], first: int, indices: NDArray[np.int32]) -> NDArray[np.uint8]:
    return colors[np.clip(indices - first, 0, len(colors) - 1)]
