"""Find signs of bad data: patients in both train and val, one file under two labels, colour that would be
dropped. Each gives a warning; none stops a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from wetread.evaluate.labelled_folders import Image, Listing
from wetread.runtime.entries import is_bucket_location
from wetread.train.config import TrainConfig
from wetread.train.dataset_traits import SLIGHT, is_colored, look_at


@dataclass(frozen=True)
class Conflicts:
    """Images whose bytes are identical and that have two or more labels: how many, and two such names."""

    images: int = 0
    pair: tuple[str, ...] = ()


def find_conflicts(names: Sequence[str], labels: Sequence[int], digests: Sequence[str]) -> Conflicts:
    """Find byte-identical files that have two or more labels."""
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
    """Count the images of 'val' whose group is also in 'train' or 'cal' ('cal' is taken from training)."""
    elsewhere = {group for group, split in zip(groups, splits, strict=True) if split != "val"}
    return sum(split == "val" and group in elsewhere for group, split in zip(groups, splits, strict=True))


def count_colored(listing: Listing, images: Sequence[Image], config: TrainConfig) -> tuple[int, int]:
    """Count colour images in a small sample, if training drops colour: (in colour, checked).

    (0, 0) if too few are in colour for a warning, and for a bucket, whose images are read only once.
    """
    if config.color != "gray" or is_bucket_location(config.data):
        return 0, 0
    recipe = replace(config.recipe(), color="rgb", equalize="none")
    looks = list(look_at(listing, images, recipe))
    colored = sum(look.chroma >= SLIGHT for look in looks)
    return (colored, len(looks)) if is_colored(colored, len(looks)) else (0, 0)
