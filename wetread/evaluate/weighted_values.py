"""The values of Metrics from weighted counts, so that a bootstrap resample is only another weighting.

What does not depend on the weights is computed once. 2,000 resamples of 120 labels are 240,000 rankings, so a
ranking adds up the images in few sums: the N images of a sample hold about N / 120 of each label.

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
_TINY = np.finfo(float).tiny
_RATES = ("sensitivity", "specificity", "ppv", "npv")


@dataclass(frozen=True)
class Ranking:
    """Where the images lie between those of one label, ordered by its probability, the highest first.

    A step is a probability that an image of the label has. `cells`: intp (N,), 3 j for an image above step j
    and below the one before, 3 j + 1 for another label's at step j, 3 j + 2 for an image of the label there.
    `places`: intp (steps,), each step's place among the `levels` distinct probabilities of all images.
    """

    cells: Indices
    places: Indices
    levels: int

    @classmethod
    def of(cls, scores: Floats, inside: NDArray[np.bool_]) -> Ranking:
        """Rank images by `scores`, float64 (N,); `inside`: bool (N,), whether an image is of the label."""
        found, level = np.unique(-scores, return_inverse=True)
        places = np.unique(level[inside])
        step = np.searchsorted(places, level)
        reached = np.isin(level, places)
        return cls(3 * step + reached + (reached & inside), places, len(found))


@dataclass(frozen=True)
class PreparedSample:
    """What does not depend on the weights: computed once, before any resampling.

    `truth` and `chosen`: intp (N,), columns of the labels. `rankings`: of each label. `positive`: its column.
    float64 (N,), of each image: `squared`, its share of the Brier score; `gaps`, its probability less 1 if it
    is right and 0 if not; `logs`, the logarithm of its true label's probability. `bins`: intp (N,), the bin
    of the probability.
    """

    truth: Indices
    chosen: Indices
    rankings: tuple[Ranking, ...]
    positive: int | None
    squared: Floats
    gaps: Floats
    logs: Floats
    bins: Indices

    @classmethod
    def of(
        cls, probabilities: NDArray[np.floating], truth: NDArray[np.integer], spec: ModelSpec
    ) -> PreparedSample:
        """Prepare images; arguments as of `wetread.evaluate.metrics.measure`."""
        exact, true, positive = probabilities.astype(np.float64), truth.astype(np.intp), spec.positive_index
        shown, right, squared = _find_errors(exact, true, positive)
        told = np.maximum(exact[np.arange(len(true)), true], np.finfo(np.float32).eps)
        return cls(
            truth=true,
            chosen=spec.decide(probabilities.astype(np.float32)),
            rankings=tuple(Ranking.of(column, true == label) for label, column in enumerate(exact.T)),
            positive=positive,
            squared=squared,
            gaps=shown - right,
            logs=np.log(told),
            bins=np.minimum((shown * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1),
        )

    @property
    def labels(self) -> int:
        """The number of labels."""
        return len(self.rankings)


def _find_errors(
    probabilities: Floats, truth: Indices, positive: int | None
) -> tuple[Floats, Floats, Floats]:
    """The probability that is shown, float64 (N,), whether it is right (0 or 1), and the squared error."""
    if positive is not None:
        shown, right = probabilities[:, positive], (truth == positive).astype(np.float64)
        return shown, right, (shown - right) ** 2
    best = np.argmax(probabilities, axis=1)
    shown, right = probabilities[np.arange(len(truth)), best], (best == truth).astype(np.float64)
    certain = np.eye(probabilities.shape[1])[truth]
    return shown, right, ((probabilities - certain) ** 2).sum(axis=1)


def compute_values(prepared: PreparedSample, weights: Floats) -> dict[str, float]:
    """Compute all scalar values of Metrics for one weighting of the images, (N,)."""
    return compute_each(prepared, weights[None])[0]


def compute_each(prepared: PreparedSample, weightings: Floats) -> list[dict[str, float]]:
    """Compute the values for several weightings of the images, (R, N): many cost less together than alone."""
    labels = range(prepared.labels) if prepared.positive is None else [prepared.positive]
    curves = np.array([rank_images(prepared, label, weightings) for label in labels])
    ranks = curves.transpose(2, 1, 0).tolist()
    return [_compute(prepared, weights, *found) for weights, found in zip(weightings, ranks, strict=True)]


def _compute(
    prepared: PreparedSample, weights: Floats, aucs: list[float], precisions: list[float]
) -> dict[str, float]:
    """The values for one weighting, given the areas and average precisions of the labels that count."""
    confusion = sum_confusion(prepared, weights)
    rates = {name: values.tolist() for name, values in compare_with_others(confusion).items()}
    positive = prepared.positive
    return {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "balanced_accuracy": _mean(rates["sensitivity"]),
        **{name: math.nan if positive is None else rates[name][positive] for name in _RATES},
        "f1": _mean(rates["f1"] if positive is None else [rates["f1"][positive]]),
        "mcc": _matthews(confusion),
        "auc": _mean(aucs),
        "average_precision": _mean(precisions),
        **_calibration(prepared, weights),
    }


def sum_confusion(prepared: PreparedSample, weights: Floats) -> Floats:
    """Sum the weights by true label (rows) and chosen label (columns)."""
    size = prepared.labels
    cells = np.bincount(prepared.truth * size + prepared.chosen, weights=weights, minlength=size * size)
    return cells.astype(np.float64).reshape(size, size)


def compare_with_others(confusion: Floats) -> dict[str, Floats]:
    """Sensitivity, specificity, PPV, NPV and F1 of each label against all the others, float64 (K,)."""
    hit = confusion.diagonal()
    missed, false = confusion.sum(axis=1) - hit, confusion.sum(axis=0) - hit
    rest = confusion.sum() - hit - missed - false
    return {
        "sensitivity": _divide_each(hit, hit + missed),
        "specificity": _divide_each(rest, rest + false),
        "ppv": _divide_each(hit, hit + false),
        "npv": _divide_each(rest, rest + missed),
        "f1": _divide_each(2 * hit, 2 * hit + false + missed),
    }


def _matthews(confusion: Floats) -> float:
    """Matthews correlation for any number of labels (Gorodkin 2004); 0 if only one label occurs."""
    true, chosen, total = confusion.sum(axis=1), confusion.sum(axis=0), confusion.sum()
    spread = (total**2 - (true**2).sum()) * (total**2 - (chosen**2).sum())
    covariance = np.trace(confusion) * total - (true * chosen).sum()
    return float(covariance / math.sqrt(spread)) if spread > 0 else 0.0


def rank_images(prepared: PreparedSample, label: int, weightings: Floats) -> tuple[Floats, Floats]:
    """Area under the ROC curve (ties count half) and average precision of one label against the others.

    Both float64 (R,), for weightings (R, N) of the images.
    """
    ranking, count = prepared.rankings[label], len(weightings)
    steps = len(ranking.places)
    if not steps:
        return np.full(count, math.nan), np.full(count, math.nan)
    size = 3 * steps + 1
    cells = np.array([np.bincount(ranking.cells, weights=one, minlength=size) for one in weightings])
    between, tied, hit = cells[:, 0::3], cells[:, 1::3], cells[:, 2::3]
    hits, false = np.cumsum(hit, axis=1), np.cumsum(between[:, :-1] + tied, axis=1)
    positives, negatives = hits[:, -1], false[:, -1] + between[:, -1]
    area = (hit * (negatives[:, None] - false + tied / 2)).sum(axis=1)
    # The last digit of a sum depends on its zeros too: there is one for each probability without a hit.
    parts = np.zeros((count, ranking.levels))
    parts[:, ranking.places] = hit * (hits / np.maximum(hits + false, _TINY))
    return _divide_each(area, positives * negatives), _divide_each(parts.sum(axis=1), positives)


def _calibration(prepared: PreparedSample, weights: Floats) -> dict[str, float]:
    """Brier score, expected calibration error and log loss."""
    gaps = np.bincount(prepared.bins, weights=weights * prepared.gaps, minlength=CALIBRATION_BINS)
    total = weights.sum()
    return {
        "brier": float((weights * prepared.squared).sum() / total),
        "ece": float(np.abs(gaps).sum() / total),
        "log_loss": float(-(weights * prepared.logs).sum() / total),
    }


def _divide_each(parts: Floats, wholes: Floats) -> Floats:
    shares = np.full(len(parts), math.nan)
    np.divide(parts, wholes, out=shares, where=wholes > 0)
    return shares


def _mean(values: list[float]) -> float:
    """The mean of the values that are defined; NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
