"""Fit temperature, threshold and band on a run's held-out predictions.

These are of images whose patient, or other group, was used neither to train the network nor to choose its
epoch.

`train` writes them, at temperature 1: held_out.csv with a calibration split, or oof.csv with folds. Both have
the columns `name,label,group` and one `p_<label>` for each label.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError, DatasetError
from wetread.evaluate.metrics import measure
from wetread.evaluate.temperature_scaling import apply_temperature, fit_temperature
from wetread.evaluate.threshold import choose_band, choose_threshold, parse_rule
from wetread.runtime.model.answers import are_probabilities
from wetread.runtime.model.spec import ModelSpec

HELD_OUT, OUT_OF_FOLD = "held_out.csv", "oof.csv"
DEFAULT_RULE, DEFAULT_BAND = "balanced", "images 0.05"
FIT = "fit"
_SOURCES = {HELD_OUT: "calibration split", OUT_OF_FOLD: "out-of-fold predictions"}
_NO_RULES = ("default", "given")  # of a threshold that was not fitted
_RESAMPLES = 1000


@dataclass(frozen=True)
class HeldOut:
    """A network's predictions for held-out images, at temperature 1.

    `probabilities`: float64 (N, K); `truth`: intp (N,), columns of the labels; `groups`: the patient, or
    another group, of each; `source`: where they come from, for people.
    """

    probabilities: NDArray[np.float64]
    truth: NDArray[np.intp]
    groups: tuple[str, ...]
    source: str

    @classmethod
    def none(cls, labels: int) -> HeldOut:
        """Return predictions for no images, of a network with this many labels."""
        return cls(np.empty((0, labels)), np.empty(0, np.intp), (), "")


@dataclass(frozen=True, kw_only=True)
class OperatingRequest:
    """What to fit or to set; None leaves the spec as it is.

    `temperature`: a number, or 'fit'. `rule` and `band`: as `wetread.evaluate.threshold` reads them.
    `prevalence`: of the positive label where the model will be used, for the rule 'cost A:B'.
    """

    temperature: float | str | None = None
    rule: str | None = None
    prevalence: float | None = None
    band: str | None = None

    def __post_init__(self) -> None:
        if self.prevalence is not None and self.rule is None:
            raise ConfigError("A prevalence needs a threshold rule: give 'cost A:B' as well.")
        if self.rule is not None:
            parse_rule(self.rule, prevalence=self.prevalence)
        number = isinstance(self.temperature, float) and 0 < self.temperature < math.inf
        if self.temperature not in (None, FIT) and not number:
            raise ConfigError(f"The temperature must be above 0, or '{FIT}', not {self.temperature!r}.")

    def complete(self, spec: ModelSpec) -> OperatingRequest:
        """Add the spec's own rules, by which a new temperature makes threshold and band be chosen again.

        Raises ConfigError if a threshold or a band is asked for with more than two labels.
        """
        if spec.positive is None and (self.rule is not None or self.band is not None):
            raise ConfigError(f"A threshold or a band needs two labels, and there are {len(spec.labels)}.")
        moved = self.temperature is not None or self.rule is not None
        own = None if spec.threshold_rule in _NO_RULES else spec.threshold_rule
        band = spec.uncertain.rule if spec.uncertain is not None and moved else None
        rule = own if self.rule is None and self.temperature is not None else self.rule
        return dataclasses.replace(self, rule=rule, band=self.band or band)

    @property
    def needs_images(self) -> bool:
        """Whether held-out predictions are needed: a given number needs none."""
        fixed = self.rule is None or parse_rule(self.rule).kind == "fixed"
        return self.temperature == FIT or self.band is not None or not fixed


EVERYTHING = OperatingRequest(temperature=FIT, rule=DEFAULT_RULE, band=DEFAULT_BAND)


def read_held_out(run: str | os.PathLike[str], labels: Sequence[str]) -> HeldOut | None:
    """Read a run's held-out predictions; None if it has none. Raises DatasetError."""
    for name, source in _SOURCES.items():
        path = Path(run) / name
        if path.is_file():
            return _read_table(path, labels, source)
    return None


def _read_table(path: Path, labels: Sequence[str], source: str) -> HeldOut:
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
            rows = list(csv.DictReader(lines))
        probabilities = np.array([[float(row[f"p_{label}"]) for label in labels] for row in rows])
        truth = np.array([labels.index(row["label"]) for row in rows], np.intp)
        groups = tuple(row["group"] for row in rows)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{path} cannot be read: {error!r}. Its columns must be name, label, group, and p_<label> for "
            f"{', '.join(labels)}."
        ) from error
    if not rows:
        raise DatasetError(f"{path} has no held-out images.")
    if not are_probabilities(probabilities.astype(np.float32)).all():
        raise DatasetError(f"{path} holds what is no probability, such as NaN: nothing can be fitted on it.")
    return HeldOut(probabilities=probabilities, truth=truth, groups=groups, source=source)


def set_operating_point(run: str | os.PathLike[str], spec: ModelSpec, request: OperatingRequest) -> ModelSpec:
    """Change temperature, threshold or band in a finished run's spec.

    Raises ConfigError, and DatasetError if the run has no held-out predictions to fit them on.
    """
    if request == OperatingRequest():
        return spec
    return fit_operating_point(spec, read_held_out(run, spec.labels), request)


def fit_operating_point(spec: ModelSpec, found: HeldOut | None, request: OperatingRequest) -> ModelSpec:
    """Fit what is asked for on held-out predictions, and record the results in `spec.training`.

    With more than two labels, only the temperature is fitted. Raises ConfigError and DatasetError.
    """
    request = request.complete(spec)
    if found is None:
        if request.needs_images:
            raise DatasetError(
                f"The run has no predictions of held-out images ({' or '.join(_SOURCES)}). Train with "
                "--calibration-split 0.1, or give a number: the rule 'fixed 0.5'."
            )
        found = HeldOut.none(len(spec.labels))
    if request.temperature is not None:
        spec = dataclasses.replace(spec, temperature=_find_temperature(found, request.temperature))
    if spec.positive_index is not None:
        scores = apply_temperature(found.probabilities, spec.temperature)[:, spec.positive_index]
        positive = found.truth == spec.positive_index
        spec = _choose(spec, scores.astype(np.float32), positive, request)
    described = describe_held_out(spec, found) if len(found.truth) else {}
    return dataclasses.replace(spec, training={**spec.training, **described})


def _find_temperature(found: HeldOut, wanted: float | str) -> float:
    return fit_temperature(found.probabilities, found.truth) if wanted == FIT else float(wanted)


def _choose(
    spec: ModelSpec, scores: NDArray[np.float32], positive: NDArray[np.bool_], request: OperatingRequest
) -> ModelSpec:
    """Choose the threshold and then the band around it, each if there is a rule for it."""
    if request.rule is not None:
        rule = parse_rule(request.rule, prevalence=request.prevalence)
        threshold = choose_threshold(scores, positive, rule)
        spec = dataclasses.replace(spec, threshold=threshold, threshold_rule=str(rule), uncertain=None)
    if request.band is not None:
        band = choose_band(scores, positive, threshold=spec.threshold, rule=request.band)
        spec = dataclasses.replace(spec, uncertain=band)
    return spec


def describe_held_out(spec: ModelSpec, found: HeldOut) -> dict[str, Any]:
    """Describe the images that a spec was fitted on, for its `training`.

    The metrics are measured on these same images; log loss and calibration error also before the temperature.
    """
    before = measure(found.probabilities, found.truth, dataclasses.replace(spec, temperature=1.0))
    probabilities = apply_temperature(found.probabilities, spec.temperature).astype(np.float32)
    after = measure(probabilities, found.truth, spec, groups=found.groups, resamples=_RESAMPLES)
    values: dict[str, Any] = {
        "from": found.source,
        "images": after.images,
        "patients": after.patients,
        "log_loss": [_round(before.log_loss), _round(after.log_loss)],
        "calibration_error": [_round(before.ece), _round(after.ece)],
    }
    if spec.positive is not None:
        for name in ("sensitivity", "specificity"):
            interval = after.intervals.get(name, ())
            values[name] = [_round(value) for value in (getattr(after, name), *interval)]
    if spec.uncertain is not None:
        inside, wrong = spec.find_uncertain(probabilities), spec.decide(probabilities) != found.truth
        values["uncertain"] = {"images": int(inside.sum()), "errors": int((inside & wrong).sum())}
        values["errors"] = int(wrong.sum())
    return {"held_out": values}


def _round(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)
