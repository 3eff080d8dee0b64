"""Read a lossless WebP stream (VP8L) as far as needed to count its groups of prefix codes.

libwebp keeps tables for each group of five prefix codes, and a stream may have 65,536 of them. The entropy
image says which tile of the picture uses which group; in front of it stand the transforms, each with a small
image of its own. The format is RFC 9649.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

# Of all small images together: 16,383 x 16,383 pixels in tiles of 16 x 16 have 1 << 20 in each of three.
MAX_PIXELS = 3 << 20
# A tile is at least 1 << 2 pixels wide and high. Of more than 1,000 groups libwebp keeps those that are used.
_MIN_TILE, _MAX_GROUPS, _MAX_UNUSED = 2, 1 << 16, 1000
_MAX_CACHE_BITS, _MAX_LENGTH = 11, 15
_LITERALS, _COPIES, _DISTANCES = 256, 24, 40
_LENGTH_ORDER = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
_REPEATS = {16: (2, 3), 17: (3, 3), 18: (7, 11)}  # the bits of the count, and the smallest count
_SUBTRACT_GREEN, _PALETTE = 2, 3
_HASH = 0x1E35A7BD  # of a color, for its place in the color cache
_REFILL = 32
# The 120 shortest distances are written as places around a pixel, nearest first: columns left, rows up.
_PLACES = sorted(
    ((x, y) for y in range(8) for x in range(-7, 9) if y or x > 0),
    key=lambda place: (place[0] ** 2 + place[1] ** 2, abs(place[0]), -place[0]),
)


class DamagedStreamError(Exception):
    """The stream is damaged before its groups begin: libwebp fails on it, and keeps no tables."""


class LongHeaderError(Exception):
    """The small images have more than `MAX_PIXELS` pixels."""


class Groups(NamedTuple):
    """How many groups of prefix codes libwebp keeps, and the bits of their color cache: 0 to 11."""

    number: int
    cache_bits: int


class _Code(NamedTuple):
    """A prefix code: `table` has, for each value of the next `mask` bits, symbol << 4 | length."""

    table: list[int]
    mask: int


def bound_groups(height: int, width: int) -> Groups:
    """Return the most groups, and the largest color cache, that a picture of this size can have."""
    tiles = _divide(height, _MIN_TILE) * _divide(width, _MIN_TILE)
    return Groups(min(max(tiles, min(_MAX_UNUSED, height * width)), _MAX_GROUPS), _MAX_CACHE_BITS)


def count_groups(data: bytes, start: int, sides: tuple[int, int] | None = None) -> Groups:
    """Count the groups of prefix codes of the stream that begins at `data[start]`.

    `sides`: height and width in pixels of a stream without a header of its own (alpha); None for others.
    Raises DamagedStreamError, and LongHeaderError before more than `MAX_PIXELS` pixels are read.
    """
    bits = _Bits(data, start)
    height, width = sides or _read_sides(bits)
    width = _skip_transforms(bits, height, width)
    cache_bits = _read_cache_bits(bits)
    if not bits.read(1):
        return Groups(1, cache_bits)
    tile = _MIN_TILE + bits.read(3)
    image = _read_image(bits, _divide(height, tile), _divide(width, tile))
    used = {(pixel >> 8) % _MAX_GROUPS for pixel in image}
    count = max(used) + 1
    return Groups(count if count <= min(_MAX_UNUSED, height * width) else len(used), cache_bits)


class _Bits:
    """The bits of a stream, lowest first; zeros after its end, where `check_end` raises."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data, self._next = data, start
        self._held = self._left = 0
        self.pixels_left = MAX_PIXELS

    def _refill(self) -> None:
        block = self._data[self._next : self._next + _REFILL]
        self._held |= int.from_bytes(block, "little") << self._left
        self._left += 8 * _REFILL
        self._next += _REFILL

    def read(self, count: int) -> int:
        """Read a number of 0 to 32 bits."""
        if self._left < count:
            self._refill()
        value = self._held & ((1 << count) - 1)
        self._held >>= count
        self._left -= count
        return value

    def read_symbol(self, code: _Code) -> int:
        """Read a symbol of a prefix code."""
        if self._left < _MAX_LENGTH:
            self._refill()
        entry = code.table[self._held & code.mask]
        self._held >>= entry & 15
        self._left -= entry & 15
        return entry >> 4

    def check_end(self) -> None:
        """Raise DamagedStreamError if more bits were read than the stream has."""
        if 8 * self._next - self._left > 8 * len(self._data):
            raise DamagedStreamError


def _divide(side: int, bits: int) -> int:
    """Return how many tiles of 1 << bits pixels cover a side."""
    return (side + (1 << bits) - 1) >> bits


def _read_sides(bits: _Bits) -> tuple[int, int]:
    signature, width, height, _, version = (bits.read(count) for count in (8, 14, 14, 1, 3))
    if signature != 0x2F or version:
        raise DamagedStreamError
    return height + 1, width + 1


def _skip_transforms(bits: _Bits, height: int, width: int) -> int:
    """Skip the transforms. Return the width of the image behind them, in which a palette packs pixels."""
    seen = set()
    while bits.read(1):
        kind = bits.read(2)
        if kind in seen:
            raise DamagedStreamError
        seen.add(kind)
        if kind == _PALETTE:
            colors = 1 + bits.read(8)
            _read_image(bits, 1, colors)
            width = _divide(width, 0 if colors > 16 else 1 if colors > 4 else 2 if colors > 2 else 3)
        elif kind != _SUBTRACT_GREEN:
            tile = _MIN_TILE + bits.read(3)
            _read_image(bits, _divide(height, tile), _divide(width, tile))
    return width


def _read_cache_bits(bits: _Bits) -> int:
    if not bits.read(1):
        return 0
    cache_bits = bits.read(4)
    if not 1 <= cache_bits <= _MAX_CACHE_BITS:
        raise DamagedStreamError
    return cache_bits


def _read_image(bits: _Bits, height: int, width: int) -> list[int]:
    """Read a small image, which has one group of codes. Returns its pixels: alpha, red, green, blue."""
    size = height * width
    cache_bits = _read_cache_bits(bits)
    cached = 1 << cache_bits if cache_bits else 0
    sizes = (_LITERALS + _COPIES + cached, _LITERALS, _LITERALS, _LITERALS, _DISTANCES)
    green, red, blue, alpha, distances = (_read_code(bits, size) for size in sizes)
    bits.pixels_left -= size
    if bits.pixels_left < 0:
        raise LongHeaderError
    pixels: list[int] = []
    cache_ = _ColorCache(pixels, cache_bits)
    varies = red.mask or blue.mask or alpha.mask
    rest = 0 if varies else _read_rest(bits, red, blue, alpha)
    while len(pixels) < size:
        symbol = bits.read_symbol(green)
        if symbol < _LITERALS:
            pixels.append(symbol << 8 | (_read_rest(bits, red, blue, alpha) if varies else rest))
        elif symbol < _LITERALS + _COPIES:
            length = _read_number(bits, symbol - _LITERALS)
            distance = _read_number(bits, bits.read_symbol(distances))
            _copy(pixels, length, _measure(distance, width), size)
        else:
            pixels.append(cache_.look_up(symbol - _LITERALS - _COPIES))
    bits.check_end()
    return pixels


def _read_rest(bits: _Bits, red: _Code, blue: _Code, alpha: _Code) -> int:
    """Read the three samples that follow green; codes of one symbol take no bits."""
    return bits.read_symbol(red) << 16 | bits.read_symbol(blue) | bits.read_symbol(alpha) << 24


def _read_number(bits: _Bits, symbol: int) -> int:
    """Read the rest of a length or a distance, whose symbol gives its magnitude. Returns 1 or more."""
    if symbol < 4:
        return symbol + 1
    extra = (symbol - 2) >> 1
    return ((2 + (symbol & 1)) << extra) + bits.read(extra) + 1


def _measure(distance: int, width: int) -> int:
    """Return by how many pixels a written distance goes back in an image of this width."""
    if distance > len(_PLACES):
        return distance - len(_PLACES)
    x, y = _PLACES[distance - 1]
    return max(y * width + x, 1)


def _copy(pixels: list[int], length: int, distance: int, size: int) -> None:
    """Append `length` pixels that begin `distance` pixels before the end; they may overlap the copy."""
    if distance > len(pixels) or length > size - len(pixels):
        raise DamagedStreamError
    pattern = pixels[-distance:][:length]
    times = -(-length // len(pattern))
    pixels += (pattern * times)[:length]


class _ColorCache:
    """The pixels read so far, by a hash of their color: the last one of each hash."""

    def __init__(self, pixels: list[int], bits: int) -> None:
        self._pixels, self._shift, self._done = pixels, 32 - bits, 0
        self._colors = [0] * (1 << bits)

    def look_up(self, key: int) -> int:
        for pixel in self._pixels[self._done :]:
            self._colors[(_HASH * pixel & 0xFFFFFFFF) >> self._shift] = pixel
        self._done = len(self._pixels)
        return self._colors[key]


def _read_code(bits: _Bits, size: int) -> _Code:
    """Read a prefix code for symbols below `size`."""
    if bits.read(1):
        both, wide = bits.read(1), bits.read(1)
        symbols = {bits.read(8 if wide else 1)} | ({bits.read(8)} if both else set())
        code = _make_code([int(symbol in symbols) for symbol in range(size)])
    else:
        lengths = [0] * len(_LENGTH_ORDER)
        for symbol in _LENGTH_ORDER[: 4 + bits.read(4)]:
            lengths[symbol] = bits.read(3)
        code = _make_code(_read_lengths(bits, _make_code(lengths), size))
    bits.check_end()
    return code


def _read_lengths(bits: _Bits, code: _Code, size: int) -> list[int]:
    """Read how many bits each symbol of a prefix code has; 0 for those that it lacks."""
    left = 2 + bits.read(2 + 2 * bits.read(3)) if bits.read(1) else size
    if left > size:
        raise DamagedStreamError
    lengths: list[int] = []
    last = 8
    while left and len(lengths) < size:
        left -= 1
        symbol = bits.read_symbol(code)
        if symbol <= _MAX_LENGTH:
            lengths.append(symbol)
            last = symbol or last
        else:
            extra, least = _REPEATS[symbol]
            lengths += [last if symbol == 16 else 0] * (least + bits.read(extra))
    if len(lengths) > size:
        raise DamagedStreamError
    return lengths


def _make_code(lengths: Sequence[int]) -> _Code:
    """Make the canonical prefix code of symbols with these lengths, in bits; 0 for no symbol."""
    used = np.flatnonzero(lengths)
    if len(used) == 1:
        return _Code([int(used[0]) << 4], 0)
    sizes = np.asarray(lengths)[used]
    order = np.argsort(sizes, kind="stable")
    used, sizes = used[order], sizes[order]
    longest = int(sizes.max(initial=0))
    spans = 1 << (longest - sizes)
    if spans.sum() != 1 << longest or not longest:
        raise DamagedStreamError
    table = np.repeat(used << 4 | sizes, spans)[_reverse_bits(longest)]
    return _Code(table.tolist(), (1 << longest) - 1)


@cache
def _reverse_bits(bits: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return each number of so many bits with its bits in reverse."""
    reverse = np.zeros(1, np.intp)
    for _ in range(bits):
        reverse = np.concatenate([2 * reverse, 2 * reverse + 1])
    return reverse
