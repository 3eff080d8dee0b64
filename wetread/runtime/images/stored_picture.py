"""A picture as it is stored, with the table that makes the model's gray levels of it: for people to look at.

    picture = read_stored(data)          # samples uint16 (H, W, 1), table uint8 (4096,)
    picture.table[picture.samples]       # the gray levels that `read_picture` returns

What a reader windows is the stored value, not the eight bits that are left of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError, Status, WetreadError, make_fault
from wetread.runtime.images.conversion import find_top, to_eight_bits
from wetread.runtime.images.formats import Header, JpegHeader, Samples, Stored, read_header
from wetread.runtime.images.formats.dicom import DicomHeader
from wetread.runtime.images.formats.header import is_short_of_memory
from wetread.runtime.images.limits import MAX_MEMORY, check_memory, lack_memory
from wetread.runtime.images.pixels import Pixels, orient, read_picture
from wetread.runtime.images.recipe import PixelRecipe

_LEVELS = np.arange(256, dtype=np.uint8)
_STRIP_ROWS = 256


@dataclass(frozen=True)
class StoredPicture:
    """An upright picture as stored.

    `samples`: uint8 or uint16 (H, W, 1) of gray, or uint8 (H, W, 3) RGB. `table`: uint8 (n,), the gray level
    of each sample value; of colors, each level itself. `window`: the sample values between which the table
    goes from one end to the other. `slope` and `offset`: slope x sample + offset is the value in the
    modality's units (of DICOM, Hounsfield units say; else the sample itself).
    """

    samples: Stored
    table: NDArray[np.uint8]
    window: tuple[float, float] = (0.0, 255.0)
    slope: float = 1.0
    offset: float = 0.0

    @property
    def falls(self) -> bool:
        """Whether the table goes down from white: a large sample is dark."""
        low, high = math.floor(self.window[0]), math.floor(self.window[1]) + 1
        ends = [min(max(end, 0), len(self.table) - 1) for end in (low, high)]
        return bool(self.table[ends[1]] < self.table[ends[0]])

    def shrink(self, most: int) -> tuple[StoredPicture, int]:
        """Return the picture with at most so many pixels, by area averages, and by what its sides shrank."""
        height, width = self.samples.shape[:2]
        factor = 1
        while height * width > most * factor * factor:
            factor += 1
        if factor == 1:
            return self, 1
        size = (max(1, width // factor), max(1, height // factor))
        small = cv2.resize(self.samples, size, interpolation=cv2.INTER_AREA)
        return replace(self, samples=small.reshape(size[1], size[0], -1)), factor


def read_stored(
    data: bytes, *, recipe: PixelRecipe | None = None, max_memory: int = MAX_MEMORY
) -> StoredPicture:
    """Decode an image file at its own size and depth, upright as the recipe sees it.

    Gray of up to 16 bits stays as stored; colors, and gray with transparency, come in 8 bits as
    `read_picture` returns them. Raises ImageError with the status of a file that has no pixels.
    """
    recipe = recipe or PixelRecipe()
    try:
        header = read_header(data, max_memory=max_memory)
        _check_memory(header, len(data), max_memory)
        found = _read_dicom(header) if isinstance(header, DicomHeader) else _read_gray(data, header, recipe)
    except WetreadError:
        raise
    except MemoryError as error:
        raise lack_memory() from error
    except cv2.error as error:
        if is_short_of_memory(error):
            raise lack_memory() from error
        raise ImageError(Status.TOO_LARGE, "The image exceeds OpenCV's limits.") from error
    except Exception as error:
        raise make_fault(error) from error
    return found or _read_eight_bits(data, recipe, max_memory)


def _check_memory(header: Header, size: int, max_memory: int) -> None:
    """The decoder's need and, beside the samples, those of 16 bits, turned, and the bytes that are sent."""
    found = header.count_memory(size) if not isinstance(header, JpegHeader) else None
    decoding, samples = found or header.count_scaled_memory(size, eighths=8, gray=False)  # type: ignore[attr-defined]
    needed = max(decoding, samples + 6 * header.pixels)
    check_memory(needed, max_memory, about=f"{header.width:,} x {header.height:,} pixels")


def _read_dicom(header: DicomHeader) -> StoredPicture | None:
    """Gray values as whole numbers from 0, and the rule that shows them as a table."""
    from wetread.runtime.images.dicom.gray import Lookup, find_window, make_gray_table

    found = header.picture.read_stored()
    if found is None:
        return None
    values, rule = found
    table = make_gray_table(values, rule)
    samples = (values - rule.lowest).astype(np.uint8 if rule.bits <= 8 else np.uint16)
    slope, intercept = (1, 0) if isinstance(rule.modality, Lookup) else rule.modality
    return StoredPicture(
        samples[..., None],
        table,
        window=find_window(rule, table) or (float(samples.min()), float(samples.max())),
        slope=float(slope),
        offset=float(slope * rule.lowest + intercept),
    )


def _read_gray(data: bytes, header: Header, recipe: PixelRecipe) -> StoredPicture | None:
    """Gray without transparency, of up to 16 bits; None for what has colors."""
    if isinstance(header, JpegHeader):
        if header.components != 1:
            return None
        samples = header.decode_scaled(data, eighths=8, gray=True)
    else:
        samples = header.decode(data)
    if samples.color.shape[2] != 1 or samples.alpha is not None:
        return None
    orientation = header.orientation if recipe.orientation == "exif" else 1
    top = find_top(samples.color)
    return StoredPicture(orient(samples.color, orientation), _make_table(samples, top), (0.0, float(top)))


def _make_table(samples: Samples, top: int) -> NDArray[np.uint8]:
    """What `read_picture` makes of each sample value up to `top`."""
    levels = _LEVELS if samples.color.itemsize == 1 else np.arange(top + 1, dtype=np.uint16)
    table = to_eight_bits(levels, top)
    return np.invert(table) if samples.white_is_zero else table


def _read_eight_bits(data: bytes, recipe: PixelRecipe, max_memory: int) -> StoredPicture:
    """RGB of 8 bits; one channel where all three are the same, as of X-rays that were saved as colors."""
    colors = PixelRecipe(color="rgb", orientation=recipe.orientation)
    picture = read_picture(data, colors, max_memory=max_memory)
    return StoredPicture(picture[..., :1].copy() if _is_gray(picture) else picture, _LEVELS)


def _is_gray(picture: Pixels) -> bool:
    strips = (picture[top : top + _STRIP_ROWS] for top in range(0, len(picture), _STRIP_ROWS))
    return all(bool((strip == strip[..., :1]).all()) for strip in strips)
