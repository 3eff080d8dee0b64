"""The images that an evaluation judges: each has a true label and a score."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from wetread.evaluate.scores import Scores
from wetread.runtime.model.spec import ModelSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedImages:
    """Images with a true label and a score, in listing order.

    `names` and `groups` (the patient, or another group): one for each image. `truth` and `chosen`: intp
    (N,), columns of `spec.labels`. `probabilities`: float32 (N, K). `weights`: float64 (N,), how many
    images each one stands for; None: itself alone.
    """

    spec: ModelSpec
    names: tuple[str, ...]
    groups: tuple[str, ...]
    truth: NDArray[np.intp]
    probabilities: NDArray[np.float32]
    chosen: NDArray[np.intp]
    weights: NDArray[np.float64] | None = None

    def __eq__(self, other: object) -> bool:
        """Whether all values are the same."""
        return isinstance(other, JudgedImages) and all(
            np.array_equal(getattr(self, one.name), getattr(other, one.name))
            if isinstance(getattr(self, one.name), np.ndarray)
            else getattr(self, one.name) == getattr(other, one.name)
            for one in fields(self)
        )

    __hash__ = None  # type: ignore[assignment]


def select_judged(scores: Scores) -> JudgedImages:
    """Select the images of an evaluation that have a score."""
    kept = scores.scored
    probabilities = scores.probabilities(kept)
    return JudgedImages(
        spec=scores.spec,
        names=tuple(scores.images[index].name for index in kept),
        groups=tuple(scores.patients(kept)),
        truth=scores.truth(kept),
        probabilities=probabilities,
        chosen=scores.spec.decide(probabilities),
    )


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Images of one label that got another one: their number, their share of the true label's images, and
    the positions of those for which the model was most certain."""

    truth: str
    chosen: str
    images: int
    share: float
    examples: tuple[int, ...] = ()


def find_confusions(judged: JudgedImages, *, examples: int = 0, pairs: int = 20) -> list[Confusion]:
    """Find all pairs of a true and another chosen label, the most frequent first, then the largest share.

    The first `pairs` of them list up to `examples` positions each.
    """
    labels, wrong = judged.spec.labels, np.flatnonzero(judged.truth != judged.chosen)
    counts = Counter(zip(judged.truth[wrong].tolist(), judged.chosen[wrong].tolist(), strict=True))
    whole = Counter(judged.truth.tolist())
    ranked = sorted(counts, key=lambda pair: (-counts[pair], -counts[pair] / whole[pair[0]], pair))
    return [
        Confusion(
            truth=labels[truth],
            chosen=labels[chosen],
            images=counts[truth, chosen],
            share=counts[truth, chosen] / whole[truth],
            examples=_choose_examples(judged, truth, chosen, count=examples if place < pairs else 0),
        )
        for place, (truth, chosen) in enumerate(ranked)
    ]


def _choose_examples(judged: JudgedImages, truth: int, chosen: int, *, count: int) -> tuple[int, ...]:
    if not count:
        return ()
    found = np.flatnonzero((judged.truth == truth) & (judged.chosen == chosen)).tolist()
    found.sort(key=lambda place: (-judged.probabilities[place, chosen], judged.names[place]))
    return tuple(found[:count])


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """An image with a wrong answer, the probability of its true label, and that of the chosen one."""

    name: str
    group: str
    truth: str
    chosen: str
    truth_probability: float
    chosen_probability: float


def find_mistakes(judged: JudgedImages, *, count: int) -> list[Mistake]:
    """Find the worst mistakes, sorted by the probability of the true label, then by name."""
    told = judged.probabilities[np.arange(len(judged.truth)), judged.truth]
    wrong = np.flatnonzero(judged.chosen != judged.truth).tolist()
    wrong.sort(key=lambda place: (told[place], judged.names[place]))
    return [describe_mistake(judged, place) for place in wrong[:count]]


def describe_mistake(judged: JudgedImages, place: int) -> Mistake:
    """Describe one image and its answer."""
    truth, chosen = int(judged.truth[place]), int(judged.chosen[place])
    return Mistake(
        name=judged.names[place],
        group=judged.groups[place],
        truth=judged.spec.labels[truth],
        chosen=judged.spec.labels[chosen],
        truth_probability=float(judged.probabilities[place, truth]),
        chosen_probability=float(judged.probabilities[place, chosen]),
    )
