"""Compute the points of a report's curves from probabilities and true labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wetread.evaluate.weighted_values import CALIBRATION_BINS
from wetread.runtime.model.spec import ModelSpec

Floats = NDArray[np.float64]
HISTOGRAM_BINS = 20
_POINTS = 600  # at most, of a curve: more are not visible


@dataclass(frozen=True)
class Curve:
    """Points of one label's curve, float64 (n,) each, 0 to 1. `column`: the label's; it sets the colour."""

    label: str
    column: int
    x: Floats
    y: Floats


@dataclass(frozen=True)
class Bin:
    """Images whose probability is from `low` to `high`: their number, their mean probability, the share that
    is right, and its 95% Wilson interval."""

    low: float
    high: float
    images: int
    probability: float
    share: float
    interval: tuple[float, float]


def trace_roc(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.integer],
    *,
    column: int,
    label: str,
    weights: Floats | None = None,
) -> Curve:
    """Trace sensitivity (y) over 1 - specificity (x) for every threshold, from (0, 0) to (1, 1).

    `probabilities`: (N, K); `truth`: (N,); `column`: the label's; `weights`: (N,), how many images each one
    stands for. No points where all images, or none, have the label.
    """
    hits, false = _count_above(probabilities[:, column], truth == column, weights)
    if not hits[-1] or not false[-1]:
        return Curve(label, column, np.empty(0), np.empty(0))
    x, y = np.append(0.0, false), np.append(0.0, hits)
    corners = np.ones(len(x), bool)
    corners[1:-1] = (np.diff(x)[:-1] * np.diff(y)[1:]) != (np.diff(x)[1:] * np.diff(y)[:-1])
    return thin_curve(Curve(label, column, x[corners] / false[-1], y[corners] / hits[-1]))


def trace_precision_recall(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.integer],
    *,
    column: int,
    label: str,
    weights: Floats | None = None,
) -> Curve:
    """Trace precision (y) over recall (x) for every threshold, highest first. Arguments as in `trace_roc`."""
    hits, false = _count_above(probabilities[:, column], truth == column, weights)
    if not hits[-1]:
        return Curve(label, column, np.empty(0), np.empty(0))
    return thin_curve(Curve(label, column, hits / hits[-1], hits / (hits + false)))


def _count_above(
    scores: NDArray[np.floating], truth: NDArray[np.bool_], weights: Floats | None
) -> tuple[Floats, Floats]:
    """Sum the weights of positives and negatives at or above each distinct score, the highest first."""
    level = np.unique(-scores.astype(np.float64), return_inverse=True)[1]
    whole = np.ones(len(truth)) if weights is None else weights
    yes = truth * whole
    hits, false = (np.cumsum(np.bincount(level, weights=part)) for part in (yes, whole - yes))
    return hits.astype(np.float64), false.astype(np.float64)


def thin_curve(curve: Curve, *, points: int = _POINTS) -> Curve:
    """Keep at most so many points of a curve, its ends among them."""
    if len(curve.x) <= points:
        return curve
    kept = np.unique(np.linspace(0, len(curve.x) - 1, points).round().astype(int))
    return Curve(curve.label, curve.column, curve.x[kept], curve.y[kept])


def bin_reliability(
    probabilities: NDArray[np.floating], truth: NDArray[np.integer], spec: ModelSpec
) -> list[Bin]:
    """Compare predicted with observed, in the ten bins of the calibration error, without empty ones.

    `probabilities`: (N, K); `truth`: (N,). With two labels, of the positive one; with more, of the largest.
    """
    if spec.positive_index is not None:
        shown, right = probabilities[:, spec.positive_index], truth == spec.positive_index
    else:
        best = probabilities.argmax(axis=1)
        shown, right = probabilities[np.arange(len(truth)), best], best == truth
    shown = shown.astype(np.float64)
    place = np.minimum((shown * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    found = []
    for index in np.unique(place):
        inside = place == index
        count, share = int(inside.sum()), float(right[inside].mean())
        edges = index / CALIBRATION_BINS, (index + 1) / CALIBRATION_BINS
        found.append(Bin(*edges, count, float(shown[inside].mean()), share, estimate_share(share, count)))
    return found


def estimate_share(share: float, count: int) -> tuple[float, float]:
    """The 95% Wilson interval of a share of `count` independent images."""
    z = 1.959963984540054
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def count_probabilities(scores: NDArray[np.floating]) -> NDArray[np.intp]:
    """Count scores, 0 to 1, in 20 bins of equal width."""
    place = np.minimum((scores.astype(np.float64) * HISTOGRAM_BINS).astype(int), HISTOGRAM_BINS - 1)
    return np.bincount(place, minlength=HISTOGRAM_BINS)
