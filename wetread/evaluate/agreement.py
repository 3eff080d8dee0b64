"""Measure how far readers agree on the labels of the same images: Cohen's kappa of two, Fleiss' of all.

Sources: Cohen, Educational and Psychological Measurement 20 (1960); Fleiss, Psychological Bulletin 76 (1971).
Both compare with the agreement by chance: 1 is full agreement, 0 that of chance. Intervals are 95%
percentiles of bootstrap samples of patients, or of other groups.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from wetread.errors import DatasetError, UsageError
from wetread.evaluate.metrics import draw_weights
from wetread.evaluate.patients import (
    DEFAULT_GROUP_REGEX,
    PATIENT,
    compile_group_regex,
    find_group,
    name_group,
)
from wetread.evaluate.reviews import Review
from wetread.runtime.scoring.rows import encode_csv

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Kappa:
    """One kappa with its readers, its number of images, and its interval (NaN: not defined).

    `agreement`: the share of images (of pairs of readings, with more than two readers) that agree.
    """

    readers: tuple[str, ...]
    images: int
    agreement: float
    value: float
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An image on which readers differ. `said`: each reader's label or verdict, '' without a review."""

    path: str
    said: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The agreement of two readers or more. `common`: the number of images that all of them labelled.

    `fleiss` is None with two readers. `differences`: images with different reviews, in the files' order.
    `word`: what the images are grouped by, 'patient' or 'group', say.
    """

    readers: tuple[str, ...]
    labelled: tuple[int, ...]
    common: int
    cohen: tuple[Kappa, ...]
    fleiss: Kappa | None
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    word: str = PATIENT


@dataclass(frozen=True, kw_only=True)
class AgreementOptions:
    """How to compare readers.

    `group_regex` finds the patient, or another group, in a path. `resamples`: bootstrap samples for the
    intervals, drawn from `seed`; 0: none.
    """

    group_regex: str = DEFAULT_GROUP_REGEX
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 0:
            raise UsageError(f"--resamples must be 0 or more, not {self.resamples}.")


def compare_readers(files: dict[str, list[Review]], options: AgreementOptions) -> Agreement:
    """Compare two readers or more. `files`: the reviews in each file, by its name.

    Raises UsageError for fewer than two files, and DatasetError if readers have no labelled image in common.
    """
    if len(files) < 2:
        raise UsageError(
            f"`wetread agreement` compares two files or more, not {len(files)}. Name a file for each reader."
        )
    readers = name_readers(files)
    said = [{review.path: review for review in reviews} for reviews in files.values()]
    labels = [{path: r.label for path, r in one.items() if r.verdict.has_label} for one in said]
    cohen = [
        _compare((readers[i], readers[j]), [labels[i], labels[j]], options, measure_cohen)
        for i, j in itertools.combinations(range(len(readers)), 2)
    ]
    return Agreement(
        readers=readers,
        labelled=tuple(map(len, labels)),
        common=len(set.intersection(*map(set, labels))),
        cohen=tuple(cohen),
        fleiss=_compare(readers, labels, options, measure_fleiss) if len(readers) > 2 else None,
        differences=tuple(_list_differences(said)),
        notes=tuple(_find_notes(readers, said)),
        word=name_group(options.group_regex, (path for one in said for path in one), of_patients=False),
    )


def name_readers(files: dict[str, list[Review]]) -> tuple[str, ...]:
    """Return the readers' names; those of the files if names repeat, or a file has none or several."""
    own = [{review.reader for review in reviews} for reviews in files.values()]
    names = [next(iter(found)) if len(found) == 1 else "" for found in own]
    if all(names) and len(set(names)) == len(names):
        return tuple(names)
    stems = [PurePath(name).stem for name in files]
    return tuple(stems if len(set(stems)) == len(stems) else files)


def _compare(
    readers: tuple[str, ...],
    labels: Sequence[dict[str, str]],
    options: AgreementOptions,
    measure: Callable[[Codes, Floats], tuple[float, float]],
) -> Kappa:
    """Compute one kappa over the images that all of these readers labelled. Raises DatasetError."""
    paths = sorted(set.intersection(*map(set, labels)))
    if not paths:
        raise DatasetError(
            f"There is no image that {' and '.join(readers)} all labelled. Give reviews of the same images."
        )
    words = sorted({one[path] for one in labels for path in paths})
    codes = np.array([[words.index(one[path]) for one in labels] for path in paths], np.intp)
    pattern = compile_group_regex(options.group_regex)
    groups = [find_group(path, pattern) for path in paths]
    agreement, value = measure(codes, np.ones(len(paths)))
    drawn = draw_weights(len(paths), groups, resamples=options.resamples, seed=options.seed)
    values = np.array([measure(codes, weights)[1] for weights in drawn])
    known = values[~np.isnan(values)]
    low, high = np.percentile(known, [2.5, 97.5]).tolist() if len(known) else (math.nan, math.nan)
    return Kappa(readers=readers, images=len(paths), agreement=agreement, value=value, interval=(low, high))


def measure_cohen(codes: Codes, weights: Floats) -> tuple[float, float]:
    """Agreement and Cohen's kappa of two readers: codes (N, 2) of labels, images weighted (N,)."""
    size = int(codes.max()) + 1
    table = np.bincount(codes[:, 0] * size + codes[:, 1], weights=weights, minlength=size * size)
    shares = table.reshape(size, size) / weights.sum()
    agreement = float(np.trace(shares))
    return agreement, _beyond_chance(agreement, float(shares.sum(axis=0) @ shares.sum(axis=1)))


def measure_fleiss(codes: Codes, weights: Floats) -> tuple[float, float]:
    """Agreement of pairs and Fleiss' kappa of R readers: codes (N, R) of labels, images weighted (N,)."""
    readers, size = codes.shape[1], int(codes.max()) + 1
    counts = np.stack([(codes == label).sum(axis=1) for label in range(size)], axis=1).astype(np.float64)
    pairs = (counts * (counts - 1)).sum(axis=1) / (readers * (readers - 1))
    agreement = float(weights @ pairs / weights.sum())
    shares = weights @ counts / (weights.sum() * readers)
    return agreement, _beyond_chance(agreement, float(shares @ shares))


def _beyond_chance(agreement: float, chance: float) -> float:
    """Return kappa; NaN if all reviews have one label, so that chance alone agrees fully."""
    return math.nan if chance >= 1 - 1e-12 else (agreement - chance) / (1 - chance)


def _list_differences(said: Sequence[dict[str, Review]]) -> list[Difference]:
    paths = dict.fromkeys(path for one in said for path in one)
    found = []
    for path in paths:
        reviews = [one.get(path) for one in said]
        words = tuple("" if r is None else r.label or str(r.verdict) for r in reviews)
        if len({word for word in words if word}) > 1:
            found.append(Difference(path=path, said=words))
    return found


def _find_notes(readers: Sequence[str], said: Sequence[dict[str, Review]]) -> list[str]:
    """List cautions about the numbers."""
    shown = [any(review.blind is False for review in one.values()) for one in said]
    seen = [reader for reader, was_shown in zip(readers, shown, strict=True) if was_shown]
    if not seen:
        return []
    return [
        f"{', '.join(seen)} saw the model's answers. Readers who see the same answers agree more than they "
        "would without them. Use `wetread review --blind` for an unbiased comparison."
    ]


def encode_differences(found: Agreement) -> bytes:
    """Write the differences as CSV: the path, then each reader's label or verdict."""
    return encode_csv([["path", *found.readers], *([d.path, *d.said] for d in found.differences)])
