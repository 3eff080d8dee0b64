"""WebP: check the chunks before libwebp decodes them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from wetread.errors import ImageError, Status
from wetread.runtime.images.formats.header import (
    Header,
    Samples,
    decode_by_opencv,
    malformed,
    order_rgb,
    read_orientation,
    truncated,
    unsupported,
)
from wetread.runtime.images.formats.vp8l import (
    DamagedStreamError,
    Groups,
    LongHeaderError,
    bound_groups,
    count_groups,
)
from wetread.runtime.images.limits import MAX_MEMORY, Footprint

_ANIMATED, _HAS_ALPHA = 2, 0x10
# libwebp's longest tables of a group: four codes, and the one of green, which a color cache of 0 to 11 bits
# enlarges. An entry has 4 bytes. Beside them are pointers, and a table of 64 packed entries of 8 bytes.
_TABLES = 3 * 630 + 410
_GREEN_TABLES = (654, 656, 658, 662, 670, 686, 718, 782, 912, 1168, 1680, 2704)
_ENTRY_BYTES, _GROUP_BYTES = 4, 56 + 64 * 8
# Of so many bits, the shortest groups take the most: 20 bits each, and 256 entries for each of five codes. A
# code with more entries states a length of 9 bits or more, in at least 58 bits, and its group has 74.
_SHORTEST_BITS, _SHORTEST_BYTES = 20, _GROUP_BYTES + 5 * 256 * _ENTRY_BYTES
_ALPHA_LOSSLESS = 1
_FRAME_HEADER = 16  # left, top, width, height, duration: three bytes each; flags


@dataclass(frozen=True)
class WebpHeader(Header):
    """A WebP's header; for an animation of one frame also that frame's chunks (name, start, end).

    `lossless`: pixels or alpha may be lossless. `tables`: the bytes of the tables that this needs at most.
    """

    frame: tuple[tuple[bytes, int, int], ...] = ()
    lossless: bool = False
    tables: int = 0

    def count_memory(self, size: int) -> Footprint:
        """Count libwebp's pixels, alpha and tables, the image and its copy."""
        if not self.lossless:
            return Footprint(7 * self.pixels + 2 * size, 3 * self.pixels)
        return Footprint(11 * self.pixels + self.tables + 2 * size, 4 * self.pixels)

    def bound_tables(self, data: bytes, max_memory: int) -> WebpHeader:
        """Return a header that counts the tables of a lossless stream.

        As long as `max_memory` bytes are enough for the longest tables that a file of this size can ask for,
        those are counted, and no time is spent on reading the stream. None is spent on a picture that is too
        large without them.
        """
        worst = replace(self, tables=_count_tables(bound_groups(self.height, self.width), len(data)))
        if self.count_memory(len(data)).decoding > max_memory:
            return self
        if worst.count_memory(len(data)).decoding <= max_memory:
            return worst
        still = self._make_still(data) if self.frame else data
        streams = list(_find_lossless(still, (self.height, self.width)))
        if len(streams) > 1:
            return worst
        try:
            groups = [count_groups(still, *one) for one in streams]
            return replace(self, tables=sum(_count_tables(one, len(data)) for one in groups))
        except LongHeaderError:
            return worst
        except DamagedStreamError:
            return self  # its decoder says so before it makes tables

    def decode(self, data: bytes) -> Samples:
        """Decode with OpenCV (libwebp), which fails on a damaged stream. Raises ImageError('malformed')."""
        image = decode_by_opencv(self._make_still(data) if self.frame else data)
        if image.ndim != 3 or image.shape[:2] != (self.height, self.width):
            raise malformed("its size is not the one in its header")
        image = order_rgb(image)
        return Samples(image[..., :3], image[..., 3:] if image.shape[2] == 4 else None)

    def _make_still(self, data: bytes) -> bytes:
        """Return the only frame as a separate WebP file."""
        sides = b"".join((side - 1).to_bytes(3, "little") for side in (self.width, self.height))
        chunks = [_chunk(name, data[start:end]) for name, start, end in self.frame]
        if any(name == b"ALPH" for name, _, _ in self.frame):
            chunks.insert(0, _chunk(b"VP8X", bytes((_HAS_ALPHA, 0, 0, 0)) + sides))
        return _chunk(b"RIFF", b"".join((b"WEBP", *chunks)))


def read_webp(data: bytes, *, max_memory: int = MAX_MEMORY) -> WebpHeader:
    """Read the RIFF chunks, and more of a lossless stream whose tables may need more than `max_memory` bytes.

    Raises ImageError: 'truncated', 'malformed', 'unsupported', 'not_an_image'.
    """
    if data[8:12] not in (b"WEBP", b""):
        raise ImageError(Status.NOT_AN_IMAGE, "The file is a RIFF file, but not a WebP image.")
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise truncated("its data end early")
    chunks = list(_walk_chunks(data, 12, size + 8))
    frame: tuple[tuple[bytes, int, int], ...] = ()
    sides: tuple[int, int] | None = None
    orientation = 1
    for name, start, end in chunks:
        if name == b"EXIF":
            orientation = read_orientation(data[start:end])
        elif name in _SIDES and sides is None:
            sides = _SIDES[name](data, start)
    if any(name == b"ANMF" or (name == b"VP8X" and data[start] & _ANIMATED) for name, start, _ in chunks):
        frame = _find_frame(data, chunks, sides)
    if sides is None:
        raise malformed("it has no picture")
    lossless = any(name in (b"VP8L", b"ALPH", b"ANMF") for name, _, _ in chunks)
    header = WebpHeader("webp", *sides, orientation, frame, lossless)
    return header.bound_tables(data, max_memory) if lossless else header


def _count_tables(groups: Groups, size: int) -> int:
    """Count the bytes of libwebp's tables for so many groups in a file of `size` bytes."""
    longest = _GROUP_BYTES + _ENTRY_BYTES * (_TABLES + _GREEN_TABLES[groups.cache_bits])
    return min(groups.number * longest, 8 * size * _SHORTEST_BYTES // _SHORTEST_BITS)


def _find_lossless(still: bytes, sides: tuple[int, int]) -> Iterator[tuple[int, tuple[int, int] | None]]:
    """Yield where each lossless stream of a still WebP starts, and its size where it has none of its own.

    Its end is not told: libwebp reads on behind the chunk.
    """
    (size,) = struct.unpack_from("<I", still, 4)
    for name, start, end in _walk_chunks(still, 12, size + 8):
        if name == b"VP8L":
            yield start, None
        elif name == b"ALPH" and end > start and still[start] & 3 == _ALPHA_LOSSLESS:
            yield start + 1, sides


def _find_frame(
    data: bytes, chunks: list[tuple[bytes, int, int]], canvas: tuple[int, int] | None
) -> tuple[tuple[bytes, int, int], ...]:
    """Return the chunks of an animation's only frame, which must cover its canvas.

    Around a smaller frame, viewers differ. The frame's disposal and blending make no difference: nothing
    comes before or after it.
    """
    frames = [(start, end) for name, start, end in chunks if name == b"ANMF"]
    if len(frames) > 1:
        raise unsupported("an animated WebP: save the picture that counts as a file of its own")
    if not frames or canvas is None or any(name in (b"VP8 ", b"VP8L") for name, _, _ in chunks):
        raise malformed("its header says that it is animated, but it has no frames")
    start, end = frames[0]
    left, top, width, height = (
        int.from_bytes(data[start + at : start + at + 3], "little") for at in (0, 3, 6, 9)
    )
    if (left, top, height + 1, width + 1) != (0, 0, *canvas):
        raise unsupported(
            "an animated WebP with a frame smaller than it: save that frame as a file of its own"
        )
    inner = list(_walk_chunks(data, start + _FRAME_HEADER, end))
    picture = tuple(chunk for chunk in inner if chunk[0] in (b"ALPH", b"VP8 ", b"VP8L"))
    if not any(name in _SIDES and _SIDES[name](data, at) == canvas for name, at, _ in picture):
        raise malformed("its frame has no picture of its size")
    return picture


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _walk_chunks(data: bytes, at: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, end) of each chunk's body, from `at` to `stop`."""
    while at + 8 <= stop:
        (length,) = struct.unpack_from("<I", data, at + 4)
        if at + 8 + length > stop:
            raise malformed("a chunk ends early")
        yield data[at : at + 4], at + 8, at + 8 + length
        at += 8 + length + length % 2


def _read_canvas(data: bytes, at: int) -> tuple[int, int]:
    width = 1 + int.from_bytes(data[at + 4 : at + 7], "little")
    return 1 + int.from_bytes(data[at + 7 : at + 10], "little"), width


def _read_lossless(data: bytes, at: int) -> tuple[int, int]:
    (packed,) = struct.unpack_from("<I", data, at + 1)
    return 1 + (packed >> 14 & 0x3FFF), 1 + (packed & 0x3FFF)


def _read_lossy(data: bytes, at: int) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, at + 6)
    return height & 0x3FFF, width & 0x3FFF


_SIDES = {b"VP8X": _read_canvas, b"VP8L": _read_lossless, b"VP8 ": _read_lossy}
