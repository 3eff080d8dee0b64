"""Metrics of probabilities, with bootstrap intervals by patient.

Everything is computed from weighted counts, so that a bootstrap resample is only another weighting. The tests
compare the values with scikit-learn's. A value that the data do not define (for example the sensitivity if no
image is positive) is NaN here and null in JSON, never 0.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import DatasetError
from wetread.runtime.model.spec import ModelSpec

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

CALIBRATION_BINS = 10


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
        plain: dict[str, Any] = _to_plain(dataclasses.asdict(self))
        return plain


def _to_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


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
    judged = _Judged.of(sample.probabilities, truth, spec)
    ones = np.ones(len(truth))
    weights = ones if sample.weights is None else sample.weights
    drawn = draw_weights(len(truth), groups, resamples=resamples, seed=seed)
    return Metrics(
        images=len(truth),
        patients=None if groups is None else len(set(groups)),
        labels=spec.labels,
        positive=spec.positive,
        threshold=spec.threshold,
        confusion=tuple(tuple(int(n) for n in row) for row in _confusion(judged, ones)),
        per_label=_per_label(judged, weights, spec.labels),
        intervals=_bootstrap(judged, (weights * times for times in drawn)) if resamples else {},
        **_values(judged, weights),
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


@dataclass(frozen=True)
class _Judged:
    """Values that do not depend on the weights: computed once, before any resampling."""

    probabilities: Floats  # (N, K)
    truth: Indices  # (N,)
    chosen: Indices  # (N,)
    levels: tuple[
        Indices, ...
    ]  # for each label, the rank of each image's probability among the distinct ones
    positive: int | None

    @classmethod
    def of(cls, probabilities: NDArray[np.floating], truth: NDArray[np.integer], spec: ModelSpec) -> _Judged:
        exact = probabilities.astype(np.float64)
        levels = tuple(np.unique(column, return_inverse=True)[1] for column in exact.T)
        chosen = spec.decide(probabilities.astype(np.float32))
        return cls(exact, truth.astype(np.intp), chosen, levels, spec.positive_index)


def _values(judged: _Judged, weights: Floats) -> dict[str, float]:
    """Compute all scalar values of Metrics for one weighting of the images."""
    confusion = _confusion(judged, weights)
    labels = range(judged.probabilities.shape[1])
    counts = [_against_others(confusion, label) for label in labels]
    curves = [_rank(judged, label, weights) for label in labels]
    chosen = [judged.positive] if judged.positive is not None else list(labels)
    rates = counts[judged.positive] if judged.positive is not None else dict.fromkeys(_RATES, math.nan)
    return {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "balanced_accuracy": _mean([count["sensitivity"] for count in counts]),
        **{name: rates[name] for name in _RATES},
        "f1": _mean([counts[label]["f1"] for label in chosen]),
        "mcc": _matthews(confusion),
        "auc": _mean([curves[label][0] for label in chosen]),
        "average_precision": _mean([curves[label][1] for label in chosen]),
        **_calibration(judged, weights),
    }


_RATES = ("sensitivity", "specificity", "ppv", "npv")


def _per_label(judged: _Judged, weights: Floats, labels: tuple[str, ...]) -> dict[str, LabelMetrics]:
    confusion = _confusion(judged, weights)
    found = {}
    for index, label in enumerate(labels):
        auc, average_precision = _rank(judged, index, weights)
        found[label] = LabelMetrics(
            images=int((judged.truth == index).sum()),
            auc=auc,
            average_precision=average_precision,
            **_against_others(confusion, index),
        )
    return found


def _confusion(judged: _Judged, weights: Floats) -> Floats:
    """Sum the weights by true label (rows) and chosen label (columns)."""
    size = judged.probabilities.shape[1]
    cells = np.bincount(judged.truth * size + judged.chosen, weights=weights, minlength=size * size)
    return cells.astype(np.float64).reshape(size, size)


def _against_others(confusion: Floats, label: int) -> dict[str, float]:
    hit = confusion[label, label]
    missed, false = confusion[label].sum() - hit, confusion[:, label].sum() - hit
    rest = confusion.sum() - hit - missed - false
    return {
        "sensitivity": _divide(hit, hit + missed),
        "specificity": _divide(rest, rest + false),
        "ppv": _divide(hit, hit + false),
        "npv": _divide(rest, rest + missed),
        "f1": _divide(2 * hit, 2 * hit + false + missed),
    }


def _matthews(confusion: Floats) -> float:
    """Matthews correlation for any number of labels (Gorodkin 2004); 0 if only one label occurs."""
    true, chosen, total = confusion.sum(axis=1), confusion.sum(axis=0), confusion.sum()
    spread = (total**2 - (true**2).sum()) * (total**2 - (chosen**2).sum())
    covariance = np.trace(confusion) * total - (true * chosen).sum()
    return float(covariance / math.sqrt(spread)) if spread > 0 else 0.0


def _rank(judged: _Judged, label: int, weights: Floats) -> tuple[float, float]:
    """Area under the ROC curve (ties count half) and average precision of one label against the others."""
    yes = (judged.truth == label) * weights
    level = judged.levels[label]
    positives = np.bincount(level, weights=yes)
    negatives = np.bincount(level, weights=weights - yes)
    below = np.cumsum(negatives) - negatives
    auc = _divide((positives * (below + negatives / 2)).sum(), positives.sum() * negatives.sum())
    hits, false = np.cumsum(positives[::-1]), np.cumsum(negatives[::-1])
    precision = hits / np.maximum(hits + false, np.finfo(float).tiny)
    return auc, _divide((positives[::-1] * precision).sum(), positives.sum())


def _calibration(judged: _Judged, weights: Floats) -> dict[str, float]:
    """Brier score, expected calibration error and log loss."""
    rows = np.arange(len(judged.truth))
    if judged.positive is not None:
        shown = judged.probabilities[:, judged.positive]
        right = (judged.truth == judged.positive).astype(np.float64)
        squared = (shown - right) ** 2
    else:
        best = np.argmax(judged.probabilities, axis=1)
        shown, right = judged.probabilities[rows, best], (best == judged.truth).astype(np.float64)
        certain = np.eye(judged.probabilities.shape[1])[judged.truth]
        squared = ((judged.probabilities - certain) ** 2).sum(axis=1)
    bins = np.minimum((shown * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=weights * (shown - right), minlength=CALIBRATION_BINS)
    told = np.maximum(judged.probabilities[rows, judged.truth], np.finfo(np.float32).eps)
    total = weights.sum()
    return {
        "brier": float((weights * squared).sum() / total),
        "ece": float(np.abs(gaps).sum() / total),
        "log_loss": float(-(weights * np.log(told)).sum() / total),
    }


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
    first, second = (_Judged.of(table, truth, spec) for table, spec in zip(probabilities, specs, strict=True))
    whole = _subtract(first, second, np.ones(len(truth)))
    drawn: dict[str, list[float]] = {}
    for weights in draw_weights(len(truth), groups, resamples=resamples, seed=seed):
        for name, value in _subtract(first, second, weights).items():
            drawn.setdefault(name, []).append(value)
    return {
        name: (value, *(_interval(drawn[name]) if name in drawn else (math.nan, math.nan)))
        for name, value in whole.items()
        if not math.isnan(value)
    }


def _subtract(first: _Judged, second: _Judged, weights: Floats) -> dict[str, float]:
    mine, other = _values(first, weights), _values(second, weights)
    return {name: mine[name] - other[name] for name in mine}


def _bootstrap(judged: _Judged, resampled: Iterator[Floats]) -> dict[str, tuple[float, float]]:
    """95% percentile intervals over resamples, each a weighting of the images."""
    drawn: dict[str, list[float]] = {}
    for weights in resampled:
        for name, value in _values(judged, weights).items():
            drawn.setdefault(name, []).append(value)
    return {name: _interval(values) for name, values in drawn.items() if not np.isnan(values).all()}


def draw_weights(images: int, groups: Sequence[str] | None, *, resamples: int, seed: int) -> Iterator[Floats]:
    """Draw how often each image counts in each bootstrap sample of whole patients."""
    owners = np.arange(images) if groups is None else np.unique(groups, return_inverse=True)[1]
    patients = int(owners.max()) + 1
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        times = np.bincount(random.integers(0, patients, patients), minlength=patients)
        yield times[owners].astype(np.float64)


def _interval(values: list[float]) -> tuple[float, float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def _divide(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else math.nan


def _mean(values: list[float]) -> float:
    """The mean of the values that are defined; NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
