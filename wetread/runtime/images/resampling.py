"""Exact scaling: area averages (bilinear where a side grows) in whole numbers, rounded half up.

A summed-area table gives the sum over any rectangle; a rectangle whose edge cuts a pixel takes its share of
it as a whole number of equal parts. So every machine gets the same pixels; `docs/explanation/resizing.md` has
the argument, and the proof that OpenCV's float32 average, quicker for a few sizes, is the same there.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# Sides are measured in eighths of a pixel: libjpeg's scaled decoding leaves that much of the last one.
PARTS = 8
# Of one summed-area table: 255 times this stays below 2**31.
_STRIP_PIXELS = 1 << 21
# A sum below this may be taken from a table that wraps around at 2**32: what wraps cancels out.
_WRAPS_BELOW = 1 << 31
# Averages of up to so many equal parts, an odd number, are further from a tie than OpenCV's float32 can err.
_FLOAT_SAFE_PARTS = 225

Sums = NDArray[Any]  # uint32 or int64


class Span(NamedTuple):
    """How one side is scaled: `length`, in eighths of a pixel, becomes `size` pixels.

    Of them, `wanted` are made, from `first` on.
    """

    length: int
    size: int
    first: int
    wanted: int

    @property
    def grows(self) -> bool:
        """Whether there are more new pixels than old ones."""
        return PARTS * self.size > self.length

    def flip(self) -> Span:
        """The same span, counted from the other end."""
        return self._replace(first=self.size - self.first - self.wanted)


class Taps(NamedTuple):
    """Points among old values: `rest` times the value `before` plus `part` times the one `after`, for each.

    All are (N,); `rest` + `part` is `unit`. The weights of one new pixel add up to `parts`.
    """

    before: NDArray[np.intp]
    after: NDArray[np.intp]
    rest: NDArray[np.uint32]
    part: NDArray[np.uint32]
    unit: int
    parts: int


def scale(image: NDArray[np.uint8], rows: Span, columns: Span) -> NDArray[np.uint8]:
    """Scale to the wanted part of a new size.

    `image`: uint8 (H, W, C). Returns uint8 (rows.wanted, columns.wanted, C). Each new pixel is the average
    of what it covers; along a side that grows, of the two old pixels whose centres are nearest, by distance.
    """
    height, width, channels = image.shape
    down, across = _find_taps(rows, height, 1), _find_taps(columns, width, channels)
    parts = down.parts * across.parts
    if parts == 1:  # neither side changes
        part = image[rows.first : rows.first + rows.wanted, columns.first : columns.first + columns.wanted]
        return part.copy()
    if parts % 2 and parts <= _FLOAT_SAFE_PARTS and _is_plain(rows, height) and _is_plain(columns, width):
        small = cv2.resize(image, (columns.size, rows.size), interpolation=cv2.INTER_AREA)
        return small.reshape(rows.size, columns.size, channels).astype(np.uint8, copy=False)
    if rows.wanted < rows.size or columns.wanted < columns.size:
        image, down, across = _trim(image, down, across)
    kind = np.uint32 if parts * 511 < _WRAPS_BELOW else np.int64
    sums = _sum_rows(image, down, grows=rows.grows, kind=kind)
    if columns.grows:
        sums = _weigh_columns(sums[:, channels:] - sums[:, :-channels], across)
    else:
        sums = _weigh_columns(sums, across)
        sums = sums[:, channels:] - sums[:, :-channels]
    sums *= 2
    sums += parts
    sums //= 2 * parts
    return sums.astype(np.uint8).reshape(rows.wanted, columns.wanted, channels)


def count_memory(shape: tuple[int, int, int], rows: Span, columns: Span) -> int:
    """Count the bytes that `scale` needs at most for an image (H, W, C), beside the image's own."""
    height, width, channels = shape
    row = (width + 1) * channels
    table = 5 * row * (min(height, max(_STRIP_PIXELS // width, 1)) + 1)
    stacked = 8 * row * height if rows.grows else 0
    parts = _find_taps(rows, height, 1).parts * _find_taps(columns, width, channels).parts
    kind = 4 if parts * 511 < _WRAPS_BELOW else 8
    # What is taken before and after each edge, in its own kind, and one of them as it was.
    return table + stacked + (2 * kind + 4) * row * (rows.wanted + 1)


def _is_plain(span: Span, old: int) -> bool:
    """Whether all of a side of whole pixels shrinks to all of a new one."""
    return span.length == PARTS * old and span.wanted == span.size <= old


@lru_cache(maxsize=1024)
def _find_taps(span: Span, old: int, channels: int) -> Taps:
    """The edges of the wanted new pixels in a side of `old` pixels, or where it grows, their centres.

    Each is repeated for the `channels` that stand side by side.
    """
    common = gcd(span.length, PARTS * span.size)
    step, unit = span.length // common, PARTS * span.size // common  # a new pixel is step / unit old ones
    new = np.arange(span.first, span.first + span.wanted + 1, dtype=np.int64)
    if span.grows:
        # In halves of units, from the centre of the first old pixel to that of the last.
        unit *= 2
        points = np.clip((2 * new[:-1] + 1) * step - unit // 2, 0, unit * (old - 1))
        last, parts = old - 1, unit
    else:
        points, last, parts = new * step, old, step
    points = np.repeat(points, channels)
    before, part = points // unit, (points % unit).astype(np.uint32)
    after, channel = np.minimum(before + 1, last), np.arange(len(points)) % channels
    return Taps(before * channels + channel, after * channels + channel, unit - part, part, unit, parts)


def _trim(image: NDArray[np.uint8], down: Taps, across: Taps) -> tuple[NDArray[np.uint8], Taps, Taps]:
    """Leave out the rows and columns of an image that no tap touches."""
    channels = image.shape[2]
    top, left = int(down.before[0]), int(across.before[0]) // channels
    image = image[top : down.after[-1] + 1, left : across.after[-1] // channels + 1]
    down = down._replace(before=down.before - top, after=down.after - top)
    shift = left * channels
    return image, down, across._replace(before=across.before - shift, after=across.after - shift)


def _weigh_rows(values: Sums, taps: Taps, kind: type[Any]) -> Sums:
    """The values (old, ...) at the taps, times their unit. `kind` (N, ...)."""
    before: Sums = values.take(taps.before, axis=0).astype(kind, copy=False)
    if taps.unit > 1:
        after: Sums = values.take(taps.after, axis=0).astype(kind, copy=False)
        before *= taps.rest[:, None]
        after *= taps.part[:, None]
        before += after
    return before


def _weigh_columns(values: Sums, taps: Taps) -> Sums:
    """The values (..., old) at the taps, times their unit. (..., N)."""
    before: Sums = values.take(taps.before, axis=1)
    if taps.unit > 1:
        after: Sums = values.take(taps.after, axis=1)
        before *= taps.rest
        after *= taps.part
        before += after
    return before


def _sum_rows(image: NDArray[np.uint8], taps: Taps, *, grows: bool, kind: type[Any]) -> Sums:
    """Sum each new row's part of the image, running from left to right. `kind` (rows, (W + 1) * C)."""
    height, width, channels = image.shape
    strip = max(_STRIP_PIXELS // width, 1)
    tables = ((top, _sum_area(image[top : top + strip])) for top in range(0, height, strip))
    if grows:
        return _weigh_rows(np.concatenate([table[1:] - table[:-1] for _, table in tables]), taps, kind)
    if height <= strip:
        edges = _weigh_rows(_sum_area(image), taps, kind)
        return edges[1:] - edges[:-1]
    edges = np.empty((len(taps.before), (width + 1) * channels), kind)
    above: Sums = np.zeros(edges.shape[1], kind)
    for top, table in tables:
        # The edge at the very end, past the last pixel, is the last strip's.
        first, last = np.searchsorted(taps.before, (top, top + strip + (top + strip >= height)))
        inside = Taps(
            taps.before[first:last] - top,
            taps.after[first:last] - top,
            taps.rest[first:last],
            taps.part[first:last],
            taps.unit,
            taps.parts,
        )
        edges[first:last] = _weigh_rows(table, inside, kind) + above * kind(taps.unit)
        above += table[-1].astype(kind)
    return edges[1:] - edges[:-1]


def _sum_area(image: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The summed-area table, from 0: uint32 (H + 1, (W + 1) * C)."""
    table = cv2.integral(np.ascontiguousarray(image))
    return table.reshape(len(image) + 1, -1).view(np.uint32)
