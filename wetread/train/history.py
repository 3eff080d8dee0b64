"""What a run's history decides: which epoch is the best, and whether the run is over."""

from __future__ import annotations

from wetread.errors import ConfigError
from wetread.train.config import TrainConfig
from wetread.train.run import History

_OF_TWO_LABELS = ("sensitivity", "specificity")


def check_best(config: TrainConfig, labels: int) -> None:
    """Refuse to choose an epoch by what only two labels have. Raises ConfigError."""
    check_metric(config.best, labels, option="best")


def check_metric(metric: str | None, labels: int, *, option: str) -> None:
    """Refuse a metric that only two labels have, of more. Raises ConfigError, which names the option."""
    if metric in _OF_TWO_LABELS and labels != 2:
        raise ConfigError(
            f"Expected {option} to be a metric of {labels} labels. Received {metric!r}, which needs two. "
            "Take balanced_accuracy."
        )


def choose_epoch(history: History, config: TrainConfig) -> int:
    """Return the epoch that is best by `config.best`, or by the loss; the earlier of two that are alike.

    Always of validation, so the figures of a chosen epoch flatter (docs/guides/own-images.md).
    """
    name = config.best or "loss"
    sign = -1 if name == "loss" else 1
    best = max(history, key=lambda row: (sign * row[f"val_{name}"], -row["epoch"]))
    return int(best["epoch"])


def is_over(history: History, config: TrainConfig) -> bool:
    """Whether all epochs are done, or `config.early_stopping` of them were no better than one before."""
    if config.early_stopping is None or not history:
        return len(history) >= config.epochs
    return len(history) >= min(config.epochs, choose_epoch(history, config) + config.early_stopping)
