"""The values of Metrics from weighted counts, so that a bootstrap resample is only another weighting.

A value that the data do not define, for example the sensitivity if no image is positive, is NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wetread.runtime.model.spec import ModelSpec

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

CALIBRATION_BINS = 10
_RATES = ("sensitivity", "specificity", "ppv", "npv")


@dataclass(frozen=True)
class PreparedSample:
    """What does not depend on the weights: computed once, before any resampling.

    `probabilities`: float64 (N, K). `truth` and `chosen`: intp (N,), columns of the labels. `levels`: for
    each label intp (N,), the rank of each image's probability among the distinct ones. `positive`: its
    column.
    """

    probabilities: Floats
    truth: Indices
    chosen: Indices
    levels: tuple[Indices, ...]
    positive: int | None

    @classmethod
    def of(
        cls, probabilities: NDArray[np.floating], truth: NDArray[np.integer], spec: ModelSpec
    ) -> PreparedSample:
        """Prepare images; arguments as of `wetread.evaluate.metrics.measure`."""
        exact = probabilities.astype(np.float64)
        levels = tuple(np.unique(column, return_inverse=True)[1] for column in exact.T)
        chosen = spec.decide(probabilities.astype(np.float32))
        return cls(exact, truth.astype(np.intp), chosen, levels, spec.positive_index)


def compute_values(prepared: PreparedSample, weights: Floats) -> dict[str, float]:
    """Compute all scalar values of Metrics for one weighting of the images."""
    confusion = sum_confusion(prepared, weights)
    labels = range(prepared.probabilities.shape[1])
    counts = [compare_with_others(confusion, label) for label in labels]
    curves = [rank_images(prepared, label, weights) for label in labels]
    chosen = [prepared.positive] if prepared.positive is not None else list(labels)
    rates = counts[prepared.positive] if prepared.positive is not None else dict.fromkeys(_RATES, math.nan)
    return {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "balanced_accuracy": _mean([count["sensitivity"] for count in counts]),
        **{name: rates[name] for name in _RATES},
        "f1": _mean([counts[label]["f1"] for label in chosen]),
        "mcc": _matthews(confusion),
        "auc": _mean([curves[label][0] for label in chosen]),
        "average_precision": _mean([curves[label][1] for label in chosen]),
        **_calibration(prepared, weights),
    }


def sum_confusion(prepared: PreparedSample, weights: Floats) -> Floats:
    """Sum the weights by true label (rows) and chosen label (columns)."""
    size = prepared.probabilities.shape[1]
    cells = np.bincount(prepared.truth * size + prepared.chosen, weights=weights, minlength=size * size)
    return cells.astype(np.float64).reshape(size, size)


def compare_with_others(confusion: Floats, label: int) -> dict[str, float]:
    """Sensitivity, specificity, PPV, NPV and F1 of one label against all the others."""
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


def rank_images(prepared: PreparedSample, label: int, weights: Floats) -> tuple[float, float]:
    """Area under the ROC curve (ties count half) and average precision of one label against the others."""
    yes = (prepared.truth == label) * weights
    level = prepared.levels[label]
    positives = np.bincount(level, weights=yes)
    negatives = np.bincount(level, weights=weights - yes)
    below = np.cumsum(negatives) - negatives
    auc = _divide((positives * (below + negatives / 2)).sum(), positives.sum() * negatives.sum())
    hits, false = np.cumsum(positives[::-1]), np.cumsum(negatives[::-1])
    precision = hits / np.maximum(hits + false, np.finfo(float).tiny)
    return auc, _divide((positives[::-1] * precision).sum(), positives.sum())


def _calibration(prepared: PreparedSample, weights: Floats) -> dict[str, float]:
    """Brier score, expected calibration error and log loss."""
    rows = np.arange(len(prepared.truth))
    if prepared.positive is not None:
        shown = prepared.probabilities[:, prepared.positive]
        right = (prepared.truth == prepared.positive).astype(np.float64)
        squared = (shown - right) ** 2
    else:
        best = np.argmax(prepared.probabilities, axis=1)
        shown, right = prepared.probabilities[rows, best], (best == prepared.truth).astype(np.float64)
        certain = np.eye(prepared.probabilities.shape[1])[prepared.truth]
        squared = ((prepared.probabilities - certain) ** 2).sum(axis=1)
    bins = np.minimum((shown * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=weights * (shown - right), minlength=CALIBRATION_BINS)
    told = np.maximum(prepared.probabilities[rows, prepared.truth], np.finfo(np.float32).eps)
    total = weights.sum()
    return {
        "brier": float((weights * squared).sum() / total),
        "ece": float(np.abs(gaps).sum() / total),
        "log_loss": float(-(weights * np.log(told)).sum() / total),
    }


def _divide(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else math.nan


def _mean(values: list[float]) -> float:
    """The mean of the values that are defined; NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
