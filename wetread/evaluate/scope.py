"""Metrics of the images inside a model's scope, in addition to those of all images."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.evaluate.metrics import Metrics, measure
from wetread.evaluate.scores import Scores
from wetread.runtime.model.scope import INSIDE, OUTSIDE


def find_outside(scores: Scores) -> NDArray[np.bool_]:
    """Return which of the scored images are outside the model's scope, bool (n,)."""
    return np.array([scores.predictions[i].scope == OUTSIDE for i in scores.scored], bool)


def measure_inside(scores: Scores) -> Metrics | None:
    """Return the metrics of the images inside the scope; None without a scope, or if none is inside."""
    kept = scores.scored[~find_outside(scores)]
    if scores.spec.scope is None or not len(kept):
        return None
    return measure(scores.probabilities(kept), scores.truth(kept), scores.spec, groups=scores.patients(kept))


def describe_scope(scores: Scores) -> dict[str, Any] | None:
    """Return `scope` of metrics.json: counts, reasons, and the metrics inside; None without a scope."""
    if scores.spec.scope is None:
        return None
    outside, inside = find_outside(scores), measure_inside(scores)
    wrong = scores.spec.decide(scores.probabilities(scores.scored)) != scores.truth(scores.scored)
    reasons = Counter(scores.predictions[i].scope_reason for i in scores.scored[outside])
    return {
        INSIDE: int((~outside).sum()),
        OUTSIDE: int(outside.sum()),
        "errors_outside": int((outside & wrong).sum()),
        "reasons": {str(reason): count for reason, count in sorted(reasons.items(), key=str)},
        "metrics_inside": None if inside is None else inside.to_dict(),
    }


def note_scope(scores: Scores) -> tuple[str, ...]:
    """Note the metrics without the images outside the scope; empty if all are inside."""
    outside, inside = find_outside(scores), measure_inside(scores)
    if not outside.any() or inside is None:
        return ()
    auc = "" if np.isnan(inside.auc) else f", AUC {inside.auc:.4f}"
    return (
        f"{int(outside.sum()):,} of {len(outside):,} images are outside the model's scope. The metrics are "
        f"of all images; of the {inside.images:,} inside, accuracy is {inside.accuracy:.4f}{auc} "
        "(metrics.json has all of them).",
    )
