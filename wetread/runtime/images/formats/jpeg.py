"""JPEG: the markers up to the scan, the scans of a progressive file, and strict scaled decoding."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import simplejpeg

from wetread.errors import ImageError
from wetread.runtime.images.formats.header import (
    EXIF_MARK,
    Header,
    Samples,
    read_orientation,
    truncated,
    unsupported,
)

MAX_SIDE = 65_500  # libjpeg's own
_MAX_SCANS = 500
# A block takes a bit or more, and a unit of up to 32 x 32 pixels four blocks or more: a few bytes that claim
# to be a huge image are found before memory is set aside for it.
_PIXELS_PER_BYTE = 2048
_SEGMENT = struct.Struct(">BBH")
_FRAME = struct.Struct(">BHHB")
_START_OF_SCAN, _END, _APP1 = 0xDA, 0xD9, 0xE1
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TELLING = _FRAMES | {_START_OF_SCAN, _APP1, _END, 0xFF}
# In entropy-coded data FF 00 is a stuffed byte, FF D0 to FF D7 are restarts; all else after FF is a marker.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


@dataclass(frozen=True)
class JpegHeader(Header):
    """A JPEG's header: 1 (gray), 3 (color) or 4 (inks) components."""

    components: int = 3

    def decode_scaled(self, data: bytes, *, eighths: int, gray: bool) -> Samples:
        """Decode strictly, each 8 x 8 block as `eighths` x `eighths` pixels (1, 2, 4 or 8).

        Returns uint8 samples, (ceil(height * eighths / 8), ceil(width * eighths / 8), 1 if `gray` else 3).
        Inks are taken as Adobe stores them, 255 for none, with or without its marker, as other decoders do;
        their color is to be multiplied by their black, as if that were alpha. Raises ImageError('truncated').
        """
        shape = (-(-self.height * eighths // 8), -(-self.width * eighths // 8))
        least = shape if eighths < 8 else (0, 0)
        space = "CMYK" if self.components == 4 else "GRAY" if gray else "RGB"
        try:
            image = simplejpeg.decode_jpeg(data, space, min_height=least[0], min_width=least[1])
        except (ValueError, KeyError, RuntimeError) as error:
            raise truncated(str(error)) from error
        if image.shape[:2] != shape:
            raise truncated("its size is not the one in its header")
        if self.components < 4:
            return Samples(image)
        return Samples(image[..., :3], image[..., 3:])


def read_jpeg(data: bytes) -> JpegHeader:
    """Read the marker segments up to the first scan, and the headers of all scans where there are several."""
    at, orientation, frame = 2, 0, 0
    while True:
        start, marker, size = _SEGMENT.unpack_from(data, at)
        if start != 0xFF:
            raise truncated("its markers are out of step")
        if marker in _TELLING:
            if marker == 0xFF:  # a fill byte
                at += 1
                continue
            if marker == _START_OF_SCAN:
                break
            if marker == _END:
                raise truncated("it ends before its picture")
            if marker == _APP1 and not orientation and data.startswith(EXIF_MARK, at + 4):
                orientation = read_orientation(data[at + 4 : at + 2 + size])
            elif marker in _FRAMES:
                frame = at
        at += 2 + size
    if not frame:
        raise truncated("it has no frame header")
    height, width, components = _read_frame(data, frame, at)
    return JpegHeader("jpeg", height, width, orientation or 1, components)


def _read_frame(data: bytes, frame: int, scan: int) -> tuple[int, int, int]:
    """(height, width, components) of a frame segment that libjpeg decodes without guessing."""
    kind = data[frame + 1]
    bits, height, width, components = _FRAME.unpack_from(data, frame + 4)
    if kind not in (_BASELINE, _EXTENDED, _PROGRESSIVE):
        # Arithmetic coding among them: its decoder makes up what a cut file lacks, without a word.
        raise unsupported("a lossless, hierarchical or arithmetic-coded JPEG: save it as PNG")
    if bits != 8 or components not in (1, 3, 4):
        raise unsupported(f"a JPEG of {components} x {bits} bits: save it as 16-bit PNG")
    if max(height, width) > MAX_SIDE:
        raise ImageError("too_large", f"Expected sides up to {MAX_SIDE:,}. Received {width:,} x {height:,}.")
    if height * width > _PIXELS_PER_BYTE * len(data):
        raise truncated("it is too short for its size")
    if kind == _PROGRESSIVE or data[scan + 4] != components:
        _check_scans(data, scan, data[frame + 10 : frame + 10 + 3 * components : 3])
    return height, width, components


def _check_scans(data: bytes, at: int, components: bytes) -> None:
    """Hold a file of several scans to the end: every coefficient of every component, to its last bit.

    A progressive file that is cut between two scans and closed with an end marker is a valid, blurred
    JPEG to libjpeg, which says nothing.
    """
    missing = {component: [1] * 64 for component in components}
    scans = 0
    while (marker := data[at + 1]) != _END:
        (size,) = struct.unpack_from(">H", data, at + 2)
        if marker == _START_OF_SCAN:
            scans += 1
            _mark_scan(data[at + 4 : at + 2 + size], missing)
        found = _NEXT_MARKER.search(data, at + 2 + size)
        if found is None:
            raise truncated("it has no end marker")
        if scans > _MAX_SCANS:
            raise unsupported(f"a JPEG of more than {_MAX_SCANS} scans: save it as PNG")
        at = found.start()
    if any(any(bits) for bits in missing.values()):
        raise truncated("some of its scans are missing")


def _mark_scan(scan: bytes, missing: dict[int, list[int]]) -> None:
    """Note, for each coefficient that a scan's header names, how many low bits are still to come."""
    first, last, low = scan[-3], min(scan[-2], 63), scan[-1] & 15
    for component in scan[1:-3:2]:
        if component in missing:
            missing[component][first : last + 1] = [low] * (last + 1 - first)
