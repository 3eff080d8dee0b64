"""The gray rule as the standard words it, one value at a time, in fractions: slow, and nobody's tables."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from wetread.runtime.images.dicom.gray import GrayRule, Lookup, Window

HALF = Fraction(1, 2)


def reference_gray(stored: np.ndarray, rule: GrayRule) -> np.ndarray:
    """Gray levels of stored values by PS3.3 C.11.1, C.11.2 and C.7.6.3.1.2, and docs/guides/dicom.md."""
    values = {int(v) for v in np.unique(stored)}
    real = {v: _modality(v, rule.modality) for v in values if not _is_padding(v, rule)}
    ends = (min(real.values()), max(real.values())) if real else (Fraction(0), Fraction(0))
    levels = {}
    for v in values:
        if v not in real:
            levels[v] = 0
        else:
            level = math.floor(_voi(real[v], rule.voi, ends) + HALF)
            levels[v] = 255 - level if rule.inverted else level
    return np.vectorize(levels.get, otypes=[np.uint8])(stored)


def _is_padding(value: int, rule: GrayRule) -> bool:
    return rule.padding is not None and rule.padding[0] <= value <= rule.padding[1]


def _look_up(value: int, table: Lookup) -> int:
    if value <= table.first:
        return table.entries[0]
    if value >= table.first + len(table.entries):
        return table.entries[-1]
    return table.entries[value - table.first]


def _modality(value: int, modality) -> Fraction:
    if isinstance(modality, Lookup):
        return Fraction(_look_up(value, modality))
    slope, intercept = modality
    return slope * value + intercept


def _voi(x: Fraction, voi, ends: tuple[Fraction, Fraction]) -> Fraction:
    if voi is None:
        low, high = ends
        return Fraction(0) if low == high else (x - low) / (high - low) * 255
    if isinstance(voi, Lookup):
        return Fraction(_look_up(math.floor(x + HALF), voi), (1 << voi.bits) - 1) * 255
    return _window(x, voi)


def _window(x: Fraction, window: Window) -> Fraction:
    c, w = window.center, window.width
    if window.function == "SIGMOID":
        return Fraction(255 / (1 + math.exp(max(-700, min(700, float(-4 * (x - c) / w))))))
    if window.function == "LINEAR_EXACT":
        if x <= c - w / 2:
            return Fraction(0)
        return Fraction(255) if x > c + w / 2 else ((x - c) / w + HALF) * 255
    if x <= c - HALF - (w - 1) / 2:
        return Fraction(0)
    if x > c - HALF + (w - 1) / 2:
        return Fraction(255)
    return ((x - (c - HALF)) / (w - 1) + HALF) * 255
