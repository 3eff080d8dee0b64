"""Temperature scaling: one number that calibrates probabilities.

The logits are divided by the temperature (Guo et al., ICML 2017). The largest label of an image stays the
largest, and with two labels the ranking of images does not change. The logits are computed from the
probabilities: a softmax loses only a constant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST, LARGEST = 0.05, 20.0
_HALVINGS = 60


def apply_temperature(probabilities: NDArray[np.floating], temperature: float) -> Floats:
    """Return the probabilities after division of the logits by `temperature`.

    `probabilities`: (N, K), 0 to 1, rows sum to 1, at temperature 1. Returns float64 (N, K).
    """
    return _softmax(read_logits(probabilities) / temperature)


def read_logits(probabilities: NDArray[np.floating]) -> Floats:
    """Return logits, float64 (N, K), whose softmax gives the probabilities (N, K)."""
    exact = probabilities.astype(np.float64)
    logits: Floats = np.log(np.maximum(exact, np.finfo(np.float32).tiny))
    return logits


def fit_temperature(probabilities: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """Find the temperature, 0.05 to 20, that minimizes the log loss of held-out images.

    `probabilities`: (N, K) at temperature 1; `truth`: (N,), columns. The target of the true label is
    (n + 1) / (n + K), n being its number of images (Platt 1999): with a target of 1, images that are ranked
    without an error would drive the probabilities to 0 and 1.
    """
    logits = read_logits(probabilities)
    wanted = _smooth_truth(truth, columns=logits.shape[1])
    # The log loss is convex in 1 / temperature: its slope changes sign once.
    low, high = np.log(1 / LARGEST), np.log(1 / LEAST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = _softmax(logits * np.exp(middle))
        if float(((found - wanted) * logits).sum()) < 0:
            low = middle
        else:
            high = middle
    return float(f"{np.exp(-(low + high) / 2):.6g}")


def doubt_temperature(temperature: float) -> str | None:
    """Explain a fitted temperature that ended on one of its bounds; None if it did not."""
    if temperature >= LARGEST:
        said = "the network's confidence says little about how often it is right"
    elif temperature <= LEAST:
        said = "the network is hardly sure of anything, right or wrong"
    else:
        return None
    return (
        f"the temperature ended on its bound, {temperature:g}: on held-out images {said}. Its probabilities "
        "cannot be trusted: train longer, or look at the data"
    )


def _smooth_truth(truth: NDArray[np.integer], *, columns: int) -> Floats:
    """Return smoothed targets, float64 (N, K), never exactly 0 or 1."""
    counts = np.bincount(truth, minlength=columns).astype(np.float64)
    rest = 1 / (counts[truth] + columns)
    wanted = np.repeat(rest[:, None], columns, axis=1)
    wanted[np.arange(len(truth)), truth] = (counts[truth] + 1) * rest
    return wanted


def _softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return result
