"""Turn labelled folders into arrays: list, choose, read and split them, before TensorFlow starts."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wetread.errors import DatasetError
from wetread.evaluate.labelled_folders import Image, Listing, list_data
from wetread.evaluate.patients import (
    PATIENT,
    compile_group_regex,
    count_unmatched,
    find_group,
    merge_groups,
    name_group,
)
from wetread.runtime.images.cache import ImageCache, cache_images
from wetread.runtime.scoring.rows import encode_name
from wetread.runtime.wording import pluralize
from wetread.train.config import TrainConfig
from wetread.train.data_checks import Conflicts, count_colored, count_leaks, find_conflicts
from wetread.train.defaults import settle
from wetread.train.events import DataFound, ImagesRead, LeftOut, OnEvent, ignore_event
from wetread.train.near_duplicates import find_alike
from wetread.train.splits import TooFewPatientsError, assign_folds, hash_name

SPLITS = ("train", "val")
CALIBRATION = "cal"
_UNLABELLED = "The file has no label: it must be in a label's folder, DATA/<label>/file."


@dataclass(frozen=True)
class Dataset:
    """Readable images in listing order, and on which side of the split each is.

    `targets`: intp (N,), columns of `labels`; `rows`: intp (N,), rows of `pixels`, uint8 (M, H, W, C),
    memory-mapped; `splits`: 'train', 'val' or 'cal'; `fingerprint`: SHA-256 of all names and contents.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    targets: NDArray[np.intp]
    splits: tuple[str, ...]
    rows: NDArray[np.intp]
    pixels: NDArray[np.uint8]
    left_out: tuple[LeftOut, ...]
    fingerprint: str
    leaks: int
    alike: int
    unmatched: int
    conflicts: Conflicts
    colored: tuple[int, int]
    word: str = PATIENT

    def select(self, split: str) -> NDArray[np.intp]:
        """Return the indices, intp (n,), of one split's images."""
        return np.flatnonzero(np.array(self.splits) == split)

    def describe(self) -> DataFound:
        """Count labels and patients on each side."""
        counts, patients = {}, {}
        for split in (*SPLITS, CALIBRATION):
            chosen = self.select(split)
            if not len(chosen):
                continue
            found = np.bincount(self.targets[chosen], minlength=len(self.labels))
            counts[split] = dict(zip(self.labels, (int(n) for n in found), strict=True))
            patients[split] = len({self.groups[i] for i in chosen})
        return DataFound(
            labels=self.labels,
            counts=counts,
            patients=patients,
            left_out=self.left_out,
            leaks=self.leaks,
            alike=self.alike,
            unmatched=self.unmatched,
            conflicts=self.conflicts.images,
            conflict=self.conflicts.pair,
            colored=self.colored,
            word=self.word,
        )


def load_dataset(config: TrainConfig, *, on_event: OnEvent = ignore_event) -> Dataset:
    """List, check, read and split the data of a run.

    Reads through the cache in `config.cache_folder()`. Raises SourceError, and DatasetError when the
    folders cannot train a network.
    """
    config = settle(config)
    listing = list_data(config.data, config.labels)
    images = choose_subset(listing, config)
    cache = cache_images(
        [image.entry for image in images],
        config.recipe(),
        source=listing.source,
        folder=config.cache_folder(),
        root=listing.root,
        on_progress=lambda done, total: on_event(ImagesRead(done=done, total=total)),
    )
    dataset = _split(listing, images, cache, config)
    on_event(dataset.describe())
    return dataset


def choose_subset(listing: Listing, config: TrainConfig) -> tuple[Image, ...]:
    """Choose about `config.subset` images, whole patients, labels and parts in proportion."""
    images = listing.images
    if config.subset is None or config.subset >= len(images):
        return images
    kinds = sorted({(image.part, image.label) for image in images})
    share = config.subset / len(images)
    folds = assign_folds(
        _find_groups(images, config),
        [kinds.index((image.part, image.label)) for image in images],
        fractions=(share, 1 - share),
        seed=config.seed,
        word=_find_word(images, config),
    )
    return tuple(image for image, fold in zip(images, folds, strict=True) if fold == 0)


def _find_word(images: Sequence[Image], config: TrainConfig) -> str:
    names = (image.name for image in images)
    return name_group(config.group_regex, names, of_patients=config.preset in (None, "xray"))


def _find_groups(images: Sequence[Image], config: TrainConfig) -> list[str]:
    pattern = compile_group_regex(config.group_regex)
    return [find_group(image.name, pattern) for image in images]


def _split(listing: Listing, images: Sequence[Image], cache: ImageCache, config: TrainConfig) -> Dataset:
    """Leave out what cannot be read, group identical and near-identical images, and split them."""
    left_out = _list_left_out(listing, images, cache)
    rows = [row for row in range(len(images)) if row not in cache.failures]
    _need_readable(listing, images, cache, left_out)
    good = [images[row] for row in rows]
    digests = [cache.digests[row] for row in rows]
    pairs = find_alike(cache.pixels, np.array(rows, np.intp)) if config.near_identical else []
    pairs = [(one, other) for one, other in pairs if digests[one] != digests[other]]
    groups = merge_groups(_find_groups(good, config), [digests], pairs=pairs)
    targets = [listing.labels.index(image.label) for image in good]
    alike = len({position for pair in pairs for position in pair})
    word = _find_word(good, config)
    try:
        splits = _choose_sides(good, groups, targets, listing.labels, config, word=word)
        splits = _set_calibration_aside(splits, groups, targets, config, word=word)
    except TooFewPatientsError as error:
        raise (error.blame_alike(alike, word=word) if alike else error) from None
    names = tuple(image.name for image in good)
    lines = sorted(f"{image.name}\n{digest}\n" for image, digest in zip(good, digests, strict=True))
    return Dataset(
        labels=listing.labels,
        names=names,
        groups=groups,
        targets=np.array(targets, np.intp),
        splits=splits,
        rows=np.array(rows, np.intp),
        pixels=cache.pixels,
        left_out=left_out,
        fingerprint=hashlib.sha256(encode_name("".join(lines))).hexdigest(),
        leaks=count_leaks(groups, splits),
        alike=alike,
        unmatched=count_unmatched(names, config.group_regex),
        conflicts=find_conflicts(names, targets, digests),
        colored=count_colored(listing, good, config),
        word=word,
    )


class UnreadableLabelError(DatasetError):
    """No file of a label could be read. `left_out`: the rows of corrupt.csv."""

    def __init__(self, message: str, *, left_out: tuple[LeftOut, ...]) -> None:
        super().__init__(message)
        self.left_out = left_out


def _need_readable(
    listing: Listing, images: Sequence[Image], cache: ImageCache, left_out: tuple[LeftOut, ...]
) -> None:
    """Raise UnreadableLabelError if no file of a label could be read; it says why for the first file."""
    for label in listing.labels:
        rows = [row for row, image in enumerate(images) if image.label == label]
        if rows and all(row in cache.failures for row in rows):
            kinds = Counter(cache.failures[row].status for row in rows)
            counts = ", ".join(f"{count:,} {status}" for status, count in kinds.most_common())
            raise UnreadableLabelError(
                f"None of the {len(rows):,} files of {label!r} could be read ({counts}). The first, "
                f"{images[rows[0]].name}: {cache.failures[rows[0]].message} Every file that was refused is "
                "in corrupt.csv, in the RUN directory. Replace these files and start again.",
                left_out=left_out,
            )


def _choose_sides(
    images: Sequence[Image],
    groups: Sequence[str],
    targets: list[int],
    labels: tuple[str, ...],
    config: TrainConfig,
    *,
    word: str,
) -> tuple[str, ...]:
    """Use the split of DATA/{train,val} if there is one; otherwise split by patient."""
    given = any(image.part == "val" for image in images)
    if given and config.folds:
        raise DatasetError(
            "--folds cannot be used with DATA/val, because it splits the images itself. Move the images of "
            "DATA/val to the others, as DATA/<label>/*, or leave --folds out."
        )
    owners: dict[int, set[str]] = defaultdict(set)
    for image, group, target in zip(images, groups, targets, strict=True):
        owners[target].add(image.part if given else group)
    for target, label in enumerate(labels):
        if len(owners[target]) < 2:
            words = pluralize(word)
            raise (DatasetError if given else TooFewPatientsError)(
                f"{label!r} has {targets.count(target)} readable images, "
                f"{'all on one side' if given else f'of {len(owners[target])} {words}'}. Training and "
                f"validation need images of two or more {words}. Add images, or say with --group-regex which "
                f"part of a name is the {word}."
            )
    if given:
        return tuple(image.part for image in images)
    if config.fold is not None:
        return _keep_fold(groups, targets, config, word=word)
    fractions = (1 - config.validation, config.validation)
    folds = assign_folds(groups, targets, fractions=fractions, seed=config.seed, word=word)
    return tuple(SPLITS[fold] for fold in folds)


def check_folds(data: Dataset, config: TrainConfig) -> None:
    """Check, before the first fold trains, that every fold can be split. Raises TooFewPatientsError."""
    count = config.folds or 0
    if _can_deal(data, config, count):
        return
    most = next((fewer for fewer in range(count - 1, 1, -1) if _can_deal(data, config, fewer)), None)
    patients = {
        label: len({g for g, t in zip(data.groups, data.targets, strict=True) if t == target})
        for target, label in enumerate(data.labels)
    }
    shown = ", ".join(f"{label} {number:,}" for label, number in patients.items())
    raise TooFewPatientsError(
        f"There are too few {pluralize(data.word)} of each label ({shown}) to train and validate each of "
        f"{count} networks and to hold others out. "
        + (f"Take --folds {most} or fewer" if most else "Leave --folds out")
        + f", add images, or say with --group-regex which part of a name is the {data.word}."
    )


def _can_deal(data: Dataset, config: TrainConfig, count: int) -> bool:
    try:
        for fold in range(count):
            one = replace(config, folds=count, fold=fold)
            _keep_fold(data.groups, [int(t) for t in data.targets], one, word=data.word)
    except TooFewPatientsError:
        return False
    return True


def _keep_fold(
    groups: Sequence[str], targets: Sequence[int], config: TrainConfig, *, word: str
) -> tuple[str, ...]:
    """Assign patients to folds, hold one fold out, and split the others into train and val."""
    count = config.folds or 1
    parts = [1 / count] * count
    folds = assign_folds(groups, targets, fractions=parts, seed=config.seed, word=word)
    rest = [index for index, fold in enumerate(folds) if fold != config.fold]
    dealt = assign_folds(
        [groups[index] for index in rest],
        [targets[index] for index in rest],
        fractions=(1 - config.validation, config.validation),
        seed=config.seed,
        word=word,
    )
    sides = {index: SPLITS[side] for index, side in zip(rest, dealt, strict=True)}
    return tuple(sides.get(index, CALIBRATION) for index in range(len(groups)))


def _set_calibration_aside(
    splits: tuple[str, ...], groups: Sequence[str], targets: list[int], config: TrainConfig, *, word: str
) -> tuple[str, ...]:
    """Move patients from train to cal, for temperature and threshold; val stays as it is."""
    if not config.calibration_split:
        return splits
    train = [index for index, split in enumerate(splits) if split == "train"]
    share = config.calibration_split * len(splits) / len(train)
    if share >= 1:
        raise DatasetError(
            f"A --calibration-split of {config.calibration_split:g} of {len(splits):,} images leaves none to "
            f"train on: {len(train):,} of them are in train. Make it smaller."
        )
    folds = assign_folds(
        [groups[index] for index in train],
        [targets[index] for index in train],
        fractions=(1 - share, share),
        seed=config.seed,
        word=word,
    )
    aside = {index for index, fold in zip(train, folds, strict=True) if fold}
    return tuple(CALIBRATION if index in aside else split for index, split in enumerate(splits))


def _list_left_out(listing: Listing, images: Sequence[Image], cache: ImageCache) -> tuple[LeftOut, ...]:
    strays = [
        LeftOut(
            name=name,
            status="unlabelled",
            message=_UNLABELLED,
        )
        for name in listing.strays
    ]
    failed = [
        LeftOut(name=images[row].name, status=failure.status, message=failure.message)
        for row, failure in sorted(cache.failures.items())
    ]
    return tuple(strays + failed)


def sample_calibration(dataset: Dataset, *, count: int, seed: int) -> list[str]:
    """Choose the names of up to `count` training images that calibrate int8, labels in proportion.

    The names are saved one a line, so a name that contains a line break is left out.
    """
    train = dataset.select("train")
    wanted = min(count, len(train))
    chosen: list[str] = []
    for label in range(len(dataset.labels)):
        owned = [dataset.names[i] for i in train if dataset.targets[i] == label]
        names = [name for name in owned if "\n" not in name and "\r" not in name]
        names.sort(key=lambda name: hash_name(name, seed=seed))
        chosen += names[: max(1, len(names) * wanted // len(train))]
    return sorted(chosen)
