"""Stored gray values to 0..255, exactly: each step a whole-number or rational rule (docs/guides/dicom.md).

Sixteen bits have at most 65,536 values, so the rule is worked out once for each value, in integers that
cannot round, and applied as a table.
"""

from __future__ import annotations

import decimal
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.runtime.images.dicom.file_header import malformed
from wetread.runtime.images.dicom.row_strips import cut_strips, map_strips

Table = NDArray[np.uint8]
# Whole numbers: int64 where they are sure to fit, Python's own where they may not.
Whole = NDArray[Any]
# Beyond this, 64-bit integers could overflow and Python's own take over.
_SAFE = 1 << 62
_PRECISION = decimal.Context(prec=80)


@dataclass(frozen=True)
class Lookup:
    """A modality or VOI lookup table: the first value it maps, its entries, and their bits."""

    first: int
    entries: tuple[int, ...]
    bits: int


@dataclass(frozen=True)
class Window:
    """A VOI window: centre, width, and its function LINEAR, LINEAR_EXACT or SIGMOID."""

    center: Fraction
    width: Fraction
    function: str = "LINEAR"

    @property
    def is_usable(self) -> bool:
        """Whether the standard allows the width: 1 or more for LINEAR, above 0 for the others."""
        return self.width >= 1 if self.function == "LINEAR" else self.width > 0


@dataclass(frozen=True)
class GrayRule:
    """All that turns stored values into gray levels.

    `modality` is a lookup table or (slope, intercept); `voi` a table, a window, or None for the full range
    of the values that occur; `padding` the lowest and highest stored value that are not pixels.
    """

    bits: int
    signed: bool
    modality: Lookup | tuple[Fraction, Fraction] = (Fraction(1), Fraction(0))
    voi: Lookup | Window | None = None
    padding: tuple[int, int] | None = None
    inverted: bool = False

    @property
    def lowest(self) -> int:
        """The lowest value that the stored bits can hold."""
        return -(1 << self.bits - 1) if self.signed else 0


def apply_gray_rule(stored: NDArray[np.int32], rule: GrayRule) -> NDArray[np.uint8]:
    """Turn stored values, int32 of any shape, into gray levels 0 to 255 of the same shape."""
    table = make_gray_table(stored, rule)
    lowest = rule.lowest
    return map_strips(lambda strip: table.take(strip - lowest if lowest else strip), stored, np.uint8)


def make_gray_table(stored: NDArray[np.int32], rule: GrayRule) -> Table:
    """The gray level, uint8, of every value that the rule's bits can hold, from `rule.lowest` up.

    `stored`: the picture's values; only a rule without window or table asks which of them occur.
    """
    padded = _padded(rule)
    values, unit = _apply_modality(rule)
    if rule.voi is None:
        occurs = _find_levels(stored, rule) & ~padded
        table = _spread_range(values, occurs)
    elif isinstance(rule.voi, Lookup):
        table = _look_up_gray(values, unit, rule.voi)
    else:
        table = _apply_window(values, unit, rule.voi)
    if rule.inverted:
        table = 255 - table
    table[padded] = 0
    return table


def find_window(rule: GrayRule, table: Table) -> tuple[float, float] | None:
    """Between which values, counted from `rule.lowest`, a rule's table goes from one end to the other.

    None where it spreads the values that occur. Of a lookup table, where its first and last change are.
    """
    if rule.voi is None:
        return None
    if isinstance(rule.voi, Lookup) or isinstance(rule.modality, Lookup):
        changes = np.flatnonzero(np.diff(table.astype(np.int16)))
        return (float(changes[0]), float(changes[-1] + 1)) if len(changes) else None
    center, width = rule.voi.center, rule.voi.width
    if rule.voi.function == "LINEAR":
        center, width = center - Fraction(1, 2), width - 1
    slope, intercept = rule.modality
    ends = sorted(float((center + side * width / 2 - intercept) / slope - rule.lowest) for side in (-1, 1))
    return ends[0], ends[1]


def hides_all(stored: NDArray[np.int32], levels: NDArray[np.uint8], rule: GrayRule) -> bool:
    """Tell whether a window or table gives one level to all pixels that are not padding, though they differ.

    Without padding the picture itself is of one level then, and shows it. `levels`: what `apply_gray_rule`
    made of `stored`.
    """
    if rule.padding is None or rule.voi is None:
        return False
    shown = (stored < rule.padding[0]) | (stored > rule.padding[1])
    kept = levels[shown]
    return bool(kept.size and kept.min() == kept.max() and np.ptp(stored[shown]) > 0)


def _find_levels(stored: NDArray[np.int32], rule: GrayRule) -> NDArray[np.bool_]:
    """Which of the values that the stored bits can hold occur; of a straight line, the two ends at least."""
    occurs = np.zeros(1 << rule.bits, bool)
    if rule.padding is None and not isinstance(rule.modality, Lookup):
        occurs[[int(stored.min()) - rule.lowest, int(stored.max()) - rule.lowest]] = True
        return occurs
    for strip in cut_strips(np.atleast_2d(stored)):
        occurs |= np.bincount((strip - rule.lowest).ravel(), minlength=len(occurs)) > 0
    return occurs


def _padded(rule: GrayRule) -> NDArray[np.bool_]:
    values = np.arange(1 << rule.bits) + rule.lowest
    if rule.padding is None:
        return np.zeros(len(values), bool)
    return (values >= rule.padding[0]) & (values <= rule.padding[1])


def _apply_modality(rule: GrayRule) -> tuple[Whole, int]:
    """The modality's value of every stored value, as numerators over one common denominator."""
    stored = np.arange(1 << rule.bits, dtype=np.int64) + rule.lowest
    if isinstance(rule.modality, Lookup):
        return _look_up(stored, rule.modality), 1
    slope, intercept = rule.modality
    unit = lcm(slope.denominator, intercept.denominator)
    return _affine(stored, int(slope * unit), int(intercept * unit)), unit


def _affine(values: Whole, factor: int, offset: int) -> Whole:
    """factor x values + offset, exactly."""
    largest = max(abs(int(values.min())), abs(int(values.max())), 1)
    if largest * abs(factor) + abs(offset) >= _SAFE:
        values = values.astype(object)
    return values * factor + offset


def _floor_to_gray(values: Whole, numerator: int, offset: int, denominator: int) -> Table:
    """floor((numerator x values + offset) / denominator), held to 0..255."""
    scaled = _affine(values, numerator, offset)
    if denominator >= _SAFE:
        scaled = scaled.astype(object)
    table: Table = np.clip(scaled // denominator, 0, 255).astype(np.uint8)
    return table


def _look_up(values: NDArray[np.int64], table: Lookup) -> NDArray[np.int64]:
    """Values below the first take the first entry, values beyond the last the last."""
    entries = np.array(table.entries, np.int64)
    found: NDArray[np.int64] = entries[np.clip(values - table.first, 0, len(entries) - 1)]
    return found


def _look_up_gray(values: Whole, unit: int, table: Lookup) -> Table:
    doubled = _affine(values, 2, unit)
    nearest = (doubled.astype(object) if unit >= _SAFE else doubled) // (2 * unit)
    low, high = table.first, table.first + len(table.entries)
    entries = _look_up(np.clip(nearest, low, high).astype(np.int64), table)
    top = (1 << table.bits) - 1
    return _floor_to_gray(entries, 510, top, 2 * top)


def _spread_range(values: Whole, occurs: NDArray[np.bool_]) -> Table:
    """The smallest value that occurs becomes 0 and the largest 255; a flat picture is black."""
    if not occurs.any():
        return np.zeros(len(values), np.uint8)
    low, high = int(values[occurs].min()), int(values[occurs].max())
    if low == high:
        return np.zeros(len(values), np.uint8)
    return _floor_to_gray(np.clip(values, low, high), 510, high - low - 510 * low, 2 * (high - low))


def _apply_window(values: Whole, unit: int, window: Window) -> Table:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, to 0..255, rounded half up."""
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        return _count_limits(values, _sigmoid_limits(center * unit, width * unit))
    if window.function == "LINEAR":
        center, width = center - Fraction(1, 2), width - 1
    if width == 0:
        above = _affine(values, center.denominator, -center.numerator * unit) > 0
        return np.where(above, 255, 0).astype(np.uint8)
    # 255 (x - center) / width + 128, where 128 is half the range and the half that rounds.
    factor, offset = Fraction(255) / (width * unit), 128 - 255 * center / width
    denominator = lcm(factor.denominator, offset.denominator)
    return _floor_to_gray(values, int(factor * denominator), int(offset * denominator), denominator)


def _sigmoid_limits(center: Fraction, width: Fraction) -> list[int]:
    """The smallest whole numbers that reach gray levels 1 to 255 of 255 / (1 + exp(-4 (x - c) / w))."""
    return [ceil(center - width / 4 * logarithm) for logarithm in _sigmoid_logarithms()]


def _count_limits(values: Whole, limits: list[int]) -> Table:
    """How many of the rising limits each value reaches."""
    exact = np.int64 if max(map(abs, limits)) < _SAFE and values.dtype == np.int64 else object
    counts = np.searchsorted(np.array(limits, exact), values.astype(exact), side="right")
    return counts.astype(np.uint8)


@lru_cache(maxsize=1)
def _sigmoid_logarithms() -> tuple[Fraction, ...]:
    """ln(255 / (k - 1/2) - 1) for k from 1 to 255, to 80 digits: the same on every machine."""
    exactly = decimal.Decimal
    odds = (_PRECISION.divide(exactly(511 - 2 * k), exactly(2 * k - 1)) for k in range(1, 256))
    return tuple(Fraction(_PRECISION.ln(odd)) for odd in odds)


def make_lookup(descriptor: list[int], data: bytes, *, little: bool) -> Lookup:
    """Build a lookup table from its descriptor (entries, first value, bits) and its data.

    Raises ImageError 'truncated' where they contradict one another.
    """
    if len(descriptor) != 3:
        raise malformed("a lookup table without its three numbers")
    count, first, bits = descriptor[0] & 0xFFFF or 1 << 16, descriptor[1], descriptor[2]
    if not 8 <= bits <= 16:
        raise malformed(f"a lookup table of {bits} bits")
    if len(data) >= 2 * count:
        entries = np.frombuffer(data, "<u2" if little else ">u2", count)
    elif len(data) >= count and bits == 8:
        entries = np.frombuffer(data, np.uint8, count).astype(np.uint16)
    else:
        raise malformed("a lookup table has fewer entries than it states")
    return Lookup(first, tuple(np.minimum(entries, (1 << bits) - 1).tolist()), bits)
