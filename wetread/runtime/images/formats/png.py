"""PNG: check every chunk's checksum and the number of pixels, and let OpenCV unfilter a rebuilt file.

libpng prints errors on standard error, and OpenCV ignores the transparency of a gray PNG. So the chunks are
read and inflated here, and the filter bytes and the length are checked. OpenCV gets a file with only the
header and the checked data; palette and transparent color are applied here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError, Status
from wetread.runtime.images.formats.header import (
    Header,
    Samples,
    Stored,
    apply_palette,
    decode_by_opencv,
    malformed,
    order_rgb,
    read_orientation,
    truncated,
    unsupported,
)
from wetread.runtime.images.limits import Footprint

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_SIDE = 1_000_000  # libpng's own
_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_CHANNELS = {_GRAY: 1, _RGB: 3, _PALETTE: 1, _GRAY_ALPHA: 2, _RGBA: 4}
_DEPTHS = {_GRAY: (1, 2, 4, 8, 16), _PALETTE: (1, 2, 4, 8)}
_ANIMATION, _ONE_FRAME = (b"acTL", b"fcTL", b"fdAT"), b"\0\0\0\1"
# Adam7: first column, first row, column step, row step.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
# Up to this size the inflated data are kept and stored uncompressed in the new file: they are inflated once.
_KEEP_BYTES = 16 << 20
_PIECE_BYTES = 1 << 20
_STRIP_PIXELS = 1 << 16


@dataclass(frozen=True)
class PngHeader(Header):
    """A PNG's header: `ihdr` as stored, PLTE and tRNS bodies, and the positions of the IDAT bodies."""

    ihdr: bytes = b""
    palette: bytes = b""
    transparency: bytes | None = None
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def depth(self) -> int:
        """The bits of a sample."""
        return self.ihdr[8]

    @property
    def kind_of_color(self) -> int:
        """PNG's color type: 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGB and alpha."""
        return self.ihdr[9]

    def count_memory(self, size: int) -> Footprint:
        """Count OpenCV's two copies; gray with alpha becomes four channels."""
        kind, sample = self.kind_of_color, 2 if self.depth == 16 else 1
        image = self.pixels * sample * (4 if kind == _GRAY_ALPHA else _CHANNELS[kind])
        rows = sum(count * length for count, length in _list_rows(self))
        kept = 5 * rows if rows <= _KEEP_BYTES else 0
        # The indices, and a palette's colors with one plane of them.
        colors = 4 * self.pixels if kind == _PALETTE else 0
        decoding = max(2 * image + max(kept - image, 0), image + colors) + 2 * size + 2 * _PIECE_BYTES
        return Footprint(decoding, max(image, colors))

    def decode(self, data: bytes) -> Samples:
        """Inflate and check the data, unfilter by OpenCV, apply palette and transparency."""
        stream = _inflate(data, self)
        # For filters and interlacing an index is the same as a gray sample of its depth.
        kind = _GRAY if self.kind_of_color == _PALETTE else self.kind_of_color
        ihdr = self.ihdr[:9] + bytes((kind,)) + self.ihdr[10:]
        png = b"".join([SIGNATURE, _chunk(b"IHDR", ihdr), stream, _chunk(b"IEND", b"")])
        del stream
        image = decode_by_opencv(png)
        if image.shape[:2] != (self.height, self.width):
            raise malformed("its size is not the one in its header")
        return _arrange(image.reshape(self.height, self.width, -1), self)


def read_png(data: bytes) -> PngHeader:
    """Walk the chunks up to IEND.

    Raises ImageError: 'truncated', 'malformed' (a wrong checksum, order or header), 'unsupported' (animated).
    """
    ihdr = palette = b""
    transparency: bytes | None = None
    orientation, spans = 1, []
    animation: list[tuple[bytes, bytes]] = []
    for name, start, end in _walk_chunks(data):
        if bool(ihdr) == (name == b"IHDR"):
            raise malformed("its header chunk is not the first, or not the only one")
        if name == b"IHDR":
            ihdr = data[start:end]
        elif name == b"PLTE":
            palette = data[start:end]
        elif name == b"tRNS":
            transparency = data[start:end]
        elif name == b"eXIf":
            orientation = read_orientation(data[start:end])
        elif name == b"IDAT":
            spans.append((start, end))
        elif name in _ANIMATION:
            animation.append((name, data[start:end]))
        elif name != b"IEND" and not name[0] & 0x20:
            raise unsupported(f"a PNG with a chunk '{name.decode('latin-1')}': save it again as plain PNG")
    _check_ihdr(ihdr)
    _check_animation(animation, ihdr)
    width, height = struct.unpack_from(">II", ihdr)
    return PngHeader("png", height, width, orientation, ihdr, palette, transparency, tuple(spans))


def _walk_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, end) of each chunk's body, with its checksum verified, including IEND."""
    at, view = len(SIGNATURE), memoryview(data)
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        end = at + 8 + size
        if end + 4 > len(data):
            break
        name = data[at + 4 : at + 8]
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise malformed(f"the checksum of a chunk is wrong, that of {name.decode('latin-1')!r}")
        yield name, at + 8, end
        if name == b"IEND":
            return
        at = end + 4
    raise truncated("it has no end chunk")


def _check_ihdr(ihdr: bytes) -> None:
    if len(ihdr) != 13:
        raise malformed("its header is damaged")
    width, height, depth, kind, compression, method, interlace = struct.unpack(">IIBBBBB", ihdr)
    if kind not in _CHANNELS or depth not in _DEPTHS.get(kind, (8, 16)):
        raise malformed("its header is damaged")
    if compression or method or interlace > 1:
        raise malformed("its header is damaged")
    if max(height, width) > MAX_SIDE:
        raise ImageError(
            Status.TOO_LARGE,
            f"A PNG may have sides of at most {MAX_SIDE:,} pixels, and this has {width:,} x {height:,}.",
        )


def _check_animation(chunks: list[tuple[bytes, bytes]], ihdr: bytes) -> None:
    """Refuse animations, except one whose only frame is the image of IDAT, at its full size.

    That frame's disposal and blending make no difference: nothing comes before or after it.
    """
    names = [name for name, _ in chunks]
    counts = [body[:4] for name, body in chunks if name == b"acTL"]
    if not counts:
        return  # not an animated PNG: decoders ignore such chunks
    if b"fdAT" in names or names.count(b"fcTL") > 1 or max(counts) > _ONE_FRAME:
        raise unsupported("an animated PNG: save the picture that counts as a PNG of its own")
    for name, body in chunks:
        if name == b"fcTL" and body[4:20] != ihdr[:8] + bytes(8):
            raise malformed("its only frame is not of its size")


def _chunk(name: bytes, body: bytes) -> bytes:
    return b"".join(
        [struct.pack(">I", len(body)), name, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))]
    )


def _list_rows(header: PngHeader) -> list[tuple[int, int]]:
    """List (rows, bytes of a row with its filter byte) of each pass that has pixels."""
    bits = header.depth * _CHANNELS[header.kind_of_color]
    passes = _PASSES if header.ihdr[12] else ((0, 0, 1, 1),)
    sizes = [
        (-(-(header.height - row) // down), -(-(header.width - column) // across))
        for column, row, across, down in passes
    ]
    return [(height, 1 + (width * bits + 7) // 8) for height, width in sizes if height > 0 and width > 0]


def _inflate(data: bytes, header: PngHeader) -> bytes:
    """Check that the data inflate to exactly the rows of the header. Returns IDAT chunks."""
    rows = _list_rows(header)
    expected = sum(count * size for count, size in rows)
    kept: list[bytes] = []
    position = 0
    for piece in _inflate_pieces(data, header.spans):
        _check_filters(piece, position, rows)
        position += len(piece)
        if position > expected:
            raise malformed("it has more pixels than its header says")
        if expected <= _KEEP_BYTES:
            kept.append(piece)
    if position < expected:
        raise truncated("it has fewer pixels than its header says")
    if kept:
        return _chunk(b"IDAT", zlib.compress(b"".join(kept), 0))
    return b"".join([data[start - 8 : end + 4] for start, end in header.spans])


def _inflate_pieces(data: bytes, spans: tuple[tuple[int, int], ...]) -> Iterator[bytes]:
    """Inflate the IDAT bodies, a bounded piece at a time, to the end of the stream and its checksum."""
    stream, view = zlib.decompressobj(), memoryview(data)
    try:
        for start, end in spans:
            rest: bytes | memoryview = view[start:end]
            while rest and not stream.eof:
                yield stream.decompress(rest, _PIECE_BYTES)
                rest = stream.unconsumed_tail
            if rest or stream.unused_data:
                raise malformed("something follows its pixels")
        yield stream.flush()
    except zlib.error as error:
        raise malformed(str(error)) from error
    if not stream.eof:
        raise truncated("its pixels end early")


def _check_filters(piece: bytes, position: int, rows: list[tuple[int, int]]) -> None:
    """Check that each row starts with the number of a filter, 0 to 4; `position` is that of the piece."""
    start = 0
    for count, size in rows:
        end = start + count * size
        first = start if position <= start else start + -(-(position - start) // size) * size
        kinds = piece[first - position : max(end - position, 0) : size] if first < end else b""
        if kinds and max(kinds) > 4:
            raise malformed("a row has an unknown filter")
        start = end


def _arrange(image: Stored, header: PngHeader) -> Samples:
    """Convert OpenCV's (H, W, 1, 3 or 4), BGR, to samples, with palette and transparent color."""
    if header.kind_of_color == _PALETTE:
        indices = image[..., 0]
        if header.depth < 8:  # OpenCV scales gray of few bits to 255
            indices //= np.uint8(255 // ((1 << header.depth) - 1))
        return Samples(apply_palette(indices, _read_palette(header)))
    if header.kind_of_color == _GRAY_ALPHA:
        return Samples(image[..., :1], image[..., 3:])
    if header.kind_of_color == _RGBA:
        image = order_rgb(image)
        return Samples(image[..., :3], image[..., 3:])
    if header.kind_of_color == _RGB:
        image = order_rgb(image)
    if header.transparency is not None:
        _blacken(image, header)
    return Samples(image)


def _read_palette(header: PngHeader) -> NDArray[np.uint8]:
    """Return the colors (N, 3) of a palette, composited over black by its tRNS."""
    colors = np.frombuffer(header.palette[: len(header.palette) // 3 * 3], np.uint8).reshape(-1, 3)
    if not 1 <= len(colors) <= 256:
        raise malformed("its palette is missing or damaged")
    alpha = np.full((len(colors), 1), 255, np.uint16)
    given = np.frombuffer((header.transparency or b"")[: len(colors)], np.uint8)
    alpha[: len(given), 0] = given
    return ((colors * alpha + 127) // 255).astype(np.uint8)


def _blacken(color: Stored, header: PngHeader) -> None:
    """Set the pixels of the one transparent color of a gray or RGB PNG to black, in place."""
    key = np.frombuffer((header.transparency or b"")[:6], ">u2")
    if len(key) < color.shape[2]:
        raise malformed("its transparent color is damaged")
    wanted = key[: color.shape[2]].astype(np.int64)
    if header.depth < 8:
        wanted = wanted * (255 // ((1 << header.depth) - 1))
    rows = max(_STRIP_PIXELS // color.shape[1], 1)
    for top in range(0, len(color), rows):
        strip = color[top : top + rows]
        strip[(strip == wanted).all(axis=2)] = 0
