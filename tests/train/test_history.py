from __future__ import annotations

import pytest

from tests.train.drawn import configure_xray
from wetread.errors import ConfigError
from wetread.train.config import TrainConfig
from wetread.train.history import check_best, choose_epoch, is_over


def configure(**values) -> TrainConfig:
    return configure_xray(**values)


def make_history(losses: list[float], aucs: list[float]) -> list[dict[str, float]]:
    rows = zip(losses, aucs, strict=True)
    return [{"epoch": i, "val_loss": loss, "val_auc": auc} for i, (loss, auc) in enumerate(rows, start=1)]


def test_the_best_epoch_is_the_first_of_the_best() -> None:
    history = make_history([0.5, 0.3, 0.3, 0.4], [0.7, 0.8, 0.9, 0.9])
    assert choose_epoch(history, configure()) == 2
    assert choose_epoch(history, configure(best="loss")) == 2
    assert choose_epoch(history, configure(best="auc")) == 3


def test_a_run_is_over_after_its_epochs() -> None:
    history = make_history([0.5, 0.3], [0.7, 0.8])
    assert [is_over(history[:n], configure(epochs=2)) for n in (0, 1, 2)] == [False, False, True]


def test_a_run_is_over_when_nothing_gets_better() -> None:
    history = make_history([0.5, 0.3, 0.4, 0.31, 0.2], [0.7, 0.6, 0.6, 0.8, 0.1])
    config = configure(epochs=100, early_stopping=2)
    assert [is_over(history[:n], config) for n in range(5)] == [False] * 4 + [True]
    assert is_over(history[:3], configure(epochs=3, early_stopping=2)) is True
    config = configure(epochs=100, early_stopping=3, best="auc")
    assert [is_over(history[:n], config) for n in range(6)] == [False] * 6


def test_epochs_with_a_frozen_body_do_not_end_a_run() -> None:
    history = make_history([0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [0.5] * 6)
    config = configure(epochs=100, early_stopping=2, weights="a.keras", freeze_epochs=4)
    assert [is_over(history[:n], config) for n in range(1, 7)] == [False] * 5 + [True]


def test_a_metric_of_two_labels_chooses_nothing_among_three() -> None:
    check_best(configure(best="sensitivity"), 2)
    check_best(configure(best="auc"), 3)
    with pytest.raises(ConfigError, match="best cannot be .*3 labels"):
        check_best(configure(best="sensitivity"), 3)
