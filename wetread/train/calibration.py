"""The end of a run with patients set aside: how sure the network may be, and where it decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from wetread.errors import ConfigError
from wetread.evaluate.held_out import (
    DEFAULT_RULE,
    EVERYTHING,
    FIT,
    HELD_OUT,
    OperatingRequest,
    fit_operating_point,
    read_held_out,
)
from wetread.runtime.model.spec import ModelSpec
from wetread.train.config import TrainConfig
from wetread.train.dataset import CALIBRATION, Dataset
from wetread.train.folds import write_held_out

if TYPE_CHECKING:
    import keras


def check_rule(config: TrainConfig, labels: tuple[str, ...]) -> None:
    """Make sure, before training, that a threshold's rule has two labels to part. Raises ConfigError."""
    if config.threshold_rule is not None and len(labels) != 2:
        raise ConfigError(
            f"Expected two labels with threshold_rule {config.threshold_rule!r}. Received {len(labels)}: "
            "with more, the largest probability wins."
        )


def calibrate(config: TrainConfig, model: keras.Model, data: Dataset, spec: ModelSpec) -> ModelSpec:
    """Fit temperature, threshold and band on held-out patients and keep the predictions they rest on.

    Writes held_out.csv where patients were set aside; without them, and without out-of-fold predictions,
    the spec stays as it is but for a fixed threshold, and so does a fold's, whose predictions are for the
    whole run. Raises DatasetError where no threshold keeps the rule.
    """
    directory = Path(config.output)
    if len(data.select(CALIBRATION)):
        write_held_out(directory / HELD_OUT, model, data)
    if config.fold is not None:
        return spec
    found = read_held_out(directory, spec.labels)
    if found is None:  # a rule is a fixed one then
        return fit_operating_point(spec, None, OperatingRequest(rule=config.threshold_rule))
    if spec.positive is None:
        return fit_operating_point(spec, found, OperatingRequest(temperature=FIT))
    return fit_operating_point(spec, found, replace(EVERYTHING, rule=config.threshold_rule or DEFAULT_RULE))
