"""Which of a run's held-out patients trained another RUN, a teacher or weights, by that RUN's splits.csv."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from wetread.errors import ConfigError
from wetread.evaluate.patients import compile_group_regex, find_group
from wetread.train.config import TrainConfig
from wetread.train.dataset import CALIBRATION, SPLITS, Dataset
from wetread.train.run import INPUTS, MODEL, is_finished
from wetread.train.run import SPLITS as SPLITS_FILE
from wetread.train.weights_file import IMAGENET, NONE

_TRAIN = SPLITS[0]
_SAVED = "seen_before"
_PARTS = ("train/", "val/", "test/")


@dataclass(frozen=True)
class Compared:
    """`seen`: the images of held-out patients that trained a RUN; `is_known`: whether names could tell."""

    seen: list[str]
    is_known: bool


class _Image(NamedTuple):
    group: str
    is_held: bool


class HeldOut:
    """The images and patients of a run that do not train it.

    A patient of DATA/val who is in DATA/train as well is not held out, since the student sees them itself;
    that image of DATA/val is. With `every` all images are: those of a run with folds are, in turn.
    """

    def __init__(self, data: Dataset, config: TrainConfig, *, every: bool = False) -> None:
        self._pattern = compile_group_regex(config.group_regex)
        images = {
            name: _Image(find_group(name, self._pattern), every or split != _TRAIN)
            for name, split in zip(data.names, data.splits, strict=True)
        }
        own = {image.group for image in images.values() if not image.is_held}
        self._groups = {image.group for image in images.values() if image.is_held} - own
        # Where train/ and val/ hold one name, the one that is held out stands for it.
        short = {_strip_part(name): images[name] for name in sorted(images, key=lambda n: images[n].is_held)}
        self._images = short | images
        self._files = {_find_file(name) for name in images}

    def compare(self, run: Path) -> Compared:
        """Compare with the images that trained a finished RUN. Raises ConfigError if these cannot be read.

        Of a RUN that knows none of these images patients are not compared: numbers of another hospital's
        patients are others. If it knows files of the same names in other folders, that cannot be told.
        """
        rows = _read_splits(run / SPLITS_FILE)
        if not any(self._find_image(name) for name, _ in rows):
            return Compared([], is_known=not any(_find_file(name) in self._files for name, _ in rows))
        return Compared([name for name, split in rows if split == _TRAIN and self._is_held(name)], True)

    def _find_image(self, name: str) -> _Image | None:
        return self._images.get(name) or self._images.get(_strip_part(name))

    def _is_held(self, name: str) -> bool:
        """Whether an image that trained the other run is held out here, or shows a patient who is."""
        if image := self._find_image(name):
            return image.is_held or image.group in self._groups
        short = _strip_part(name)  # the expression may need the part, or its absence
        spelled = (name, short, *(part + short for part in _PARTS))
        return any(find_group(one, self._pattern) in self._groups for one in spelled)


def compare_weights(config: TrainConfig, data: Dataset, *, begun: bool = False) -> Compared:
    """Compare the held-out images with those that trained the RUN whose weights a run begins with.

    Of a file of weights, Keras' or another, nothing is known and nothing is said: published weights are of
    other images. A RUN without a splits.csv that can be read is one of which names cannot tell. A run that
    has `begun` has what was found in its inputs.json, since the file may have moved out of its RUN.
    """
    if begun and (
        saved := json.loads((Path(config.output) / INPUTS).read_text(encoding="utf-8")).get(_SAVED)
    ):
        return Compared(**saved)
    run = _find_origin(config)
    if run is None:
        return Compared([], is_known=True)
    try:
        every = bool(config.folds) and config.fold is None  # its oof.csv has every image
        return HeldOut(data, config, every=every).compare(run)
    except ConfigError:
        return Compared([], is_known=False)


def describe_weights(compared: Compared) -> dict[str, Any]:
    """What inputs.json keeps of a comparison: `seen_before`, where it is doubtful."""
    doubtful = compared.seen or not compared.is_known
    return {_SAVED: asdict(compared)} if doubtful else {}


def _find_origin(config: TrainConfig) -> Path | None:
    """The RUN that weights are from: they are its folder, or the network in it."""
    if config.weights in (NONE, IMAGENET):  # a folder may have that name
        return None
    path = Path(config.weights)
    if path.name == MODEL and is_finished(path.parent):
        return path.parent
    return path if path.is_dir() else None


def doubt_weights(config: TrainConfig, compared: Compared, *, word: str) -> str | None:
    """Say why validation figures will be too good; None if nothing speaks for it. `word`: 'patient', say."""
    if compared.seen:
        return (
            f"by their names, {len(compared.seen):,} of the images that trained {config.weights} show a "
            f"{word} that is held out here ({compared.seen[0]}, say): validation results will be too good. "
            "Keep that run's split, with its --seed, --validation and --group-regex"
        )
    if not compared.is_known:
        return (
            f"which images trained {config.weights} is not known. Where they validate here, the figures are "
            "too good"
        )
    return None


def _read_splits(path: Path) -> list[tuple[str, str]]:
    """Read the name and the split of each image of a RUN. Raises ConfigError."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
            rows = [(row["name"], row["split"]) for row in csv.DictReader(lines)]
    except (OSError, KeyError, csv.Error) as error:
        raise ConfigError(_explain_unread(path, repr(error))) from error
    found = {split for _, split in rows}
    if _TRAIN not in found or not found <= {*SPLITS, CALIBRATION}:
        raise ConfigError(_explain_unread(path, "it is cut, or something else"))
    return rows


def _explain_unread(path: Path, reason: str) -> str:
    return (
        f"{path} cannot be read: {reason}. It says in its columns name and split which images trained that "
        "run, and without it nobody knows whether they validate this one. Copy the whole run again."
    )


def _strip_part(name: str) -> str:
    return next((name.removeprefix(part) for part in _PARTS if name.startswith(part)), name)


def _find_file(name: str) -> str:
    return name.rpartition("/")[2]
