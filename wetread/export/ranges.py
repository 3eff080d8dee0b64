"""Calibration: the range that each activation of a network takes on training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from wetread.errors import ExportError
from wetread.export.graph import add_outputs, open_plain

METHODS = ("minmax", "percentile", "mse")
_BINS = 2048
_BATCH = 8
_PERCENTILE = 0.9999


@dataclass(frozen=True)
class Histogram:
    """How often a tensor's values fell into equal bins from `low` to `high`. `counts`: int64 (2048,)."""

    low: float
    high: float
    counts: NDArray[np.int64]


def collect_histograms(
    model: onnx.ModelProto, names: Sequence[str], images: NDArray[np.uint8]
) -> dict[str, Histogram]:
    """Run images (N, H, W, C) through the float graph and count what the named tensors hold.

    Two passes, the range and then the counts, so that memory does not grow with N.
    """
    if not names:  # onnxruntime would take that for all outputs
        return {}
    if not len(images):
        raise ExportError("There are no calibration images. Give a folder with --calibration.")
    session = open_plain(add_outputs(model, names).SerializeToString())
    batches = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    low, high = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for batch in batches:
        for name, value in zip(names, session.run(list(names), {"image": batch}), strict=True):
            low[name], high[name] = min(low[name], float(value.min())), max(high[name], float(value.max()))
    counts = {name: np.zeros(_BINS, np.int64) for name in names}
    for batch in batches:
        for name, value in zip(names, session.run(list(names), {"image": batch}), strict=True):
            counts[name] += _count(value, low[name], high[name])
    return {name: Histogram(low[name], high[name], counts[name]) for name in names}


def _count(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.int64]:
    step = (high - low) / _BINS or 1.0
    places = np.minimum((values.ravel() - low) / step, _BINS - 1).astype(np.int64)
    return np.bincount(places, minlength=_BINS)


def choose_range(histogram: Histogram, method: str) -> tuple[float, float]:
    """The range to spread 256 steps over: low <= 0 <= high.

    'minmax' takes all of it, 'percentile' leaves out the 0.01% at each end, 'mse' takes the part that
    makes the mean squared error of rounding and clipping least.
    """
    low, high = histogram.low, histogram.high
    if method == "minmax" or high <= low:
        return (low, high)
    if method == "mse":
        return _least_error(histogram)
    share = np.cumsum(histogram.counts) / max(histogram.counts.sum(), 1)
    step = (high - low) / _BINS
    first = int(np.searchsorted(share, 1 - _PERCENTILE, side="right"))
    last = int(np.searchsorted(share, _PERCENTILE))
    return (min(low + first * step, 0.0), max(low + (last + 1) * step, 0.0))


def _least_error(histogram: Histogram) -> tuple[float, float]:
    """Try to cut each end of the range to 25 shares of it; the range with the least squared error."""
    step = (histogram.high - histogram.low) / _BINS
    centres = histogram.low + (np.arange(_BINS) + 0.5) * step
    best, chosen = np.inf, (histogram.low, histogram.high)
    for share in np.linspace(1, 0.28, 25):
        low, high = histogram.low * share, histogram.high * share
        size = (high - low) / 255
        outside = np.maximum(low - centres, 0) + np.maximum(centres - high, 0)
        error = np.where(outside > 0, outside**2, size**2 / 12) @ histogram.counts
        if error < best:
            best, chosen = error, (low, high)
    return chosen
