"""`wetread.train`: its keywords are a TrainConfig; `tests/test_keyword_functions.py` trains with it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

import wetread
from wetread.errors import ConfigError, DatasetError
from wetread.train.config import TrainConfig, split_teachers
from wetread.train.events import EpochEnded, StepEnded, describe_event
from wetread.train.interface import TrainKeywords


def test_keywords_become_the_configuration_that_is_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = TrainKeywords(
        Path("DATA"), output=Path("run"), labels=Path("l.csv"), weights=Path("w.h5"), epochs=3, resume=True
    )
    expected = TrainConfig(data="DATA", output="run", labels="l.csv", weights="w.h5", epochs=3)
    assert asked.configure() == expected and type(asked.configure()) is TrainConfig
    assert asked.configure().to_json() == expected.to_json()
    apart = {one.name for one in fields(TrainKeywords)} - {one.name for one in fields(TrainConfig)}
    assert apart == {"resume", "project", "on_progress"}


@pytest.mark.parametrize(
    ("given", "teachers"),
    [
        (None, []),
        ("a, b", ["a", "b"]),
        (Path("a,b"), ["a,b"]),
        ([Path("a"), "b,c", "gs://d"], ["a", "b,c", "gs://d"]),
        (("C:\\x,", "y"), ["C:\\x,", "y"]),
    ],
)
def test_teachers_are_a_text_a_path_or_several(given, teachers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = TrainKeywords("DATA", output="run", teacher=given).configure()
    places = [name if name.startswith("gs://") else str(tmp_path / name) for name in teachers]
    assert split_teachers(config.teacher) == places
    assert TrainConfig.from_json(config.to_json()).teacher == config.teacher


def test_no_teacher_in_a_list_is_a_mistake():
    with pytest.raises(ConfigError, match="a teacher is empty"):
        TrainKeywords("DATA", output="run", teacher=[])


def test_what_cannot_be_is_raised_before_the_work(tmp_path):
    with pytest.raises(ConfigError, match="epochs must be at least 1"):
        wetread.train("DATA", output=tmp_path / "run", epochs=0)
    (tmp_path / "DATA").mkdir()
    with pytest.raises(DatasetError):
        wetread.train(tmp_path / "DATA", output=tmp_path / "run")


def test_an_event_reads_as_its_line():
    for event in (
        EpochEnded(epoch=1, epochs=2, metrics={"epoch": 1, "loss": 0.5}),
        StepEnded(epoch=1, epochs=2, step=3, steps=4, loss=0.25),
    ):
        assert str(event) == describe_event(event)
