from __future__ import annotations

import dataclasses
import os

import pytest

from wetread.errors import ConfigError
from wetread.train.config import TrainConfig, find_difference


def make(**values) -> TrainConfig:
    return TrainConfig(**{"data": "/data", "output": "/run", **values})


def test_json_goes_there_and_back() -> None:
    config = make(architecture="model-3", epochs=3, subset=100, positive="a", learning_rate=0.5)
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSON"),
        ('{"data": "a", "output": "b", "epoch": 3}', "'epoch'"),
        ('{"data": "a"}', "'output'"),
        ('{"data": "a", "output": "b", "epochs": "3"}', "'epochs'"),
    ],
)
def test_json_is_read_strictly(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_json(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("size", 7),
        ("color", "blue"),
        ("subset", 3),
        ("validation", 0.0),
        ("validation", 1.0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -1.0),
        ("warmup", -0.5),
        ("ema", 1.0),
        ("ema", float("nan")),
        ("label_smoothing", 1.0),
        ("loss", "hinge"),
        ("best", "val_auc"),
        ("early_stopping", 0),
        ("class_weight", "some"),
        ("schedule", "linear"),
        ("color", "grey"),
        ("resize", "squash"),
        ("seed", -1),
        ("group_regex", "("),
        ("data", ""),
        ("cache", "gs://bucket/cache"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field.replace("_", ".")):
        make(**{field: value})


def test_a_warmup_as_long_as_the_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="shorter than the 10 epochs"):
        make(warmup=10.0, epochs=10)


def test_options_that_are_open_are_not_in_json_and_have_no_recipe() -> None:
    config = make(size=32)
    assert not config.is_settled
    assert TrainConfig.from_json(config.to_json()) == config
    with pytest.raises(ConfigError, match="color and size are not chosen"):
        config.recipe()


def test_places_are_absolute_and_the_cache_is_found(monkeypatch) -> None:
    monkeypatch.delenv("WETREAD_CACHE", raising=False)
    config = TrainConfig(data="x", output="run")
    assert config.data == os.path.join(os.getcwd(), "x")
    assert config.cache_folder() == os.path.join(os.getcwd(), "run", "cache")
    assert TrainConfig(data="gs://bucket/x", output="run").data == "gs://bucket/x"
    monkeypatch.setenv("WETREAD_CACHE", "/shared")
    assert config.cache_folder() == "/shared"
    assert make(cache="/mine").cache_folder() == "/mine"


def test_the_first_difference_is_named() -> None:
    assert find_difference(make(), make()) is None
    assert find_difference(make(), make(data="/elsewhere", output="/o", cache="/c")) is None
    assert find_difference(make(seed=1), make(seed=2)) == ("seed", 1, 2)
    values = {"epochs": 11, "size": 32, "augment": "none", "subset": 9, "positive": "a", "color": "rgb"}
    for name, value in values.items():
        before = getattr(make(), name)
        assert find_difference(make(), dataclasses.replace(make(), **{name: value})) == (name, before, value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"calibration_split": -0.1}, "calibration_split"),
        ({"calibration_split": 0.5, "validation": 0.5}, "calibration_split"),
        ({"threshold_rule": "balanced"}, "calibration_split or folds"),
        ({"calibration_split": 0.1, "folds": 3}, "calibration_split cannot be used with folds"),
        ({"threshold_rule": "best", "calibration_split": 0.1}, "rule such as"),
    ],
)
def test_a_calibration_split_holds_together(values: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TrainConfig(data="data", output="run", **values)


def test_a_number_needs_no_held_out_patients() -> None:
    assert make(threshold_rule="fixed 0.3").threshold_rule == "fixed 0.3"
    with pytest.raises(ConfigError, match="fixed 2"):
        make(threshold_rule="fixed 2")
