"""Blank pictures: what the model would see of them carries nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError, Status

# What noise of a sensor or of JPEG leaves after area averaging stays within so many neighbouring levels.
BLANK_LEVELS = 8


def check_content(image: NDArray[np.uint8]) -> None:
    """Refuse a picture whose levels are all the same or nearly so.

    `image`: uint8 (H, W, C), 0 to 255, at the model's size, before equalization and padding: equalization
    would spread the noise of a blank picture over all levels, and padding would add a second one. Raises
    ImageError 'blank' where in every channel the levels lie within 8 neighbouring ones.
    """
    if image.shape[0] * image.shape[1] == 1:
        return  # a model of one pixel sees one level of everything
    lowest, highest = int(image.min()), int(image.max())
    if highest - lowest >= BLANK_LEVELS and _find_span(image) >= BLANK_LEVELS:
        return
    raise blank(f"{_describe(lowest, highest)} at the model's size")


def _find_span(image: NDArray[np.uint8]) -> int:
    """The widest range of levels of any channel."""
    return max(int(np.ptp(image[..., channel])) for channel in range(image.shape[2]))


def _describe(lowest: int, highest: int) -> str:
    if highest < BLANK_LEVELS:
        return "one that is black"
    if lowest > 255 - BLANK_LEVELS:
        return "one that is white"
    return "one of a single gray level or color, or nearly so,"


def blank(received: str) -> ImageError:
    """The error of a picture that carries nothing; `received` says what it is."""
    return ImageError(
        Status.BLANK,
        f"Expected a picture of something. Received {received}. Check how it was made or exported.",
    )
