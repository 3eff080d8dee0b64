"""Look at a sample of the images: how many are in colour, how large they are, how alike in layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError
from wetread.evaluate.labelled_folders import Image, Listing
from wetread.runtime.images.formats import read_header
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe

LOOKED_AT = 24  # images that are read
SLIGHT = 6.0  # of 255: mean difference between a pixel's channels in a slightly tinted scan
MANY = 0.25  # of the images that are checked
_LOOK = PixelRecipe(height=64, width=64, color="rgb")
# Random pictures measure 1 (0.8 to 1.2 for photographs and textures, 24 of each), digits 14, chest X-rays 16,
# faces among other things 2.5 to 3.6.
_UNALIGNED = 1.8


class Look(NamedTuple):
    """One image: its shorter side in pixels, the mean difference between a pixel's channels, its gray."""

    side: int
    chroma: float
    gray: NDArray[np.float64]  # (64, 64)


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a data set's images are like.

    `images`, `labels`: how many. `checked`: images that were read, `colored`: those of them in colour.
    `side`: the median of their shorter sides in pixels. `layout`: 1 if the images have no common layout
    (textures, parts of photographs), more the more they have (faces, digits, X-rays): by how much the mean
    image varies more than that of pictures placed at random.
    """

    images: int
    labels: int
    checked: int
    colored: int
    side: int
    layout: float

    @property
    def in_color(self) -> bool:
        """Whether enough of the images are in colour to keep it."""
        return is_colored(self.colored, self.checked)

    @property
    def has_layout(self) -> bool:
        """Whether the images have a common layout."""
        return self.layout >= _UNALIGNED


def is_colored(colored: int, checked: int) -> bool:
    """Whether so many of the images checked are in colour that they all count as coloured."""
    return colored > 0 and colored >= MANY * checked


def find_traits(listing: Listing, images: Sequence[Image]) -> Traits:
    """Read up to 24 of the listed images and describe them. Images that cannot be read do not count."""
    looks = list(look_at(listing, images))
    return Traits(
        images=len(images),
        labels=len(listing.labels),
        checked=len(looks),
        colored=sum(look.chroma >= SLIGHT for look in looks),
        side=int(median(look.side for look in looks)) if looks else 0,
        layout=measure_layout([look.gray for look in looks]) if looks else 0.0,
    )


def look_at(listing: Listing, images: Sequence[Image], recipe: PixelRecipe = _LOOK) -> Iterator[Look]:
    """Look at images spread over the listing, in colour."""
    for place in np.linspace(0, len(images) - 1, min(LOOKED_AT, len(images))).round().astype(int):
        with suppress(ImageError):  # training lists it in corrupt.csv
            data: Any = listing.source.read(images[place].entry)
            header = read_header(data)
            pixels = read_pixels(data, recipe)
            yield Look(
                side=min(header.height, header.width),
                chroma=float(np.ptp(pixels, axis=2).mean()),
                gray=pixels.mean(axis=2),
            )


def measure_layout(grays: Sequence[NDArray[np.float64]]) -> float:
    """How much the mean of N images varies, times N, each image brought to mean 0 and deviation 1.

    Each is float64 (H, W). 1 on average if no pixel of an image is like the same pixel of another; N if all
    images are one. 0 for blank images.
    """
    images = np.stack(grays)
    images = images - images.mean(axis=(1, 2), keepdims=True)
    deviations = images.std(axis=(1, 2), keepdims=True)
    scaled = np.divide(images, deviations, out=np.zeros_like(images), where=deviations > 0)
    return float(len(images) * np.square(scaled.mean(axis=0)).mean())
