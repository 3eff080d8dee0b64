"""What a model is worth on the images that it is for, beside all of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.evaluate.metrics import Metrics, measure
from wetread.evaluate.scores import Scores
from wetread.runtime.model.scope import INSIDE, OUTSIDE


def find_outside(scores: Scores) -> NDArray[np.bool_]:
    """Which of the scored images are outside the model's scope. bool (n,)."""
    return np.array([scores.predictions[i].scope == OUTSIDE for i in scores.scored], bool)


def measure_inside(scores: Scores) -> Metrics | None:
    """The metrics of the scored images inside the scope; None without a scope, or where none is inside."""
    kept = scores.scored[~find_outside(scores)]
    if scores.spec.scope is None or not len(kept):
        return None
    return measure(scores.probabilities(kept), scores.truth(kept), scores.spec, groups=scores.patients(kept))


def describe_scope(scores: Scores) -> dict[str, Any] | None:
    """What is inside and outside, why, and the metrics of what is inside, as metrics.json holds it."""
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
    """Say what the metrics are without the images that the model is not for; nothing where all are inside."""
    outside, inside = find_outside(scores), measure_inside(scores)
    if not outside.any() or inside is None:
        return ()
    auc = "" if np.isnan(inside.auc) else f", AUC {inside.auc:.4f}"
    return (
        f"{int(outside.sum()):,} of {len(outside):,} images are outside the model's scope. The metrics are "
        f"of all images; of the {inside.images:,} inside, accuracy is {inside.accuracy:.4f}{auc} "
        "(metrics.json has all of them).",
    )
