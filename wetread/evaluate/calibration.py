"""Calibration before temperature scaling, and the images in the uncertainty band."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.evaluate.metrics import measure
from wetread.evaluate.scores import Scores
from wetread.evaluate.temperature_scaling import apply_temperature


def undo_temperature(scores: Scores) -> NDArray[np.float64]:
    """The probabilities, float64 (n, K), that the scored images would have at temperature 1."""
    return apply_temperature(scores.probabilities(scores.scored), 1 / scores.spec.temperature)


def describe_temperature(scores: Scores) -> dict[str, Any] | None:
    """Describe the effect of the temperature, as in metrics.json; None at temperature 1."""
    if scores.spec.temperature == 1:
        return None
    found = measure(undo_temperature(scores), scores.truth(scores.scored), scores.spec)
    before = {name: getattr(found, name) for name in ("brier", "ece", "log_loss")}
    return {"temperature": scores.spec.temperature, "at_temperature_1": before}


def describe_doubt(scores: Scores) -> dict[str, Any] | None:
    """Count the images and the errors in the uncertainty band; None without a band."""
    band, probabilities = scores.spec.uncertain, scores.probabilities(scores.scored)
    if band is None:
        return None
    inside = scores.spec.find_uncertain(probabilities)
    wrong = scores.spec.decide(probabilities) != scores.truth(scores.scored)
    counts = {"images": inside.sum(), "errors": (inside & wrong).sum(), "all_errors": wrong.sum()}
    return {**dataclasses.asdict(band), **{name: int(count) for name, count in counts.items()}}
