"""Write lossless WebP streams (VP8L) by hand, of any number of groups of prefix codes."""

from __future__ import annotations

import struct
from functools import cache

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]
# The order in which the lengths of the code of lengths are written.
ORDER = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)


def number(value: int, count: int) -> Bits:
    """A number of so many bits, lowest first."""
    return (value >> np.arange(count) & 1).astype(np.uint8)


def join(*parts: Bits) -> Bits:
    return np.concatenate(parts)


def pack(bits: Bits) -> bytes:
    return np.packbits(bits, bitorder="little").tobytes()


def one_symbol(symbol: int = 0) -> Bits:
    """A prefix code of one symbol, which then costs no bits."""
    return join(number(1, 2), number(symbol > 1, 1), number(symbol, 8 if symbol > 1 else 1))


def flat_code(size: int) -> Bits:
    """A code of 256 symbols of 8 bits: 8 is the only symbol of the code of lengths, which costs no bits."""
    head = [number(0, 1), number(8, 4), *(number(length == 8, 3) for length in ORDER[:12])]
    return join(*head, number(0, 1) if size == 256 else join(number(1, 1), number(3, 3), number(254, 8)))


@cache
def long_code(size: int) -> Bits:
    """A code of up to `size` symbols with second tables of 128 entries: nearly the most that there can be.

    Behind symbols of 8 bits or fewer come a chain of 9 to 15 bits, and prefixes with 128 symbols of 15 bits.
    Symbol 0 is one bit, 0.
    """
    for full in range(size // 128, -1, -1):
        runs = [*(bit for bit in range(1, 9) if 255 - full >> 8 - bit & 1), *range(9, 16)]
        left = 1 + 128 * full  # more symbols of 15 bits
        if len(runs) + left <= size:
            break
    # Each length takes five bits, and three to six times the last one take one bit and two.
    lengths = {**dict.fromkeys([*range(1, 16), 18], 5), 16: 1}
    code = make_canonical(lengths)
    out = [code[length] for length in runs]
    while left >= 3:
        out.append(join(code[16], number(min(6, left) - 3, 2)))
        left -= min(6, left)
    out += [code[15]] * left
    head = [number(0, 1), number(15, 4), *(number(lengths.get(length, 0), 3) for length in ORDER)]
    return join(*head, number(1, 1), number(7, 3), number(len(out) - 2, 16), *out)


def make_canonical(lengths: dict[int, int]) -> dict[int, Bits]:
    """The canonical prefix code of symbols with these lengths, highest bit first as in a stream."""
    found, code, last = {}, 0, 0
    for symbol, length in sorted(lengths.items(), key=lambda item: (item[1], item[0])):
        code <<= length - last
        found[symbol] = number(code, length)[::-1]
        code, last = code + 1, length
    return found


@cache
def make_group(cache_bits: int, *, long: bool) -> Bits:
    """The five codes of a group: of one symbol each, or with long tables."""
    if not long:
        return join(*[one_symbol()] * 5)
    green = 280 + (1 << cache_bits if cache_bits else 0)
    return join(*(long_code(size) for size in (green, 256, 256, 256, 40)))


def make_tiles(indices: NDArray[np.intp]) -> Bits:
    """An image of (N,) numbers of 16 bits: red is the high byte, green the low one."""
    codes = (flat_code(280), flat_code(256), one_symbol(), one_symbol(), one_symbol())
    written = np.stack([indices & 255, indices >> 8], axis=-1)[..., None] >> np.arange(7, -1, -1) & 1
    return join(number(0, 1), *codes, written.astype(np.uint8).ravel())


# A small image of one color, in no bits.
PLAIN = join(number(0, 1), *[one_symbol()] * 5)
SUBTRACT_GREEN = number(0b101, 3)


def make_transform(kind: int, tile: int) -> Bits:
    """A predictor (0) or color transform (1) of one color."""
    return join(number(1, 1), number(kind, 2), number(tile - 2, 3), PLAIN)


def make_palette(colors: int) -> Bits:
    return join(number(1, 1), number(3, 2), number(colors - 1, 8), PLAIN)


def make_stream(
    height: int,
    width: int,
    groups: int,
    *,
    cache_bits: int = 11,
    long: bool = True,
    transforms: tuple[Bits, ...] = (),
    colors: int = 256,
    tile: int = 2,
    alpha: bool = False,
) -> bytes:
    """A whole stream of a picture of one color with `groups` groups of codes, which its tiles use in turn.

    `colors`: of a palette among the transforms. `alpha`: without the header of a picture.
    """
    packed = -(-width // (1 if colors > 16 else 2 if colors > 4 else 4 if colors > 2 else 8))
    tiles = -(-height // (1 << tile)) * -(-packed // (1 << tile))
    head = [] if alpha else [number(0x2F, 8), number(width - 1, 14), number(height - 1, 14), number(0, 4)]
    head += [*transforms, number(0, 1)]
    head += [number(1, 1), number(cache_bits, 4)] if cache_bits else [number(0, 1)]
    head += [number(1, 1), number(tile - 2, 3), make_tiles(np.arange(tiles) % groups)]
    pixels = np.zeros(4 * height * packed if long else 0, np.uint8)
    return pack(join(*head, np.tile(make_group(cache_bits, long=long), groups), pixels))


def wrap_chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def wrap(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP file of these chunks."""
    return wrap_chunk(b"RIFF", b"WEBP" + b"".join(wrap_chunk(*one) for one in chunks))
