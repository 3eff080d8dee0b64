"""What an object says of its pixels: size, samples, bits, photometric interpretation."""

from __future__ import annotations

from dataclasses import dataclass

from wetread.errors import ImageError, Status
from wetread.runtime.images.dicom.file_header import malformed
from wetread.runtime.images.dicom.values import Attributes

GRAYS = ("MONOCHROME1", "MONOCHROME2")
COLORS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
PALETTE = "PALETTE COLOR"


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """What an object says of its pixels. `high` is the number of the highest of `stored` bits."""

    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    high: int
    signed: bool
    planar: bool
    frames: int


def read_format(attributes: Attributes) -> PixelFormat:
    """Read what an object says of its pixels. Raises ImageError 'malformed' or 'unsupported'."""
    rows, columns = attributes.short(0x00280010), attributes.short(0x00280011)
    allocated = attributes.short(0x00280100)
    if not rows or not columns or not allocated:
        raise malformed("it has pixel data, but not their size")
    stored = attributes.short(0x00280101) or allocated
    high = attributes.short(0x00280102)
    found = PixelFormat(
        rows=rows,
        columns=columns,
        samples=attributes.short(0x00280002) or 1,
        photometric=attributes.text(0x00280004),
        allocated=allocated,
        stored=stored,
        high=stored - 1 if high is None else high,
        signed=bool(attributes.short(0x00280103)),
        planar=bool(attributes.short(0x00280006)),
        frames=max(attributes.whole(0x00280008) or 1, 1),
    )
    _check_format(found)
    return found


def _check_format(found: PixelFormat) -> None:
    wanted = 1 if found.photometric in (*GRAYS, PALETTE) else 3 if found.photometric in COLORS else 0
    if not wanted:
        raise ImageError(
            Status.UNSUPPORTED,
            f"Its Photometric Interpretation is none of {', '.join((*GRAYS, PALETTE, *COLORS))}.",
        )
    if found.samples != wanted:
        raise malformed(f"{found.photometric} with {found.samples} samples a pixel")
    if found.allocated not in (8, 16):
        raise ImageError(
            Status.UNSUPPORTED, f"Its samples have {found.allocated} bits allocated; 8 or 16 are read."
        )
    if not found.stored <= found.high + 1 <= found.allocated:
        raise malformed("its bits stored, high bit and bits allocated contradict one another")
