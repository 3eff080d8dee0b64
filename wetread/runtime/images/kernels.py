"""The weights by which Pillow and TensorFlow make new pixels of old ones, in whole numbers.

What a network was trained on decides, not what is best: `keras.utils.load_img` scales as Pillow does,
`image_dataset_from_directory` and `tf.image.resize` as TensorFlow. Both were read and measured;
`docs/reference/pixels.md` states their rules, `tests/runtime/images/test_kernels.py` compares the pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, repeat
from math import floor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wetread.runtime.images.fixed_point import (
    ONE,
    Fixed,
    cosine_of_half_turns,
    multiply,
    round_signed,
    round_to_bits,
    sinc_of_grid,
)
from wetread.runtime.images.recipe import PILLOW, TENSORFLOW

# Weights are multiples of 2**-22 (Pillow's own) or of 2**-20: both passes together stay below 2**53.
_UNIT_BITS = {PILLOW: 22, TENSORFLOW: 20}
_FLOAT32, _FLOAT64 = 24, 53
_HALF = Fraction(1, 2)
# TensorFlow looks its cubic up at multiples of 1/1024 of a pixel.
_CUBIC_STEPS = 1024


class Side(NamedTuple):
    """How the part of an old side from `start` to `end` becomes `size` new pixels; `old`: all of the side."""

    old: int
    start: int
    end: int
    size: int

    @property
    def length(self) -> int:
        """The old pixels that are scaled."""
        return self.end - self.start


class Weights(NamedTuple):
    """New pixel x is the sum of `shares[x]` times the old pixels at `positions[x]`, over 2**`bits`.

    Both are (size, taps), whole numbers.
    """

    positions: NDArray[np.intp]
    shares: NDArray[np.int32]
    bits: int


def _box(t: Fixed) -> Fixed:
    return np.where(abs(t) < ONE // 2, ONE, t * 0)


def _triangle(t: Fixed) -> Fixed:
    return np.maximum(ONE - abs(t), 0)  # type: ignore[no-any-return]


def _keys_cubic(t: Fixed) -> Fixed:
    """Twice Keys' cubic with a = -1/2."""
    t = abs(t)
    inner = multiply(multiply(3 * t - 5 * ONE, t), t) + 2 * ONE
    outer = multiply(multiply(5 * ONE - t, t) - 8 * ONE, t) + 4 * ONE
    return np.where(t < ONE, inner, np.where(t < 2 * ONE, outer, 0))


def _hamming(t: Fixed) -> Fixed:
    # Pillow's constants are float32: 0.54 and 0.46 of them.
    constant, swing = (round(round_to_bits(Fraction(text), _FLOAT32) * ONE) for text in ("0.54", "0.46"))
    window = constant + multiply(cosine_of_half_turns(t), swing)
    return np.where(abs(t) < ONE, multiply(sinc_of_grid(t), window), 0)


def _lanczos(radius: int) -> Callable[[Fixed], Fixed]:
    return lambda t: np.where(abs(t) < radius * ONE, multiply(sinc_of_grid(t), sinc_of_grid(t // radius)), 0)


# Twice the radius, and the weight at a distance in pixels of the coarser of both grids.
_FILTERS: dict[str, tuple[int, Callable[[Fixed], Fixed]]] = {
    "box": (1, _box),
    "bilinear": (2, _triangle),
    "hamming": (2, _hamming),
    "bicubic": (4, _keys_cubic),
    "lanczos": (6, _lanczos(3)),
    "lanczos3": (6, _lanczos(3)),
    "lanczos5": (10, _lanczos(5)),
}


def is_vertical_first(rows: Side, columns: Side) -> bool:
    """Whether Pillow (13, by measurement) scales the rows first: where they lose twice what columns do."""
    return max(rows.old - rows.size, 0) > max(2 * (columns.old - columns.size), 0)


@lru_cache(maxsize=16)
def find_weights(kernel: str, side: Side) -> Weights:
    """Find the weights of one of `recipe.KERNELS` for a side."""
    family, name, *smooth = kernel.split("-")
    if name == "nearest":
        return _weigh_nearest(side, family)
    bits = _UNIT_BITS[family]
    if name == "area":
        return _weigh_area(side, bits)
    radius, weigh = _FILTERS[name]
    if family == TENSORFLOW and name == "bicubic" and not smooth:
        positions, inside, distances = _measure_cubic(side)
    else:
        widens = family == PILLOW or bool(smooth)
        bounds = (0, side.old) if family == PILLOW else (side.start, side.end)
        positions, inside, distances = _measure(side, radius, bounds, widens=widens)
    weights = np.where(inside, weigh(distances), 0)
    if name == "box":
        _settle_edges(weights, positions, inside & (abs(distances) == ONE // 2), side)
    return Weights(positions, _share(weights, bits), bits)


def _settle_edges(weights: Fixed, positions: NDArray[np.intp], edges: NDArray[np.bool_], side: Side) -> None:
    """Set the weights of pixels whose centre lies on a box's edge: in Pillow, float64's rounding decides."""

    def near(value: Fraction) -> Fraction:
        return round_signed(value, _FLOAT64)

    scale = near(Fraction(side.length, side.size))
    wide = max(scale, Fraction(1))
    inverse, support = near(1 / wide), wide / 2
    for new, tap in np.argwhere(edges):
        old = int(positions[new, tap])
        centre = near(side.start + near((int(new) + _HALF) * scale))
        first, end = near(near(centre - support) + _HALF), near(near(centre + support) + _HALF)
        place = near(near(near(old - centre) + _HALF) * inverse)
        covered = max(int(first), 0) <= old < int(end) and -_HALF < place <= _HALF
        weights[new, tap] = ONE if covered else 0


def _share(weights: Fixed, bits: int) -> NDArray[np.int32]:
    """Each row of weights over its sum, in multiples of 2**-bits, halves away from zero."""
    total: Any = weights.sum(axis=1, keepdims=True)
    size: Any = ((abs(weights) * (2 << bits)) + total) // (2 * total)
    shares: NDArray[np.int32] = np.where(weights < 0, -size, size).astype(np.int32)
    return shares


def _measure(
    side: Side, radius: int, bounds: tuple[int, int], *, widens: bool
) -> tuple[NDArray[np.intp], NDArray[np.bool_], Fixed]:
    """Which old pixels a new one's kernel covers, and how far they are from its centre.

    `radius`: twice the kernel's. `widens`: it grows with the old pixels that one new pixel stands for.
    Returns positions, whether each is one within `bounds`, and distances in pixels of the coarser grid.
    """
    unit = 2 * side.size  # parts of an old pixel: every centre is a whole number of them
    coarse = 2 * max(side.length, side.size) if widens else unit
    new = np.arange(side.size, dtype=np.int64)
    centres = unit * side.start + (2 * new + 1) * side.length
    reach = radius * coarse // 2
    first = -((side.size + reach - centres) // unit)
    last = (centres + reach - side.size) // unit
    first, last = np.maximum(first, bounds[0]), np.minimum(last, bounds[1] - 1)
    positions = first[:, None] + np.arange(int((last - first).max()) + 1)
    inside = positions <= last[:, None]
    distances = ((2 * positions + 1) * side.size - centres[:, None]).astype(object) * ONE // coarse
    return np.minimum(positions, bounds[1] - 1), inside, distances


def _measure_cubic(side: Side) -> tuple[NDArray[np.intp], NDArray[np.bool_], Fixed]:
    """The same for TensorFlow's cubic, whose centres it finds in float32 and rounds to 1/1024 of a pixel."""
    places = [round_signed(place - _HALF, _FLOAT32) for place in _place_centres(side)]
    whole = np.array([floor(place) for place in places], np.int64)
    steps = np.array([round((place - floor(place)) * _CUBIC_STEPS) for place in places], np.int64)
    offsets = np.arange(-1, 3)
    positions = side.start + whole[:, None] + offsets
    inside = (positions >= side.start) & (positions < side.end)
    distances = (offsets * _CUBIC_STEPS - steps[:, None]).astype(object) * ONE // _CUBIC_STEPS
    return np.clip(positions, side.start, side.end - 1), inside, distances


def _place_centres(side: Side) -> list[Fraction]:
    """Where TensorFlow's float32 finds the centres of the new pixels, in old ones from the part's start."""
    step = round_to_bits(Fraction(side.length, side.size), _FLOAT32)
    return [round_to_bits((new + _HALF) * step, _FLOAT32) for new in range(side.size)]


def _weigh_area(side: Side, bits: int) -> Weights:
    """What of each old pixel a new one covers, also where the side grows."""
    new = np.arange(side.size, dtype=np.int64)
    start, end = new * side.length, (new + 1) * side.length
    first, last = start // side.size, -(-end // side.size) - 1
    positions = first[:, None] + np.arange(int((last - first).max()) + 1)
    covered = np.minimum((positions + 1) * side.size, end[:, None]) - np.maximum(
        positions * side.size, start[:, None]
    )
    shares = _share(np.maximum(covered, 0).astype(object), bits)
    return Weights(side.start + np.minimum(positions, side.length - 1), shares, bits)


def _weigh_nearest(side: Side, family: str) -> Weights:
    """The one old pixel of each new one, found with the rounding errors of the library's own arithmetic."""
    if family == PILLOW:
        # A step is added again and again, in float64.
        step = round_to_bits(Fraction(side.length, side.size), _FLOAT64)
        start = round_to_bits(side.start + step / 2, _FLOAT64)
        places: Any = accumulate(
            repeat(step, side.size - 1), lambda at, one: round_to_bits(at + one, _FLOAT64), initial=start
        )
        found = [min(int(place), side.old - 1) for place in places]
    else:
        found = [side.start + min(int(place), side.length - 1) for place in _place_centres(side)]
    positions = np.array(found, np.intp)[:, None]
    return Weights(positions, np.ones((side.size, 1), np.int32), 0)
