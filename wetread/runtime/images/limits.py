"""Limits of memory and time for one image, checked before it is decoded.

A file of two megabytes can claim 17,000 x 17,000 pixels of four 16-bit channels. So each format computes,
from its header, the bytes that its decoder and the steps after it need; docs/reference/pixels.md has the
measured table.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

from wetread.errors import ImageError, Status

# Bytes in addition to the file itself.
MAX_MEMORY = 1 << 30
# A scan of a progressive JPEG visits every block: a few kilobytes of scans can take hours.
MAX_SCANNED_PIXELS = 1 << 34


class Footprint(NamedTuple):
    """The bytes of memory that a decoder needs at most, and those of its samples when it is done."""

    decoding: int
    samples: int


def check_memory(needed: int, allowed: int, *, about: str) -> None:
    """Raise ImageError('too_large') if `about` (a picture, in words) needs more bytes than are allowed."""
    if needed > allowed:
        raise ImageError(
            Status.TOO_LARGE,
            f"Decoding {about} needs {-(-needed >> 20):,} MiB of memory, and {allowed >> 20:,} MiB are "
            "allowed. Raise --max-memory to read it.",
        )


def lack_memory() -> ImageError:
    """Return the error of an input for which there is no memory, now: 'too_large', with ENOMEM."""
    return ImageError(
        Status.TOO_LARGE,
        "There is too little memory to read it: use fewer --workers, or end other programs.",
        errno=errno.ENOMEM,
    )


def check_scans(pixels: int) -> None:
    """Raise ImageError('unsupported') for a JPEG whose scans visit more than `MAX_SCANNED_PIXELS` pixels."""
    if pixels > MAX_SCANNED_PIXELS:
        raise ImageError(
            Status.UNSUPPORTED,
            f"The scans of this JPEG visit {pixels:,} pixels, and {MAX_SCANNED_PIXELS:,} are allowed: save "
            "it as a JPEG of one scan.",
        )
