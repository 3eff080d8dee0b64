"""Labels that flip: which of them count, how many may, and what so many images can show.

A label flips easily where Keras itself is near to deciding otherwise, and another 80 images have other near
ties: those are counted apart. Of the rest, the share among the images may not be above the limit, in `export`
and in `parity` alike. What it says of other images is an interval: 0 of 80 is 0 to 4.5% of such images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, floor, lgamma, log

import numpy as np
from numpy.typing import NDArray

from wetread.runtime.model.answers import are_probabilities
from wetread.runtime.model.spec import ModelSpec

# Keras within this of deciding otherwise: a near tie.
BAND = 0.02
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class FlipCount:
    """Labels that differ from Keras' among so many images; `near`: those of near ties among them.

    `unanswered`: flips of images for which the form has no probabilities, none of them near.
    """

    flips: int
    near: int
    images: int
    unanswered: int = 0

    @property
    def far(self) -> int:
        """The flips that count: of images on which Keras is sure."""
        return self.flips - self.near


def count_flips(found: NDArray[np.floating], keras: NDArray[np.floating], spec: ModelSpec) -> FlipCount:
    """Compare the labels that probabilities (N, K) give with Keras' own."""
    lost = ~are_probabilities(found.astype(np.float32))
    other = lost | (spec.decide(found.astype(np.float32)) != spec.decide(keras.astype(np.float32)))
    near = other & ~lost & (measure_margins(keras, spec) <= BAND)
    return FlipCount(int(other.sum()), int(near.sum()), len(keras), int(lost.sum()))


def measure_margins(probabilities: NDArray[np.floating], spec: ModelSpec) -> NDArray[np.float64]:
    """How far each row is from another label: from the threshold, or from the runner-up. float64 (N,)."""
    if spec.positive_index is not None:
        return np.abs(probabilities[:, spec.positive_index].astype(np.float64) - spec.threshold)
    ordered = np.sort(probabilities.astype(np.float64), axis=1)
    margins: NDArray[np.float64] = ordered[:, -1] - ordered[:, -2]
    return margins


def allow_flips(images: int, share: float) -> int:
    """The most flips among so many images that are at most the share of them; below 0 for a share below 0.

    0.5% of 80 images is none: one flip is 1.25%.
    """
    return floor(images * share + 1e-9)  # 0.29 of 100 is 29, although the product is a little less


def bound_share(count: int, images: int) -> tuple[float, float]:
    """The exact 95% interval of a share, by Clopper and Pearson (Biometrika 26, 1934)."""
    tail = (1 - _CONFIDENCE) / 2
    low = 0.0 if count == 0 else _solve(lambda share: 1 - at_most(count - 1, images, share), tail)
    high = 1.0 if count == images else _solve(lambda share: -at_most(count, images, share), -tail)
    return low, high


def at_most(count: int, images: int, share: float) -> float:
    """How likely at most `count` of so many images are what a true share gives; for any number of images."""
    return sum(exp(_log_binomial(k, images, share)) for k in range(count + 1))


def _log_binomial(count: int, images: int, share: float) -> float:
    ways = lgamma(images + 1) - lgamma(count + 1) - lgamma(images - count + 1)
    return ways + count * log(share) + (images - count) * log(1 - share)


def _solve(rising: Callable[[float], float], wanted: float) -> float:
    """Where a function that rises from 0 to 1 has a value, by halving."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return (low + high) / 2
