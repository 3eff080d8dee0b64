"""Damage image files in every way, from a seed, and read them: the fuzz campaign's own process.

`python -m tests.runtime.mutations FIRST COUNT` reads COUNT damaged files and prints a line of JSON for each,
flushed before the next is read: if a decoder kills the process, the line that is missing names the file.
"""

from __future__ import annotations

import json
import random
import re
import struct
import sys
import time
import zlib
from functools import cache

from tests.memory import read_peak
from tests.runtime.corpus import chunk, draw_corpus, find_segment
from wetread.errors import ImageError
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe

_RECIPES = (
    PixelRecipe(),
    PixelRecipe(color="rgb", height=40, width=24, resize="crop", equalize="histogram"),
    PixelRecipe(color="rgb", height=16, width=8, resize="fit", scaled_decoding=0),
    PixelRecipe(height=8, width=8, orientation="ignore"),
)
_ODD_SIDES = (0, 1, 7, 36, 38, 52, 54, 255, 256, 4096, 16383, 16384, 30000, 65500, 65535)
_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"eXIf", b"IEND")


@cache
def read_corpus() -> dict[str, bytes]:
    """The whole files, drawn once."""
    return draw_corpus()


def mutate(number: int) -> tuple[str, str, bytes]:
    """The `number`th damaged file: its kind, how it was damaged, and its bytes."""
    chance = random.Random(number)
    corpus = read_corpus()
    name = chance.choice(sorted(corpus))
    way = chance.choice(_WAYS)
    data = way(corpus[name], chance)
    if name.startswith("png") and chance.random() < 0.5:
        data = mend_png(data)
    return name, way.__name__, data


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def cut_and_close(data: bytes, chance: random.Random) -> bytes:
    return cut(data, chance) + chance.choice((b"\xff\xd9", chunk(b"IEND", b"")))


def cut_out(data: bytes, chance: random.Random) -> bytes:
    start, end = sorted(chance.randrange(len(data)) for _ in range(2))
    return data[:start] + data[end:]


def repeat(data: bytes, chance: random.Random) -> bytes:
    start, end = sorted(chance.randrange(len(data)) for _ in range(2))
    return data[:end] + data[start:]


def flip_bits(data: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def change_bytes(data: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 3, 30))):
        damaged[chance.randrange(len(data))] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
    return bytes(damaged)


def change_header(data: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 3))):
        damaged[chance.randrange(min(len(data), 128))] = chance.randrange(256)
    return bytes(damaged)


def blank_range(data: bytes, chance: random.Random) -> bytes:
    start, end = sorted(chance.randrange(len(data)) for _ in range(2))
    return data[:start] + bytes((chance.choice((0, 255)),)) * (end - start) + data[end:]


def cross_headers(data: bytes, chance: random.Random) -> bytes:
    other = chance.choice(sorted(read_corpus().values()))
    size = chance.choice((2, 4, 8, 12, 26, 33, 64, 160))
    return other[:size] + data[size:]


def lie_about_size(data: bytes, chance: random.Random) -> bytes:
    """Other sides, or one other number of the header, in the place where the format keeps it."""
    height, width = chance.choice(_ODD_SIDES), chance.choice((53, *_ODD_SIDES))
    if data.startswith(b"\x89PNG"):
        return mend_png(data[:16] + struct.pack(">II", width, height) + data[24:])
    if data.startswith(b"\xff\xd8"):
        at = find_segment(data, 0xC2 if b"\xff\xc2" in data else 0xC0)
        return data[: at + 5] + struct.pack(">HH", height & 65535, width & 65535) + data[at + 9 :]
    if data.startswith(b"BM"):
        return data[:18] + struct.pack("<ii", width, chance.choice((height, -height))) + data[26:]
    if data.startswith(b"P"):
        return re.sub(rb"53 37", b"%d %d" % (width, height), data)
    if data.startswith(b"RIFF"):
        size = chance.choice((len(data) - 8, chance.randrange(1 << 32)))
        return data[:4] + struct.pack("<I", size) + data[8:24] + chance.randbytes(6) + data[30:]
    at, order = struct.unpack_from("<I" if data[:2] == b"II" else ">I", data, 4)[0], data[:2]
    entry = at + 2 + 12 * chance.randrange(data[at] or data[at + 1]) + 8
    return data[:entry] + struct.pack("<I" if order == b"II" else ">I", height) + data[entry + 4 :]


def mend_png(data: bytes) -> bytes:
    """Correct each chunk's checksum, so that damage reaches what lies behind it."""
    at, out = 8, [data[:8]]
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + size]
        out += [data[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + size
    return b"".join(out) + data[at:]


_WAYS = (
    cut, cut_and_close, cut_out, repeat, flip_bits, change_bytes, change_header, blank_range, cross_headers,
    lie_about_size, lie_about_size,
)  # fmt: skip


def read_status(data: bytes, number: int) -> str:
    """'ok', or the status of the ImageError; any other exception passes."""
    recipe = _RECIPES[number % len(_RECIPES)]
    try:
        image = read_pixels(data, recipe)
    except ImageError as error:
        assert "A fault of wetread" not in str(error)  # which scoring would take for one bad file
        return error.status
    assert (image.shape, image.dtype.name) == (recipe.shape, "uint8")
    return "ok"


def main(first: int, count: int) -> None:
    """Read each damaged file and print what came of it."""
    for number in range(first, first + count):
        name, way, data = mutate(number)
        start = time.perf_counter()
        status = read_status(data, number)
        seconds = time.perf_counter() - start
        line = {"number": number, "name": name, "way": way, "status": status}
        line |= {"seconds": seconds, "peak": read_peak()}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
