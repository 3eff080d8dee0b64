"""Tenths of the score: how many images were scored in each, and how many of them readers labelled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wetread.runtime.model.spec import ModelSpec

STRATA = 10


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Images with a score from `low` to `high`: how many were scored, and how many readers gave a label."""

    low: float
    high: float
    scored: int
    labelled: int


def _find_strata(probabilities: NDArray[np.float32], spec: ModelSpec) -> NDArray[np.intp]:
    """Return the tenth of each score, intp (N,): the positive label's with two labels, else the largest."""
    index = spec.positive_index
    score = probabilities.max(axis=1) if index is None else probabilities[:, index]
    return np.minimum((score * STRATA).astype(np.intp), STRATA - 1)


def weigh(
    probabilities: NDArray[np.float32], places: NDArray[np.intp], spec: ModelSpec
) -> NDArray[np.float64]:
    """Return how many scored images each labelled one stands for, float64 (n,).

    `probabilities`: (N, K), of all scored images; `places`: (n,), the labelled ones among them. The weight is
    the number of scored images in a tenth divided by the number of labelled ones there.
    """
    strata = _find_strata(probabilities, spec)
    whole = np.bincount(strata, minlength=STRATA)
    seen = np.bincount(strata[places], minlength=STRATA)
    weights: NDArray[np.float64] = (whole / np.maximum(seen, 1))[strata[places]]
    return weights


def count_strata(
    probabilities: NDArray[np.float32], places: NDArray[np.intp], spec: ModelSpec
) -> tuple[Stratum, ...]:
    """Return the tenths that hold a scored image. Arguments as in `weigh`."""
    strata = _find_strata(probabilities, spec)
    whole = np.bincount(strata, minlength=STRATA).tolist()
    seen = np.bincount(strata[places], minlength=STRATA).tolist()
    return tuple(
        Stratum(low=part / STRATA, high=(part + 1) / STRATA, scored=whole[part], labelled=seen[part])
        for part in range(STRATA)
        if whole[part]
    )
