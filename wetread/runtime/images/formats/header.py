"""Shared by all image formats: header, samples, and the errors of a broken file."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError, Status
from wetread.runtime.images.limits import Footprint

EXIF_MARK = b"Exif\0\0"
Stored = NDArray[Any]  # uint8 or uint16
_STRIP_PIXELS = 1 << 16


class Samples(NamedTuple):
    """A decoded image, as stored: uint8 or uint16 (H, W, 1 or 3), gray or RGB; alpha as (H, W, 1).

    `white_is_zero`: 0 is white, and the largest value of the sample's significant bits is black.
    """

    color: Stored
    alpha: Stored | None = None
    white_is_zero: bool = False


@dataclass(frozen=True)
class Header:
    """A file's header: kind, height and width in pixels as stored, EXIF orientation 1 to 8."""

    kind: str
    height: int
    width: int
    orientation: int = 1

    def __post_init__(self) -> None:
        if self.height <= 0 or self.width <= 0:
            raise malformed("it has no size")

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.height * self.width

    def count_memory(self, size: int) -> Footprint:
        """Count the bytes that `decode` needs for a file of `size` bytes, without the file itself."""
        raise NotImplementedError

    def decode(self, data: bytes) -> Samples:
        """Decode the file's samples. Raises ImageError: 'truncated' or 'malformed'."""
        raise NotImplementedError


def truncated(reason: str) -> ImageError:
    """Make the error of a file that is cut short: its end, or a part of its compressed data, is missing."""
    return ImageError(Status.TRUNCATED, f"The image is cut short: {reason}.")


def malformed(reason: str) -> ImageError:
    """Make the error of a file that is complete, but damaged or contradictory."""
    return ImageError(Status.MALFORMED, f"The image is damaged: {reason}.")


def unsupported(received: str) -> ImageError:
    """Make the error of a kind of image that is not supported: `received` names it and says what to do."""
    return ImageError(Status.UNSUPPORTED, f"wetread does not read {received}.")


def read_orientation(tiff: bytes) -> int:
    """Read tag 274 (Orientation) from an EXIF block; 1 if it is absent, damaged or out of range."""
    tiff = tiff.removeprefix(EXIF_MARK)
    try:
        order = {b"II": "<", b"MM": ">"}[tiff[:2]]
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == 274 and kind == 3:
                return valid_orientation(value)
    except (KeyError, struct.error):
        return 1
    return 1


def valid_orientation(value: int) -> int:
    """Return 1 to 8 unchanged; 1 for any other number."""
    return value if 1 <= value <= 8 else 1


def apply_palette(indices: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Look up (H, W) indices in a table of colors (N, 3). Returns uint8 (H, W, 3), or (H, W, 1) if all gray.

    Raises ImageError('malformed') if an index is past the table's end.
    """
    if int(indices.max()) >= len(table):
        raise malformed("a pixel has a color that its palette lacks")
    channels = 1 if bool((table == table[:, :1]).all()) else 3
    full = np.zeros((256, channels), np.uint8)
    full[: len(table)] = table[:, :channels]
    image = np.empty((*indices.shape, channels), np.uint8)
    for channel in range(channels):
        image[..., channel] = cv2.LUT(indices, full[:, channel].copy())
    return image


def is_short_of_memory(error: cv2.error) -> bool:
    """Whether OpenCV could not allocate memory; its other errors come of an image that it does not take."""
    return bool(getattr(error, "code", 0) == cv2.Error.StsNoMem)


def decode_by_opencv(data: bytes) -> Stored:
    """Decode a file as it is stored: (H, W) or (H, W, C) in OpenCV's order. Raises ImageError('malformed').

    Beyond a limit of OpenCV (OPENCV_IO_MAX_IMAGE_PIXELS, ...) or of memory it raises cv2.error.
    """
    try:
        image: Stored | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if "CV_IO_MAX" in str(error) or is_short_of_memory(error):
            raise
        image = None
    if image is None:
        raise malformed("its decoder failed")
    return image


def order_rgb(image: Stored) -> Stored:
    """Change OpenCV's blue, green, red (and alpha) to red, green, blue, in place: (H, W, 3 or 4)."""
    code = cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    rows = max(_STRIP_PIXELS // image.shape[1], 1)
    for top in range(0, len(image), rows):
        image[top : top + rows] = cv2.cvtColor(image[top : top + rows], code)
    return image


def unpack_bits(rows: NDArray[np.uint8], bits: int, width: int) -> NDArray[np.uint8]:
    """Unpack (H, bytes) rows of 1, 2, 4 or 8-bit samples, highest bits first. Returns uint8 (H, width)."""
    if bits == 8:
        return rows[:, :width]
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    samples = rows[:, :, None] >> shifts & np.uint8((1 << bits) - 1)
    return samples.reshape(len(rows), -1)[:, :width]
