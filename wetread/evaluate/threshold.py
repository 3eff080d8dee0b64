"""Choose the operating point of two labels: the threshold by a named rule, and the uncertainty band around
it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError, DatasetError
from wetread.runtime.model.spec import Band

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]

RULES = "balanced, sensitivity>=0.95, specificity>=0.9, cost 5:1, fixed 0.5"
BANDS = "images 0.05, errors 0.5, width 1"
_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_RATE = re.compile(rf"(sensitivity|specificity) ?>= ?{_NUMBER}")
_COST = re.compile(rf"cost {_NUMBER} ?: ?{_NUMBER}(?: at prevalence {_NUMBER})?")
_FIXED = re.compile(rf"fixed {_NUMBER}")
_BAND = re.compile(rf"(images|errors|width) {_NUMBER}")
# The smallest distance from 0 and 1 that a probability in float32 can have, about.
_NEAREST = 1e-7


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a threshold is chosen.

    `kind`: 'balanced' (the highest balanced accuracy), 'sensitivity' or 'specificity' (at least `value`, with
    the other as high as possible), 'cost' (the lowest cost, where a missed positive image costs `value` times
    a false alarm, at `prevalence`, by default that of the images) or 'fixed' (`value` itself).
    """

    kind: str
    value: float = 0.0
    prevalence: float | None = None

    def __str__(self) -> str:
        """Return the rule's name as in the spec; `parse_rule` reads it."""
        if self.kind in ("sensitivity", "specificity"):
            return f"{self.kind}>={self.value:g}"
        if self.kind == "cost":
            return f"cost {self.value:g}:1" + (
                f" at prevalence {self.prevalence:g}" if self.prevalence else ""
            )
        return f"fixed {self.value:g}" if self.kind == "fixed" else self.kind


def parse_rule(text: str, *, prevalence: float | None = None) -> Rule:
    """Parse a rule's name. Raises ConfigError for an unknown rule or a prevalence that it does not use."""
    rule = _parse(text.strip())
    if rule.kind in ("sensitivity", "specificity", "fixed") and not 0 <= rule.value <= 1:
        raise ConfigError(f"The number in a threshold rule must be 0 to 1, and the rule is {text!r}.")
    if prevalence is None:
        return rule
    if not 0 < prevalence < 1:
        raise ConfigError(f"The prevalence must be between 0 and 1, not {prevalence}.")
    if rule.kind != "cost":
        raise ConfigError(
            f"A prevalence can be used only with the rule 'cost A:B'. The threshold of {text!r} is the same "
            "at every prevalence. 'cost 1:1' gives the best accuracy."
        )
    return Rule(kind="cost", value=rule.value, prevalence=prevalence)


def _parse(text: str) -> Rule:
    if text == "balanced":
        return Rule(kind="balanced")
    if found := _RATE.fullmatch(text):
        return Rule(kind=found[1], value=float(found[2]))
    if found := _FIXED.fullmatch(text):
        return Rule(kind="fixed", value=float(found[1]))
    found = _COST.fullmatch(text)
    if found and float(found[1]) > 0 and float(found[2]) > 0:
        prevalence = float(found[3]) if found[3] else None
        return Rule(kind="cost", value=float(found[1]) / float(found[2]), prevalence=prevalence)
    raise ConfigError(f"There is no threshold rule {text!r}. Use a rule such as {RULES}.")


def choose_threshold(scores: Scores, positive: NDArray[np.bool_], rule: Rule) -> float:
    """Choose the probability at or above which an image is positive.

    `scores`: float32 (N,), the positive label's probability; `positive`: bool (N,), the truth. The rule is
    satisfied exactly on these images. The threshold is midway, in logits, between two neighbouring scores; of
    equally good gaps the widest is taken. Raises DatasetError if one of the labels has no image, or if no
    threshold satisfies the rule.
    """
    if rule.kind == "fixed":
        return rule.value
    if positive.all() or not positive.any():
        raise DatasetError("All held-out images have one label: a threshold needs images of both.")
    levels, cuts = _list_cuts(scores)
    found = np.searchsorted(levels, scores)
    hits, false = (_count_above(found[side], len(levels)) for side in (positive, ~positive))
    sensitivity, specificity = hits / hits[0], 1 - false / false[0]
    chosen = _choose_cut(sensitivity[: len(cuts)], specificity[: len(cuts)], _gaps(levels), rule, positive)
    return float(str(cuts[chosen]))


def _choose_cut(
    sensitivity: Floats, specificity: Floats, gaps: Floats, rule: Rule, positive: NDArray[np.bool_]
) -> int:
    """Return the index of the cut that satisfies a rule best. Raises DatasetError if none does."""
    tiny = 1e-12
    if rule.kind == "sensitivity":
        return int(np.flatnonzero(sensitivity >= rule.value - tiny)[-1])
    if rule.kind == "specificity":
        able = np.flatnonzero(specificity >= rule.value - tiny)
        if not len(able):
            raise DatasetError(
                f"No threshold has a specificity of {rule.value:g}: too many negative images have a score of "
                "1."
            )
        return int(able[0])
    share = 0.5 if rule.kind == "balanced" else rule.prevalence or float(positive.mean())
    weight = 1.0 if rule.kind == "balanced" else rule.value
    cost = weight * share * (1 - sensitivity) + (1 - share) * (1 - specificity)
    best = np.flatnonzero(cost <= cost.min() + tiny)
    return int(best[np.argmax(gaps[best])])


def _list_cuts(scores: Scores) -> tuple[Scores, Scores]:
    """Return the distinct scores, and a threshold just below each; one above all of them if there is room."""
    levels = np.unique(scores.astype(np.float32))
    logits = measure_logits(levels)
    middles = _sigmoid((logits[:-1] + logits[1:]) / 2).astype(np.float32)
    apart = (levels[:-1] < middles) & (middles <= levels[1:])
    cuts = np.concatenate([levels[:1], np.where(apart, middles, levels[1:])])
    if levels[-1] < 1:
        cuts = np.append(cuts, np.nextafter(levels[-1], np.float32(1)))
    return levels, cuts


def _gaps(levels: Scores) -> Floats:
    """Return the width of each cut's gap in logits; 0 for those beyond the first and the last score."""
    return np.concatenate([[0.0], np.diff(measure_logits(levels)), [0.0]])


def _count_above(places: NDArray[np.intp], count: int) -> Floats:
    """Count images at or above each of `count` levels, and above all of them."""
    each = np.bincount(places, minlength=count)
    return np.append(np.cumsum(each[::-1])[::-1], 0).astype(np.float64)


def measure_logits(scores: NDArray[np.floating]) -> Floats:
    """Return log(p / (1 - p)), float64, of probabilities (N,), clipped to the range of float32."""
    exact = np.clip(scores.astype(np.float64), _NEAREST, 1 - _NEAREST)
    logits: Floats = np.log(exact) - np.log1p(-exact)
    return logits


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-logits))


def choose_band(scores: Scores, positive: NDArray[np.bool_], *, threshold: float, rule: str) -> Band:
    """Choose the band around a threshold that counts as uncertain: in logits, equally far above and below.

    `rule`: 'images 0.05' contains that share of the images, 'errors 0.5' that share of the errors; 'width 1'
    is this wide in logits. The narrowest such band is chosen. Raises ConfigError for another rule, and
    DatasetError if there is no error to measure.
    """
    found = _BAND.fullmatch(rule.strip())
    if found is None or (found[1] != "width" and not 0 < float(found[2]) <= 1):
        raise ConfigError(f"There is no band rule {rule!r}. Use a rule such as {BANDS}.")
    middle = float(measure_logits(np.array([threshold]))[0])
    distances = np.abs(measure_logits(scores) - middle)
    wrong = (scores >= np.float32(threshold)) != positive
    width = _measure_width(distances, wrong, kind=found[1], value=float(found[2]))
    low, high = _sigmoid(np.array([middle - width, middle + width])).astype(np.float32)
    inside = scores[distances <= width]
    ends = (min(low, *inside), max(high, *inside)) if len(inside) else (low, high)
    return Band(low=float(str(ends[0])), high=float(str(ends[1])), rule=f"{found[1]} {float(found[2]):g}")


def _measure_width(distances: Floats, wrong: NDArray[np.bool_], *, kind: str, value: float) -> float:
    if kind == "width":
        return value
    counted = np.sort(distances[wrong] if kind == "errors" else distances)
    if not len(counted):
        raise DatasetError(
            "There are no held-out errors to choose the band by. Use a rule such as 'images 0.05' instead."
        )
    return float(counted[int(np.ceil(value * len(counted) - 1e-9)) - 1])
