"""Compare two models on the same images: is the difference more than chance?

McNemar's test compares how many images each gets right, DeLong's test the areas under the ROC curves. Both
assume independent images. If patients, or other groups, have several images, trust the bootstrap by group
(`differences`).
Sources: McNemar, Psychometrika 12 (1947); Edwards, Psychometrika 13 (1948), the correction; DeLong, DeLong
and Clarke-Pearson, Biometrics 44 (1988); Sun and Xu, IEEE SPL 21 (2014), the computation by ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import DatasetError
from wetread.evaluate.metrics import measure_differences
from wetread.runtime.files.json_text import make_plain
from wetread.runtime.model.spec import ModelSpec

Floats = NDArray[np.float64]
Scored = NDArray[np.floating]

# Above this many images on which the models disagree, the exact sum and the corrected statistic agree.
_EXACT = 1000


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Images that only one model gets right. `test`: 'exact binomial' or 'chi-squared, corrected'."""

    test: str
    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True, kw_only=True)
class DeLong:
    """Two areas under the ROC curve of one label, their difference's standard error, z and p (two-sided).

    `z` and `p_value` are NaN if both models rank all images alike: then there is nothing to test.
    """

    label: str
    first: float
    second: float
    error: float
    z: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The first model compared with the second, on images that both scored.

    `differences`: first minus second, with the 95% interval by patient, of every value in Metrics;
    `repeated`: images beyond the first of their patient, which the two tests treat as independent.
    """

    first: str
    second: str
    images: int
    patients: int
    repeated: int
    mcnemar: McNemar
    delong: tuple[DeLong, ...]
    differences: dict[str, tuple[float, float, float]]

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON holds them: NaN becomes None."""
        plain: dict[str, Any] = make_plain(asdict(self))
        return plain


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One of two models: its name, its spec, and its probabilities (N, K) for images that both scored."""

    name: str
    spec: ModelSpec
    probabilities: Scored


def compare(
    first: Contender,
    second: Contender,
    truth: NDArray[np.integer],
    *,
    groups: Sequence[str],
    resamples: int,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same images, in the same order.

    `truth`: (N,), columns of the labels, which both models must have in one order; `groups`: the patient of
    each image. Raises DatasetError if the labels or the positive one differ.
    """
    if (first.spec.labels, first.spec.positive) != (second.spec.labels, second.spec.positive):
        raise DatasetError(
            "The two models differ in their labels or in the positive one: "
            f"{_describe_labels(first.spec)} and {_describe_labels(second.spec)}. Export one of them again "
            "with the other's labels."
        )
    right = [model.spec.decide(model.probabilities.astype(np.float32)) == truth for model in (first, second)]
    positive = first.spec.positive_index
    columns = range(len(first.spec.labels)) if positive is None else [positive]
    return Comparison(
        first=first.name,
        second=second.name,
        images=len(truth),
        patients=len(set(groups)),
        repeated=len(truth) - len(set(groups)),
        mcnemar=run_mcnemar(right[0], right[1]),
        delong=tuple(_rank_label(first, second, truth, column) for column in columns),
        differences=measure_differences(
            (first.probabilities, second.probabilities),
            truth,
            (first.spec, second.spec),
            groups=groups,
            resamples=resamples,
            seed=seed,
        ),
    )


def _describe_labels(spec: ModelSpec) -> str:
    return ", ".join(spec.labels) + (f" (positive: {spec.positive})" if spec.positive else "")


def run_mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> McNemar:
    """Test whether two models get equally many images right.

    `first`, `second`: bool (N,), whether each is right. The exact binomial test, two-sided, for up to 1,000
    images on which they disagree; beyond that, chi-squared with Edwards' continuity correction.
    """
    mine, other = int((first & ~second).sum()), int((second & ~first).sum())
    total = mine + other
    if total <= _EXACT:
        tail = sum(math.comb(total, k) for k in range(min(mine, other) + 1))
        return McNemar(
            test="exact binomial", only_first=mine, only_second=other, p_value=min(1.0, 2 * tail / 2**total)
        )
    statistic = max(abs(mine - other) - 1, 0) ** 2 / total
    return McNemar(
        test="chi-squared, corrected",
        only_first=mine,
        only_second=other,
        p_value=math.erfc(math.sqrt(statistic / 2)),
    )


def _rank_label(first: Contender, second: Contender, truth: NDArray[np.integer], column: int) -> DeLong:
    return run_delong(
        first.probabilities[:, column],
        second.probabilities[:, column],
        truth == column,
        label=first.spec.labels[column],
    )


def run_delong(first: Scored, second: Scored, truth: NDArray[np.bool_], *, label: str) -> DeLong:
    """Test whether two models rank the images of one label equally well.

    `first`, `second`: (N,), their probabilities of the label; `truth`: bool (N,), whether it is the image's
    own. Everything is NaN where all images, or none, have the label.
    """
    if truth.all() or not truth.any():
        return DeLong(
            label=label, first=math.nan, second=math.nan, error=math.nan, z=math.nan, p_value=math.nan
        )
    yes, no = zip(*(_place(scores.astype(np.float64), truth) for scores in (first, second)), strict=True)
    areas = [float(values.mean()) for values in yes]
    variance = _spread(yes[0] - yes[1]) + _spread(no[0] - no[1])
    error = math.sqrt(variance)
    # Rounding leaves a trace of variance where two models rank alike.
    z = (areas[0] - areas[1]) / error if error > 1e-12 else math.nan
    p_value = math.erfc(abs(z) / math.sqrt(2))
    return DeLong(label=label, first=areas[0], second=areas[1], error=error, z=z, p_value=p_value)


def _place(scores: Floats, truth: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return for each positive the share of negatives below it, for each negative of positives above it."""
    return _share_below(scores[truth], scores[~truth]), 1 - _share_below(scores[~truth], scores[truth])


def _share_below(values: Floats, others: Floats) -> Floats:
    ordered = np.sort(others)
    places = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    shares: Floats = places / (2 * len(ordered))
    return shares


def _spread(values: Floats) -> float:
    """The variance of a mean; 0 for a single value."""
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0
