"""TIFF: one page, 1 to 16 bits, gray, RGB or palette, in strips or tiles, plain or losslessly compressed.

numpy arranges the samples. zlib inflates Deflate; libtiff, which is in OpenCV, unpacks LZW and PackBits. It
gets each block as a separate gray TIFF, because OpenCV's reading of a whole file rotates, inverts, multiplies
and crops by rules that change between versions.
"""

from __future__ import annotations

import struct
import sys
import zlib
from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError
from wetread.runtime.images.formats.header import (
    Header,
    Samples,
    Stored,
    apply_palette,
    decode_by_opencv,
    malformed,
    truncated,
    unpack_bits,
    unsupported,
    valid_orientation,
)
from wetread.runtime.images.limits import Footprint

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL = 254, 256, 257, 258, 259, 262, 266
_OFFSETS, _ORIENTATION, _CHANNELS, _ROWS, _COUNTS, _PLANAR, _PREDICTOR = 273, 274, 277, 278, 279, 284, 317
_COLORMAP, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _EXTRA, _FORMAT = (
    320, 322, 323, 324, 325, 338, 339,
)  # fmt: skip
_DEFAULTS = {_BITS: 1, _COMPRESSION: 1, _CHANNELS: 1, _PLANAR: 1, _PREDICTOR: 1, _FILL: 1, _FORMAT: 1}
_PLACES = (_OFFSETS, _COUNTS, _TILE_OFFSETS, _TILE_COUNTS)
# Each block is a call of a decoder, and their list is kept in memory.
_MAX_BLOCKS, _BYTES_PER_PLACE = 1 << 18, 200
# For tags that are not lists of offsets: a palette of 8 bits.
_MAX_VALUES = 3 << 8
# Tiles may extend past the image, and overlap in the file, as much as regular writers do.
_MAX_SPARE, _SPARE_PIXELS, _SPARE_BYTES = 16, 1 << 26, 1 << 26
_READ = {
    *_DEFAULTS, _SUBFILE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _OFFSETS, _ORIENTATION, _ROWS, _COUNTS, _COLORMAP,
    _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _EXTRA,
}  # fmt: skip
_NONE, _LZW, _DEFLATE, _OLD_DEFLATE, _PACKBITS = 1, 5, 8, 32946, 32773
_PREDICTED = (_LZW, _DEFLATE, _OLD_DEFLATE)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = 0, 1, 2, 3
_NOT_PAGES = 1 | 4  # a reduced copy, a transparency mask
_MAX_DIRECTORIES = 64
_NUMBERS = {1: "B", 3: "H", 4: "I"}
# The size in bytes of each of TIFF's types.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_OPENCV_MAX_WIDTH = 1 << 20

Tags = dict[int, tuple[int, ...]]


@dataclass(frozen=True)
class TiffHeader(Header):
    """A TIFF's header: its byte order (`<` or `>`), and its one page's whole-number tags and directory."""

    order: str = "<"
    tags: Tags = field(default_factory=dict)
    directory: int = 0

    def get(self, tag: int) -> int:
        """The first value of a tag, or its default."""
        return self.tags.get(tag, (_DEFAULTS.get(tag, 0),))[0]

    def count_memory(self, size: int) -> Footprint:
        """Count the image, its colors if it has a palette, and what unpacking one strip or tile needs."""
        sample = 2 if self.get(_BITS) == 16 else 1
        image = self.pixels * self.get(_CHANNELS) * sample
        height, width = _block_sides(self)
        planes = 1 if self.get(_PLANAR) == 2 else self.get(_CHANNELS)
        block = height * width * planes * sample
        places = sum(len(self.tags.get(tag, ())) for tag in _PLACES)
        colors = 4 * self.pixels if self.get(_PHOTOMETRIC) == _PALETTE else 0
        decoding = image + max(4 * block + 3 * size, colors) + _BYTES_PER_PLACE * places
        return Footprint(decoding, max(image, colors))

    def decode(self, data: bytes) -> Samples:
        """Unpack and arrange the blocks; split off alpha, look up the palette."""
        bits, photometric = self.get(_BITS), self.get(_PHOTOMETRIC)
        image = _arrange_blocks(data, self)
        if photometric == _PALETTE:
            return Samples(apply_palette(image[..., 0], _read_colormap(self)))
        if bits < 8:
            image *= np.uint8(255 // ((1 << bits) - 1))
        base = 3 if photometric == _RGB else 1
        # 1 is color already multiplied by alpha, 0 is unspecified: both are left as they are.
        alpha = image[..., base:] if self.get(_EXTRA) == 2 and image.shape[2] > base else None
        return Samples(image[..., :base], alpha, photometric == _WHITE_IS_ZERO)


def read_tiff(data: bytes) -> TiffHeader:
    """Read the directories.

    Raises ImageError: 'truncated', 'malformed', or 'unsupported' (several pages, floats, ...).
    """
    order = "<" if data[:2] == b"II" else ">"
    pages, doubt = _read_pages(data, order)
    if len(pages) > 1:
        raise unsupported("a TIFF of several pages: save the page that counts as a file of its own")
    if not pages:
        raise doubt or malformed("it has no page")
    ((at, tags),) = pages
    height, width = (tags.get(tag, (0,))[0] for tag in (_HEIGHT, _WIDTH))
    orientation = valid_orientation(tags.get(_ORIENTATION, (1,))[0])
    header = TiffHeader("tiff", height, width, orientation, order, tags, at)
    _check_kind(header)
    _check_blocks(header, len(data))
    # One byte may pad the file to an even size.
    if doubt and len(data) > _find_end(data, header) + 1:
        raise doubt
    return header


def _read_pages(data: bytes, order: str) -> tuple[list[tuple[int, Tags]], ImageError | None]:
    """Return (position, tags) of each page's directory, and why a directory after the first is invalid.

    Some writers leave garbage instead of the next directory's position. Such a file differs from a cut file
    of several pages in its size: nothing else is in it.
    """
    (at,) = struct.unpack_from(order + "I", data, 4)
    pages: list[tuple[int, Tags]] = []
    seen: set[int] = set()
    while at and at not in seen and len(seen) < _MAX_DIRECTORIES:
        seen.add(at)
        try:
            tags, after = _read_directory(data, at, order)
        except struct.error:
            return pages, truncated("its directory ends early")
        except ImageError as error:
            return pages, error
        if not tags.get(_SUBFILE, (0,))[0] & _NOT_PAGES:
            if pages and not {_WIDTH, _HEIGHT} <= set(tags):
                return pages, malformed("a page has no size")
            pages.append((at, tags))
            if len(pages) > 1:
                return pages, None
        at = after
    return pages, None


def _find_end(data: bytes, header: TiffHeader) -> int:
    """Return the end of the page's directory, its values and its strips or tiles."""
    (count,) = struct.unpack_from(header.order + "H", data, header.directory)
    first = header.directory + 2
    end: int = first + 12 * count + 4
    for entry in range(first, first + 12 * count, 12):
        _, kind, length, at = struct.unpack_from(header.order + "HHII", data, entry)
        size = _SIZES.get(kind, 1) * length
        end = max(end, at + size if size > 4 else 0)
    return max(end, *(at + count for at, count in _block_places(header, len(data))))


def _read_directory(data: bytes, at: int, order: str) -> tuple[Tags, int]:
    """Read one image file directory: its whole-number tags, and the position of the next one (0: none)."""
    (count,) = struct.unpack_from(order + "H", data, at)
    tags: Tags = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from(order + "HHI", data, entry)
        letter = _NUMBERS.get(kind)
        # If a tag is there twice, the first one counts, as in libtiff.
        if letter is None or not length or tag not in _READ or tag in tags:
            continue
        start = entry + 8
        if struct.calcsize(letter) * length > 4:
            (start,) = struct.unpack_from(order + "I", data, start)
        if start + struct.calcsize(letter) * length > len(data):
            raise truncated("its directory ends early")
        if length > _MAX_BLOCKS and tag in _PLACES:
            raise unsupported(f"a TIFF of {length:,} strips or tiles: save it with larger ones")
        length = length if tag in _PLACES else min(length, _MAX_VALUES + 1)
        tags[tag] = struct.unpack_from(f"{order}{length}{letter}", data, start)
    return tags, struct.unpack_from(order + "I", data, at + 2 + 12 * count)[0]


def _check_kind(header: TiffHeader) -> None:
    """Refuse, by name, features that this module does not read."""
    bits, channels, photometric = (header.get(tag) for tag in (_BITS, _CHANNELS, _PHOTOMETRIC))
    base = 3 if photometric == _RGB else 1
    depths = {_RGB: (8, 16), _PALETTE: (1, 2, 4, 8)}.get(photometric, (1, 2, 4, 8, 16))
    wrong = [
        name
        for name, right in (
            (f"compression {header.get(_COMPRESSION)}", header.get(_COMPRESSION) in _UNPACKERS),
            (f"color space {photometric}", photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE)),
            (f"{bits} bits", bits in depths and len(set(header.tags.get(_BITS, (1,)))) == 1),
            (f"{channels} channels", channels in (base, base + (photometric != _PALETTE))),
            ("signed or floating-point samples", set(header.tags.get(_FORMAT, (1,))) <= {1, 4}),
            (f"predictor {header.get(_PREDICTOR)}", header.get(_PREDICTOR) == 1 or _has_predictor(header)),
            (f"fill order {header.get(_FILL)}", header.get(_FILL) in (1, 2)),
            (f"planes {header.get(_PLANAR)}", header.get(_PLANAR) in (1, 2)),
        )
        if not right
    ]
    if wrong:
        raise unsupported(f"a TIFF with {', '.join(wrong)}: save it as PNG")


def _has_predictor(header: TiffHeader) -> bool:
    return header.get(_PREDICTOR) == 2 and header.get(_BITS) >= 8


def _block_sides(header: TiffHeader) -> tuple[int, int]:
    """Return (height, width) of a full strip or tile."""
    if _TILE_WIDTH in header.tags:
        return header.get(_TILE_HEIGHT), header.get(_TILE_WIDTH)
    rows = header.tags.get(_ROWS, (header.height,))[0]
    return min(rows, header.height), header.width


def _block_places(header: TiffHeader, size: int) -> list[tuple[int, int]]:
    """Return (offset, bytes) of each strip or tile in a file of `size` bytes.

    The size of an uncompressed block is known, so its entry may be missing or too large, as in libtiff. If
    the size of a compressed block is missing, it extends to the next block or to the file's end.
    """
    tags = (_TILE_OFFSETS, _TILE_COUNTS) if _TILE_WIDTH in header.tags else (_OFFSETS, _COUNTS)
    offsets, counts = (header.tags.get(tag, ()) for tag in tags)
    plain = header.get(_COMPRESSION) == _NONE
    if not any(counts):
        starts = sorted({*offsets, header.directory, size})
        ends = [starts[bisect_right(starts, offset)] if 8 <= offset < size else offset for offset in offsets]
        counts = tuple(end - offset for end, offset in zip(ends, offsets, strict=True))
    places = list(zip(offsets, counts, strict=False))
    if not plain:
        return places
    height, width = _block_sides(header)
    channels = 1 if header.get(_PLANAR) == 2 else header.get(_CHANNELS)
    whole = height * ((width * channels * header.get(_BITS) + 7) // 8)
    return [(at, max(min(count, size - at, whole), 0)) for at, count in places]


def _check_blocks(header: TiffHeader, size: int) -> None:
    """Check the list of strips or tiles against the size of the image and of the file."""
    height, width = _block_sides(header)
    if not height or not width or height * width > 4 * header.height * header.width + (1 << 20):
        raise malformed("its strips or tiles have no sensible size")
    planes = header.get(_CHANNELS) if header.get(_PLANAR) == 2 else 1
    wanted = -(-header.height // height) * -(-header.width // width) * planes
    places = _block_places(header, size)
    if len(places) != wanted:
        raise malformed(f"it has {len(places)} strips or tiles of {wanted}")
    if any(offset + count > size for offset, count in places):
        raise truncated("its pixels end early")
    if wanted * height * width > _MAX_SPARE * header.pixels + _SPARE_PIXELS:
        raise malformed("its strips or tiles have no sensible size")
    if sum(count for _, count in places) > _MAX_SPARE * size + _SPARE_BYTES:
        raise malformed("its strips or tiles overlap")


def _arrange_blocks(data: bytes, header: TiffHeader) -> Stored:
    """Unpack every strip or tile into uint8 or uint16 (H, W, channels)."""
    channels, bits = header.get(_CHANNELS), header.get(_BITS)
    image = np.empty((header.height, header.width, channels), np.uint16 if bits == 16 else np.uint8)
    planar = header.get(_PLANAR) == 2
    height, width = _block_sides(header)
    places = iter(_block_places(header, len(data)))
    for plane in range(channels) if planar else (slice(None),):
        for top in range(0, header.height, height):
            rows = height if _TILE_WIDTH in header.tags else min(height, header.height - top)
            for left in range(0, header.width, width):
                offset, count = next(places)
                part = image[top : top + height, left : left + width, plane]
                block = _read_block(data[offset : offset + count], header, (rows, width))
                block = block[: part.shape[0], : part.shape[1]]
                part[...] = block[..., 0] if planar else block
    return image


def _read_block(packed: bytes, header: TiffHeader, sides: tuple[int, int]) -> Stored:
    """Read one strip or tile: uint8 or uint16 (rows, width, channels)."""
    (height, width), bits = sides, header.get(_BITS)
    channels = 1 if header.get(_PLANAR) == 2 else header.get(_CHANNELS)
    row = (width * channels * bits + 7) // 8
    if header.get(_FILL) == 2:
        packed = packed.translate(_REVERSED)  # before unpacking and at any depth, as in libtiff
    raw = _UNPACKERS[header.get(_COMPRESSION)](packed, (height, row), header.get(_COMPRESSION))
    if len(raw) < height * row:
        raise truncated("a strip or tile has too few pixels")
    rows = np.frombuffer(raw, np.uint8, height * row).reshape(height, row)
    block: Stored
    if bits == 16:
        block = rows.view(header.order + "u2").astype(np.uint16)
    else:
        block = unpack_bits(rows, bits, width * channels)
    block = block.reshape(height, width, channels)
    # As in libtiff, a predictor belongs to LZW and Deflate; with any other compression the tag is ignored.
    predicted = header.get(_PREDICTOR) == 2 and header.get(_COMPRESSION) in _PREDICTED
    return np.cumsum(block, axis=1, dtype=block.dtype) if predicted else block


def _copy(packed: bytes, sides: tuple[int, int], compression: int) -> bytes:
    return packed


def _inflate(packed: bytes, sides: tuple[int, int], compression: int) -> bytes:
    """Inflate as much as the block needs; if the stream ends there, its checksum must be right."""
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(packed, sides[0] * sides[1])
        more = stream.decompress(stream.unconsumed_tail, 1) if not stream.eof else b""
    except zlib.error as error:
        raise malformed(str(error)) from error
    if not stream.eof and not more:
        raise truncated("a strip or tile ends early")
    return raw


def _unpack_by_opencv(packed: bytes, sides: tuple[int, int], compression: int) -> bytes:
    """Unpack LZW or PackBits. OpenCV reads 16-bit samples strictly, but invents missing 8-bit samples.

    So bytes are read in pairs. If their number is odd, the last one (in a block above 2 MB: the last row) is
    read as 8 bits.
    """
    height, row = sides
    size = height * row
    if size // 2 <= _OPENCV_MAX_WIDTH:
        shape = (1, size // 2)
    else:
        shape = (height, row // 2) if row % 2 == 0 else (height // 2, row)
    strict = _decode_gray(packed, shape, (16, compression)) if size > 1 else b""
    if len(strict) == size:
        return strict
    return strict + _decode_gray(packed, sides, (8, compression))[len(strict) :]


def _decode_gray(packed: bytes, shape: tuple[int, int], kind: tuple[int, int]) -> bytes:
    """Decode a block as a gray TIFF of `shape` (height, width) and `kind` (bits, compression)."""
    native = "<" if sys.byteorder == "little" else ">"
    entries = (
        (_WIDTH, shape[1]), (_HEIGHT, shape[0]), (_BITS, kind[0]), (_COMPRESSION, kind[1]),
        (_PHOTOMETRIC, _BLACK_IS_ZERO), (_OFFSETS, 8 + 2 + 9 * 12 + 4), (_CHANNELS, 1), (_ROWS, shape[0]),
        (_COUNTS, len(packed)),
    )  # fmt: skip
    start = (b"II*\0" if native == "<" else b"MM\0*") + struct.pack(native + "IH", 8, len(entries))
    tags = b"".join(struct.pack(native + "HHII", tag, 4, 1, value) for tag, value in entries)
    file = start + tags + bytes(4) + packed
    try:
        image = decode_by_opencv(file)
    except ImageError as error:
        # LZW and PackBits have no checksum: nearly always libtiff fails because pixels are missing.
        raise truncated("a strip or tile ends early") from error
    if image.shape != shape or image.itemsize * 8 != kind[0]:
        raise truncated("a strip or tile ends early")
    return image.tobytes()


_UNPACKERS = {
    _NONE: _copy,
    _LZW: _unpack_by_opencv,
    _DEFLATE: _inflate,
    _OLD_DEFLATE: _inflate,
    _PACKBITS: _unpack_by_opencv,
}


def _read_colormap(header: TiffHeader) -> NDArray[np.uint8]:
    """Return the colors (N, 3) of a palette: 16 bits each, or 8 in files of careless writers."""
    values = np.array(header.tags.get(_COLORMAP, ()), np.int64)
    if len(values) != 3 << header.get(_BITS):
        raise malformed("its palette is missing or damaged")
    table = values.reshape(3, -1).T
    return (table >> 8 if int(table.max()) > 255 else table).astype(np.uint8)
