"""Choose the best epoch of a run's history, and decide whether to stop."""

from __future__ import annotations

from wetread.errors import ConfigError
from wetread.train.config import TrainConfig
from wetread.train.run import History

_OF_TWO_LABELS = ("sensitivity", "specificity")


def check_best(config: TrainConfig, labels: int) -> None:
    """Refuse `best` by a metric that needs two labels, if there are more. Raises ConfigError."""
    check_metric(config.best, labels, option="best")


def check_metric(metric: str | None, labels: int, *, option: str) -> None:
    """Refuse a metric that needs two labels, if there are more. Raises ConfigError naming the option."""
    if metric in _OF_TWO_LABELS and labels != 2:
        raise ConfigError(
            f"{option} cannot be {metric!r}: it needs two labels, and there are {labels} labels. "
            "Use balanced_accuracy."
        )


def choose_epoch(history: History, config: TrainConfig) -> int:
    """Return the epoch that is best by `config.best`, or by the loss; the earlier of two equal ones.

    It is chosen by validation, so its validation figures are optimistic (docs/guides/own-images.md).
    """
    name = config.best or "loss"
    sign = -1 if name == "loss" else 1
    best = max(history, key=lambda row: (sign * row[f"val_{name}"], -row["epoch"]))
    return int(best["epoch"])


def is_over(history: History, config: TrainConfig) -> bool:
    """Whether all epochs are done, or the last `config.early_stopping` epochs brought no improvement.

    Epochs with a frozen body do not count: fine-tuning comes after them.
    """
    if config.early_stopping is None or not history:
        return len(history) >= config.epochs
    since = max(choose_epoch(history, config), config.freeze_epochs or 0)
    return len(history) >= min(config.epochs, since + config.early_stopping)
