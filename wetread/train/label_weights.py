"""Weights of labels in the loss: 'balanced', 'none', or 'NORMAL=1,PNEUMONIA=0.5'."""

from __future__ import annotations

import math
from collections.abc import Mapping

from wetread.errors import ConfigError

BALANCED, NONE = "balanced", "none"
_LARGEST = 1e4


def parse_weights(text: str) -> dict[str, float] | None:
    """Return the weights that a `class_weight` gives by name: {} for 'none', None for 'balanced'.

    Raises ConfigError.
    """
    if text == BALANCED:
        return None
    if text == NONE:
        return {}
    found: dict[str, float] = {}
    for part in text.split(","):
        label, equals, number = part.rpartition("=")
        weight = _parse_number(number)
        if not (equals and label.strip()) or label.strip() in found or not 0 < weight <= _LARGEST:
            raise ConfigError(
                "class_weight must be balanced, none, or weights above 0 for labels, such as "
                f"NORMAL=1,PNEUMONIA=0.5, not {text!r}."
            )
        found[label.strip()] = weight
    return found


def write_weights(weights: Mapping[str, float]) -> str:
    """Write weights by label as a `class_weight` in text."""
    return ",".join(f"{label}={weight:g}" for label, weight in weights.items())


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
