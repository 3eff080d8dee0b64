"""BMP and PNM, read with numpy."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError, Status
from wetread.runtime.images.formats.header import (
    Header,
    Samples,
    Stored,
    apply_palette,
    malformed,
    truncated,
    unpack_bits,
    unsupported,
)
from wetread.runtime.images.limits import Footprint

_CORE_HEADER = 12  # OS/2 1.x: 16-bit sides and palette entries of three bytes
_HEADERS = (_CORE_HEADER, 40, 52, 56, 64, 108, 124)
_BGR_MASKS = (0xFF0000, 0xFF00, 0xFF, 0)
_BYTE_MASKS = {0xFF << shift: shift // 8 for shift in (0, 8, 16, 24)}


@dataclass(frozen=True)
class BmpHeader(Header):
    """A BMP's header: where its rows are, and how they are stored.

    `masks`: of red, green, blue and alpha (0: none), for 32 bits; `palette`: (start, size of an entry,
    entries); `upward`: the last row comes first.
    """

    offset: int = 0
    bits: int = 24
    masks: tuple[int, ...] = _BGR_MASKS
    palette: tuple[int, int, int] = (0, 4, 0)
    upward: bool = True

    def count_memory(self, size: int) -> Footprint:
        """Count unpacked indices and their colors, or the separated channels of four bytes."""
        held = {24: 0, 32: 3}.get(self.bits, 4) * self.pixels
        return Footprint(held + (3 * self.pixels if self.bits <= 8 else 0), held)

    def decode(self, data: bytes) -> Samples:
        """Arrange the rows; look up the palette."""
        stride = _row_bytes(self.width, self.bits)
        rows = np.frombuffer(data, np.uint8, stride * self.height, self.offset).reshape(self.height, stride)
        rows = rows[::-1] if self.upward else rows
        if self.bits <= 8:
            start, entry, count = self.palette
            table = np.frombuffer(data, np.uint8, entry * count, start).reshape(count, entry)[:, 2::-1]
            return Samples(apply_palette(unpack_bits(rows, self.bits, self.width), table))
        size = self.bits // 8
        pixels = rows[:, : self.width * size].reshape(self.height, self.width, size)
        if self.bits == 24:
            return Samples(pixels[..., ::-1])
        color = pixels[..., [_BYTE_MASKS[mask] for mask in self.masks[:3]]]
        alpha = pixels[..., _BYTE_MASKS[self.masks[3]], None] if self.masks[3] else None
        return Samples(color, alpha)


def _row_bytes(width: int, bits: int) -> int:
    return (width * bits + 31) // 32 * 4


def read_bmp(data: bytes) -> BmpHeader:
    """Read a BMP's headers.

    Raises ImageError: 'truncated', 'malformed', or 'unsupported' (compressed, 16 bits).
    """
    offset, size = struct.unpack_from("<II", data, 10)
    if size not in _HEADERS:
        raise ImageError(Status.NOT_AN_IMAGE, "The file starts like a BMP, but is not one.")
    compression = colors = 0
    if size == _CORE_HEADER:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits, compression, _, _, _, colors = struct.unpack_from("<iiHHIIiiI", data, 18)
    if bits not in (1, 4, 8, 24, 32) or compression not in ((0, 3, 6) if bits == 32 else (0,)):
        raise unsupported(f"a BMP of {bits} bits a pixel and compression {compression}: save it as PNG")
    masks = _read_masks(data, size, compression)
    palette = _place_palette(data, size, bits, colors)
    end = offset + _row_bytes(max(width, 0), bits) * abs(height)
    if offset < 14 + size:
        raise malformed("its pixels start inside its header")
    if end > len(data):
        raise truncated("its pixels end early")
    return BmpHeader(
        "bmp", abs(height), width, offset=offset, bits=bits, masks=masks, palette=palette, upward=height > 0
    )


def _read_masks(data: bytes, size: int, compression: int) -> tuple[int, ...]:
    """Read the masks of red, green, blue and alpha: in a long header, or after one of 40 bytes."""
    if not compression:
        return _BGR_MASKS
    count = 4 if size >= 56 or compression == 6 else 3
    masks = (*struct.unpack_from(f"<{count}I", data, 54), 0)[:4]
    if any(mask not in _BYTE_MASKS for mask in masks[:3]) or masks[3] not in (0, *_BYTE_MASKS):
        raise unsupported("a BMP whose colors are not whole bytes: save it as PNG")
    return masks


def _place_palette(data: bytes, size: int, bits: int, colors: int) -> tuple[int, int, int]:
    """Return (start, bytes of an entry, entries) of the palette; no entries above 8 bits."""
    if bits > 8:
        return (0, 4, 0)
    entry = 3 if size == _CORE_HEADER else 4
    count = min(colors or 1 << bits, 1 << bits)
    if 14 + size + entry * count > len(data):
        raise truncated("its palette ends early")
    return (14 + size, entry, count)


# Magic, then three numbers, each after white space or comments, then one white space.
_PNM = re.compile(rb"P([56])" + rb"(?:\s|#[^\n]*\n)+(\d{1,10})" * 3 + rb"\s")
_PNM_START = re.compile(rb"P[56](?:\s|#[^\n]*(?:\n|$))+[\d\s]*$|P[56](?:\s|#[^\n]*\n)+\d")


@dataclass(frozen=True)
class PnmHeader(Header):
    """A binary PGM's or PPM's header: start of the samples, samples a pixel, and the largest value."""

    offset: int = 0
    channels: int = 1
    top: int = 255

    def count_memory(self, size: int) -> Footprint:
        """Count numpy's look-up of the samples, by indices of 8 bytes."""
        samples = self.pixels * self.channels
        return Footprint(0, 0) if self.top in (255, 65535) else Footprint(9 * samples, samples)

    def decode(self, data: bytes) -> Samples:
        """Arrange the samples; if the largest value is neither 255 nor 65,535, it is scaled to 255."""
        kind = np.dtype(">u2" if self.top > 255 else np.uint8)
        count = self.height * self.width * self.channels
        samples: Stored = np.frombuffer(data, kind, count, self.offset)
        samples = samples.reshape(self.height, self.width, self.channels)
        if int(samples.max()) > self.top:
            raise malformed("a pixel is above the largest value in its header")
        if self.top in (255, 65535):
            return Samples(samples)
        table: NDArray[np.int64] = (np.arange(self.top + 1) * 255 + self.top // 2) // self.top
        return Samples(np.take(table.astype(np.uint8), samples))


def read_pnm(data: bytes) -> PnmHeader:
    """Read the header of a binary PGM (P5) or PPM (P6)."""
    found = _PNM.match(data[:4096])
    if found is None:
        if _PNM_START.match(data[:4096]):
            raise truncated("its header ends early")
        raise ImageError(Status.NOT_AN_IMAGE, "The file is a text that starts like a PNM, but is not one.")
    width, height, top = (int(number) for number in found.groups()[1:])
    channels = 3 if found[1] == b"6" else 1
    if not 1 <= top <= 65535:
        raise malformed("its largest value is not from 1 to 65,535")
    if found.end() + width * height * channels * (2 if top > 255 else 1) > len(data):
        raise truncated("its pixels end early")
    return PnmHeader("pnm", height, width, offset=found.end(), channels=channels, top=top)
