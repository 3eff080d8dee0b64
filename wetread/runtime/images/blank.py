"""Refuse blank images: at the model's size they have almost a single level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError, Status

# After area averaging, noise of a sensor or of JPEG spans fewer neighbouring levels than this.
BLANK_LEVELS = 8
_SPARSE = 8


def check_content(image: NDArray[np.uint8]) -> None:
    """Refuse an image whose levels are all the same or nearly so.

    `image`: uint8 (H, W, C), 0 to 255, at the model's size, before equalization and padding: equalization
    would spread the noise of a blank image over all levels, and padding would add a second level. Raises
    ImageError('blank') if in every channel the levels are within 8 neighbouring ones.
    """
    if image.shape[0] * image.shape[1] == 1:
        return  # at one pixel every image has a single level
    some = image[::_SPARSE, ::_SPARSE, 0]
    if int(some.max()) - int(some.min()) >= BLANK_LEVELS:
        return  # as nearly all are, at a fraction of the time
    lowest, highest = int(image.min()), int(image.max())
    if highest - lowest >= BLANK_LEVELS and _find_span(image) >= BLANK_LEVELS:
        return
    raise blank(f"{_describe(lowest, highest)} at the model's size")


def _find_span(image: NDArray[np.uint8]) -> int:
    """Return the widest range of levels of any channel."""
    return max(int(np.ptp(image[..., channel])) for channel in range(image.shape[2]))


def _describe(lowest: int, highest: int) -> str:
    if highest < BLANK_LEVELS:
        return "one that is black"
    if lowest > 255 - BLANK_LEVELS:
        return "one that is white"
    return "one of a single gray level or color, or nearly so,"


def blank(received: str) -> ImageError:
    """Make the error of a blank image; `received` describes it, as in 'one that is black'."""
    return ImageError(
        Status.BLANK,
        f"This is a blank picture, {received}. Check how it was made or exported.",
    )
