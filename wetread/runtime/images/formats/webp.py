"""WebP: its chunks, read before libwebp sees them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from wetread.errors import ImageError
from wetread.runtime.images.formats.header import (
    Header,
    Samples,
    decode_by_opencv,
    order_rgb,
    read_orientation,
    truncated,
    unsupported,
)

_ANIMATED = 2


@dataclass(frozen=True)
class WebpHeader(Header):
    """A WebP's header."""

    def decode(self, data: bytes) -> Samples:
        """Decode by OpenCV (libwebp), which gives up on a cut or damaged stream."""
        image = decode_by_opencv(data)
        if image.ndim != 3 or image.shape[:2] != (self.height, self.width):
            raise truncated("its size is not the one in its header")
        image = order_rgb(image)
        return Samples(image[..., :3], image[..., 3:] if image.shape[2] == 4 else None)


def read_webp(data: bytes) -> WebpHeader:
    """Read the RIFF chunks. Raises ImageError: 'truncated', 'unsupported' (animated), 'not_an_image'."""
    if data[8:12] not in (b"WEBP", b""):
        raise ImageError("not_an_image", "Expected an image. Received a RIFF file of another kind.")
    sides: tuple[int, int] | None = None
    orientation = 1
    for name, start, end in _walk_chunks(data):
        if name in (b"ANIM", b"ANMF") or (name == b"VP8X" and data[start] & _ANIMATED):
            raise unsupported("an animated WebP: save the picture that counts as a file of its own")
        if name == b"EXIF":
            orientation = read_orientation(data[start:end])
        elif name in _SIDES and sides is None:
            sides = _SIDES[name](data, start)
    if sides is None:
        raise truncated("it has no picture")
    return WebpHeader("webp", *sides, orientation)


def _walk_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of each chunk's body, within the size that the file gives itself."""
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise truncated("its data end early")
    at = 12
    while at + 8 <= size + 8:
        (length,) = struct.unpack_from("<I", data, at + 4)
        if at + 8 + length > size + 8:
            raise truncated("a chunk ends early")
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
