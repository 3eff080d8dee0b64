"""Exact intervals of rates that are 0 or 1.

Without a single error a bootstrap has no spread, so its interval has no width. The exact interval (Clopper
and Pearson, Biometrika 26, 1934) counts patients or other groups: several images of one are no more evidence
than one image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wetread.evaluate.metrics import Metrics


def bound_exactly(value: float, patients: int) -> tuple[float, float]:
    """Return the exact 95% interval of a rate that is 0 or 1 over this many patients."""
    bound = 0.025 ** (1 / patients)
    return (bound, 1.0) if value == 1 else (0.0, 1 - bound)


def find_exact_intervals(
    metrics: Metrics, truth: NDArray[np.integer], groups: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Return exact intervals of accuracy, sensitivity and specificity where the bootstrap's has no width.

    `truth`: (N,), columns of the labels; `groups`: the patient of each image.
    """
    positive = metrics.labels.index(metrics.positive) if metrics.positive else -1
    chosen = {
        "accuracy": np.ones(len(truth), bool),
        "sensitivity": truth == positive,
        "specificity": truth != positive,
    }
    found = {}
    for name, images in chosen.items():
        value, interval = getattr(metrics, name), metrics.intervals.get(name)
        patients = len({groups[index] for index in np.flatnonzero(images).tolist()})
        if value in (0.0, 1.0) and patients and interval is not None and interval[0] == interval[1]:
            found[name] = bound_exactly(value, patients)
    return found


def find_only_answer(metrics: Metrics) -> str | None:
    """Return the one label that every image got although there are several; None if predictions differ."""
    table = np.array(metrics.confusion)
    given, true = table.sum(axis=0), table.sum(axis=1)
    if np.count_nonzero(given) != 1 or np.count_nonzero(true) < 2:
        return None
    return metrics.labels[int(given.argmax())]


def advise_only_answer(label: str, images: int) -> str:
    """Explain what to try if a network gives every image one label; a sentence without a full stop."""
    return (
        f"the network calls all {images:,} validation images {label!r}: it has not learned to tell the "
        "labels apart. Train for more --epochs or on more images, look at the curves in history.png, try "
        "another --learning-rate, or choose the threshold with --calibration-split and --threshold-rule "
        "balanced"
    )
