"""JPEG: read the markers, check the scans of a progressive file, and decode strictly at a scale."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import simplejpeg

from wetread.errors import ImageError, Status
from wetread.runtime.images.formats.header import (
    EXIF_MARK,
    Header,
    Samples,
    malformed,
    read_orientation,
    truncated,
    unsupported,
)
from wetread.runtime.images.formats.jpeg_repair import (
    EOI,
    NEXT_MARKER,
    SOI,
    SOS,
    describe_fault,
    is_harmless,
    mend_markers,
    skip_strays,
)
from wetread.runtime.images.limits import Footprint, check_scans

MAX_SIDE = 65_500  # libjpeg's own
# A block needs at least one bit, and a unit of up to 32 x 32 pixels at least four blocks. So a small file
# that claims to be a huge image is found before memory is allocated for it.
_PIXELS_PER_BYTE = 2048
# Rows of pixels that libjpeg converts at a time, with their neighbours.
_ROWS = 64
_SEGMENT = struct.Struct(">BBH")
_FRAME = struct.Struct(">BHHB")
_APP1 = 0xE1
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TELLING = _FRAMES | {SOS, _APP1, EOI, 0xFF}


@dataclass(frozen=True)
class JpegHeader(Header):
    """A JPEG's header: 1 (gray), 3 (color) or 4 (inks) components.

    `coefficients`: of all blocks, if there are several scans, because libjpeg then keeps them; `visited`: the
    pixels of all scans together.
    """

    components: int = 3
    coefficients: int = 0
    visited: int = 0

    def count_scaled_memory(self, size: int, *, eighths: int, gray: bool) -> Footprint:
        """Count as `count_memory` does, for `decode_scaled`: coefficients of 2 bytes and the image."""
        height, width = (-(-side * eighths // 8) for side in (self.height, self.width))
        image = height * width * (4 if self.components == 4 else 1 if gray else 3)
        # A file that is repaired is split and joined again.
        return Footprint(
            2 * self.coefficients + image + _ROWS * self.width * self.components + 5 * size, image
        )

    def decode_scaled(self, data: bytes, *, eighths: int, gray: bool, fast: bool = False) -> Samples:
        """Decode strictly, each 8 x 8 block as `eighths` x `eighths` pixels (1, 2, 4 or 8).

        `fast`: by libjpeg's fast DCT, which errs by a few levels, as TensorFlow's decoder does.

        Returns uint8 samples, (ceil(height * eighths / 8), ceil(width * eighths / 8), 1 if `gray` else 3).
        CMYK is taken as Adobe stores it, 255 for no ink, with or without its marker, as other decoders do;
        its color must be multiplied by its black, like by alpha. Harmless causes of libjpeg's warnings are
        repaired first (`jpeg_markers`). Raises ImageError: 'truncated' or 'malformed'.
        """
        shape = (-(-self.height * eighths // 8), -(-self.width * eighths // 8))
        least = shape if eighths < 8 else (0, 0)
        space = "CMYK" if self.components == 4 else "GRAY" if gray else "RGB"
        try:
            image = simplejpeg.decode_jpeg(data, space, fastdct=fast, min_height=least[0], min_width=least[1])
        except (ValueError, KeyError, RuntimeError) as error:
            mended = self._mend(data, str(error))
            try:
                image = simplejpeg.decode_jpeg(
                    mended, space, fastdct=fast, min_height=least[0], min_width=least[1]
                )
            except (ValueError, KeyError, RuntimeError) as other:
                raise describe_fault(str(other)) from other
        if image.shape[:2] != shape:
            raise malformed("its size is not the one in its header")
        if self.components < 4:
            return Samples(image)
        return Samples(image[..., :3], image[..., 3:])

    def _mend(self, data: bytes, warning: str) -> bytes:
        """Remove harmless causes of libjpeg's warnings from a file. Raises ImageError for any other cause."""
        if not is_harmless(warning):
            raise describe_fault(warning)
        mended = mend_markers(data, components=self.components, pixels=max(self.visited, self.pixels))
        again = read_jpeg(mended)
        if (again.height, again.width, again.components) != (self.height, self.width, self.components):
            raise malformed("it has two headers")
        return mended


def read_jpeg(data: bytes) -> JpegHeader:
    """Read the marker segments up to the first scan, and the headers of all scans if there are several."""
    at, orientation, frame = 2, 0, 0
    while True:
        start, marker, size = _SEGMENT.unpack_from(data, at)
        if start != 0xFF:
            at = skip_strays(data, at)
            continue
        if marker in _TELLING:
            if marker == 0xFF:  # a fill byte
                at += 1
                continue
            if marker == SOS:
                break
            if marker == EOI:
                raise truncated("it ends before its picture")
            if marker == _APP1 and not orientation and data.startswith(EXIF_MARK, at + 4):
                orientation = read_orientation(data[at + 4 : at + 2 + size])
            elif marker in _FRAMES:
                frame = at
        at += 2 + size
    if at + 2 + size > len(data):
        raise truncated("its header ends early")
    if not frame:
        raise malformed("it has no frame header")
    return _read_frame(data, frame, at, orientation or 1)


def _read_frame(data: bytes, frame: int, scan: int, orientation: int) -> JpegHeader:
    """Read a frame segment. Raises ImageError for kinds that libjpeg does not decode strictly."""
    kind = data[frame + 1]
    bits, height, width, components = _FRAME.unpack_from(data, frame + 4)
    if kind not in (_BASELINE, _EXTENDED, _PROGRESSIVE):
        # Including arithmetic coding: its decoder invents what a cut file lacks, without a warning.
        raise unsupported("a lossless, hierarchical or arithmetic-coded JPEG: save it as PNG")
    if bits != 8 or components not in (1, 3, 4):
        raise unsupported(f"a JPEG of {components} x {bits} bits: save it as 16-bit PNG")
    if max(height, width) > MAX_SIDE:
        raise ImageError(
            Status.TOO_LARGE,
            f"A JPEG may have sides of at most {MAX_SIDE:,} pixels, and this has {width:,} x {height:,}.",
        )
    if height * width > _PIXELS_PER_BYTE * len(data):
        raise truncated("it is too short for its size")
    if kind == _PROGRESSIVE or data[scan + 4] != components:
        names = data[frame + 10 : frame + 10 + 3 * components : 3]
        blocks = _count_coefficients(height, width, data[frame + 11 : frame + 11 + 3 * components : 3])
        planes = dict(zip(names, blocks, strict=True))
        visited = _check_scans(data, scan, planes, progressive=kind == _PROGRESSIVE)
        return JpegHeader("jpeg", height, width, orientation, components, sum(blocks), visited)
    return JpegHeader("jpeg", height, width, orientation, components)


def _count_coefficients(height: int, width: int, sampling: bytes) -> list[int]:
    """Count the coefficients of each component's blocks, padded to whole units as in libjpeg."""
    factors = [(max(both >> 4, 1), max(both & 15, 1)) for both in sampling]
    most = [max(sides) for sides in zip(*factors, strict=True)]
    units = -(-width // (8 * most[0])) * -(-height // (8 * most[1]))
    return [units * 64 * across * down for across, down in factors]


def _check_scans(data: bytes, at: int, components: dict[int, int], *, progressive: bool) -> int:
    """Check that the scans of a file contain every coefficient of every component, to its last bit.

    `components`: the coefficients of each, by its name. Returns how many all scans visit together.

    A progressive file that is cut between two scans and closed with an end marker is a valid, blurred JPEG to
    libjpeg, which does not warn.
    """
    missing = {component: [1] * 64 for component in components}
    visited = 0
    # A second start is that of another JPEG: libjpeg fails there, or reports that the end is missing.
    while (marker := data[at + 1]) not in (EOI, SOI):
        (size,) = struct.unpack_from(">H", data, at + 2)
        if marker == SOS:
            scan = data[at + 4 : at + 2 + size]
            _mark_scan(scan if progressive else scan[:-3] + b"\0\x3f\0", missing)
            visited += sum(components.get(name, 0) for name in scan[1:-3:2])
            check_scans(visited)
        found = NEXT_MARKER.search(data, at + 2 + size)
        if found is None:
            break  # libjpeg reports that the end is missing
        at = found.start()
    if any(any(bits) for bits in missing.values()):
        raise truncated("some of its scans are missing")
    return visited


def _mark_scan(scan: bytes, missing: dict[int, list[int]]) -> None:
    """Record, for each coefficient in a scan's header, how many low bits are still missing."""
    first, last, low = scan[-3], min(scan[-2], 63), scan[-1] & 15
    for component in scan[1:-3:2]:
        if component in missing:
            missing[component][first : last + 1] = [low] * (last + 1 - first)
