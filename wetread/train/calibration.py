"""Fit temperature, threshold and uncertainty band at the end of a run, on patients set aside."""

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
    """Check before training that a threshold rule is used with two labels. Raises ConfigError."""
    if config.threshold_rule is not None and len(labels) != 2:
        raise ConfigError(
            f"threshold_rule {config.threshold_rule!r} needs two labels, and there are {len(labels)}: "
            "with more than two, the largest probability decides. Leave it out."
        )


def calibrate(config: TrainConfig, model: keras.Model, data: Dataset, spec: ModelSpec) -> ModelSpec:
    """Fit temperature, threshold and band on held-out patients, and save the predictions they are from.

    Writes held_out.csv if patients were set aside. Without them, and without out-of-fold predictions, only a
    fixed threshold changes the spec. The same is true of a fold's run: its predictions serve the whole run.
    Raises DatasetError if no threshold satisfies the rule.
    """
    directory = Path(config.output)
    if len(data.select(CALIBRATION)):
        write_held_out(directory / HELD_OUT, model, data)
    if config.fold is not None:
        return spec
    found = read_held_out(directory, spec.labels)
    if found is None:  # then the rule, if any, is a fixed one
        return fit_operating_point(spec, None, OperatingRequest(rule=config.threshold_rule))
    if spec.positive is None:
        return fit_operating_point(spec, found, OperatingRequest(temperature=FIT))
    return fit_operating_point(spec, found, replace(EVERYTHING, rule=config.threshold_rule or DEFAULT_RULE))
