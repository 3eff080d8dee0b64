"""What labelled folders give reason to doubt: patients on both sides, one file under two labels, colour that
the network will not see. Each is told as a warning; none stops a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from wetread.errors import ImageError
from wetread.evaluate.listing import Image, Listing
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.images.pixels import read_pixels
from wetread.train.config import TrainConfig

_LOOKED_AT = 24  # images that are read once more, in colour
_SLIGHT = 6.0  # of 255: the mean distance of a pixel's channels in a scan that is a little tinted
_MANY = 0.25  # of the images looked at


@dataclass(frozen=True)
class Conflicts:
    """Images whose very bytes stand under two labels or more: how many, and two such names."""

    images: int = 0
    pair: tuple[str, ...] = ()


def find_conflicts(names: Sequence[str], labels: Sequence[int], digests: Sequence[str]) -> Conflicts:
    """Find files that are the same to the byte and stand under two labels or more."""
    copies: dict[str, list[int]] = defaultdict(list)
    for position, digest in enumerate(digests):
        copies[digest].append(position)
    found = [group for group in copies.values() if len({labels[position] for position in group}) > 1]
    if not found:
        return Conflicts()
    first = found[0][0]
    other = next(position for position in found[0] if labels[position] != labels[first])
    return Conflicts(images=sum(map(len, found)), pair=(names[first], names[other]))


def count_leaks(groups: Sequence[str], splits: Sequence[str]) -> int:
    """Count the images of 'val' whose group is on another side too: 'cal' comes from training as well."""
    elsewhere = {group for group, split in zip(groups, splits, strict=True) if split != "val"}
    return sum(split == "val" and group in elsewhere for group, split in zip(groups, splits, strict=True))


def count_colored(listing: Listing, images: Sequence[Image], config: TrainConfig) -> tuple[int, int]:
    """Count the images in colour among a few that are looked at, where colour is dropped: (in colour, of).

    (0, 0) where too few of them are for a warning, and for a bucket, whose images are read once.
    """
    if config.color != "gray" or is_bucket_location(config.data):
        return 0, 0
    chroma = list(_measure_chroma(listing, images, config))
    colored = sum(value >= _SLIGHT for value in chroma)
    return (colored, len(chroma)) if colored and colored >= _MANY * len(chroma) else (0, 0)


def _measure_chroma(listing: Listing, images: Sequence[Image], config: TrainConfig) -> Iterator[float]:
    """How far apart the channels of a pixel are, in the mean, 0 to 255, of images spread over the listing."""
    recipe = replace(config.recipe(), color="rgb", equalize="none")
    places = np.linspace(0, len(images) - 1, min(_LOOKED_AT, len(images))).round().astype(int)
    for place in places:
        with suppress(ImageError):  # it was read a moment ago: what is gone by now says nothing
            pixels = read_pixels(listing.source.read(images[place].entry), recipe)
            yield float(np.ptp(pixels, axis=2).mean())
