"""Metrics of probabilities, with bootstrap intervals by patient, or by another group of images.

The tests compare the values with scikit-learn's. A value that the data do not define (for example the
sensitivity if no image is positive) is NaN here and null in JSON, never 0.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import DatasetError
from wetread.evaluate.weighted_values import (
    Floats,
    PreparedSample,
    compare_with_others,
    compute_each,
    compute_values,
    rank_images,
    sum_confusion,
)
from wetread.runtime.files.json_text import make_plain
from wetread.runtime.model.spec import ModelSpec

_ROWS, _CELLS = 32, 1 << 19  # of weightings that are computed together


@dataclass(frozen=True, kw_only=True)
class LabelMetrics:
    """One label against all the others: a count of images, and values from 0 to 1 (NaN: undefined)."""

    images: int
    sensitivity: float
    specificity: float
    ppv: float
    npv: float
    f1: float
    auc: float
    average_precision: float


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The result of `measure`. Values are from 0 to 1 (`mcc` from -1), NaN if the data do not define them.

    With two labels, `sensitivity` to `npv`, `f1`, `auc`, `average_precision` and `brier` are those of the
    positive label. With more, `sensitivity` to `npv` are NaN (see `per_label`); `f1`, `auc` and
    `average_precision` are means over the labels, each against the others; `brier` sums the squared
    errors over the labels, and so goes to 2.

    `ece`, the expected calibration error, has 10 bins of equal width: of the positive label's probability
    with two labels, of the largest probability with more. `confusion` has a row for each true label and a
    column for each chosen one. `intervals` holds (low, high) of each value: 95%, bootstrap by patient.
    """

    images: int
    patients: int | None
    labels: tuple[str, ...]
    positive: str | None
    threshold: float
    accuracy: float
    balanced_accuracy: float
    sensitivity: float
    specificity: float
    ppv: float
    npv: float
    f1: float
    mcc: float
    auc: float
    average_precision: float
    brier: float
    ece: float
    log_loss: float
    confusion: tuple[tuple[int, ...], ...]
    per_label: dict[str, LabelMetrics]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON holds them: NaN becomes None, tuples become lists."""
        plain: dict[str, Any] = make_plain(dataclasses.asdict(self))
        return plain


def measure(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.integer],
    spec: ModelSpec,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 0,
    seed: int = 0,
) -> Metrics:
    """Compare probabilities with the truth.

    `probabilities`: (N, K), 0 to 1, rows sum to 1; `truth`: (N,), columns of `spec.labels`; `groups`: the
    patient of each image. The label is chosen as the runtime does, by `spec.decide`. With `resamples`,
    95% percentile intervals from that many bootstrap samples of patients (of images without `groups`),
    drawn from `seed`. Raises DatasetError if the shapes do not fit.
    """
    sample = Sample(probabilities=probabilities, truth=truth, groups=groups)
    return measure_sample(sample, spec, resamples=resamples, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Images that stand for others. `probabilities`, `truth` and `groups` as in `measure`.

    `weights`: float64 (N,), how many images each of them stands for; None: itself alone.
    """

    probabilities: NDArray[np.floating]
    truth: NDArray[np.integer]
    groups: Sequence[str] | None = None
    weights: Floats | None = None


def measure_sample(sample: Sample, spec: ModelSpec, *, resamples: int = 0, seed: int = 0) -> Metrics:
    """Judge probabilities as `measure` does, each image as often as it is weighted.

    `images`, `patients` and `confusion` count the images that are there. Raises DatasetError when the shapes
    do not fit.
    """
    truth, groups = sample.truth, sample.groups
    _check_shapes(sample.probabilities, truth, spec, groups)
    prepared = PreparedSample.of(sample.probabilities, truth, spec)
    ones = np.ones(len(truth))
    weights = ones if sample.weights is None else sample.weights
    drawn = draw_weights(len(truth), groups, resamples=resamples, seed=seed)
    return Metrics(
        images=len(truth),
        patients=None if groups is None else len(set(groups)),
        labels=spec.labels,
        positive=spec.positive,
        threshold=spec.threshold,
        confusion=tuple(tuple(int(n) for n in row) for row in sum_confusion(prepared, ones)),
        per_label=_per_label(prepared, weights, spec.labels),
        intervals=_bootstrap(prepared, (weights * times for times in drawn)) if resamples else {},
        **compute_values(prepared, weights),
    )


def _check_shapes(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.integer],
    spec: ModelSpec,
    groups: Sequence[str] | None,
) -> None:
    expected = (len(truth), len(spec.labels))
    if probabilities.shape != expected or not len(truth):
        raise DatasetError(
            f"The probabilities of one or more images must have the shape {expected}, not "
            f"{probabilities.shape}: a row for each true label and a column for each of "
            f"{', '.join(spec.labels)}."
        )
    if groups is not None and len(groups) != len(truth):
        raise DatasetError(f"There must be a patient for each of {len(truth)} images, not {len(groups)}.")


def _per_label(prepared: PreparedSample, weights: Floats, labels: tuple[str, ...]) -> dict[str, LabelMetrics]:
    rates = compare_with_others(sum_confusion(prepared, weights))
    found = {}
    for index, label in enumerate(labels):
        auc, average_precision = (float(value[0]) for value in rank_images(prepared, index, weights[None]))
        found[label] = LabelMetrics(
            images=int((prepared.truth == index).sum()),
            auc=auc,
            average_precision=average_precision,
            **{name: float(values[index]) for name, values in rates.items()},
        )
    return found


def measure_differences(
    probabilities: tuple[NDArray[np.floating], NDArray[np.floating]],
    truth: NDArray[np.integer],
    specs: tuple[ModelSpec, ModelSpec],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 0,
    seed: int = 0,
) -> dict[str, tuple[float, float, float]]:
    """Subtract the second model's values from the first's: (difference, low, high) of each.

    Both models scored the same images, and each bootstrap sample of patients is used for both. So the
    difficulty of an image cancels out. Arguments otherwise as in `measure`; values that are not defined are
    left out, and without `resamples` low and high are NaN.
    """
    for table, spec in zip(probabilities, specs, strict=True):
        _check_shapes(table, truth, spec, groups)
    first, second = (
        PreparedSample.of(table, truth, spec) for table, spec in zip(probabilities, specs, strict=True)
    )
    whole = _subtract(first, second, np.ones(len(truth)))
    drawn: dict[str, list[float]] = {}
    resampled = draw_weights(len(truth), groups, resamples=resamples, seed=seed)
    for block in _stack(resampled, images=len(truth)):
        for mine, other in zip(compute_each(first, block), compute_each(second, block), strict=True):
            for name, value in mine.items():
                drawn.setdefault(name, []).append(value - other[name])
    return {
        name: (value, *(_interval(drawn[name]) if name in drawn else (math.nan, math.nan)))
        for name, value in whole.items()
        if not math.isnan(value)
    }


def _subtract(first: PreparedSample, second: PreparedSample, weights: Floats) -> dict[str, float]:
    mine, other = compute_values(first, weights), compute_values(second, weights)
    return {name: mine[name] - other[name] for name in mine}


def _bootstrap(prepared: PreparedSample, resampled: Iterator[Floats]) -> dict[str, tuple[float, float]]:
    """95% percentile intervals over resamples, each a weighting of the images."""
    drawn: dict[str, list[float]] = {}
    for block in _stack(resampled, images=len(prepared.truth)):
        for values in compute_each(prepared, block):
            for name, value in values.items():
                drawn.setdefault(name, []).append(value)
    intervals = {name: _interval(values) for name, values in drawn.items()}
    return {name: found for name, found in intervals.items() if not math.isnan(found[0])}


def _stack(resampled: Iterator[Floats], *, images: int) -> Iterator[Floats]:
    """Stack weightings of the images, (R, N), for `compute_each`: as many as fit into a few megabytes."""
    rows = max(1, min(_ROWS, _CELLS // images))
    while block := list(islice(resampled, rows)):
        yield np.stack(block)


def draw_weights(images: int, groups: Sequence[str] | None, *, resamples: int, seed: int) -> Iterator[Floats]:
    """Draw how often each image counts in each bootstrap sample of whole patients."""
    owners = np.arange(images) if groups is None else np.unique(groups, return_inverse=True)[1]
    patients = int(owners.max()) + 1
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        times = np.bincount(random.integers(0, patients, patients), minlength=patients)
        yield times[owners].astype(np.float64)


def _interval(values: list[float]) -> tuple[float, float]:
    """The 95% percentile interval of the values that are defined; NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
