from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.train.drawn import draw_folder
from tests.train.test_fit import StopError, configure
from wetread.errors import ConfigError, DatasetError, OutputError
from wetread.train.dataset import load_dataset
from wetread.train.events import FoldStarted, StepEnded, describe_event
from wetread.train.fit import train


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("folds") / "data", counts={"bar": 24, "disc": 40})


def test_every_patient_is_kept_from_one_fold(data: Path, tmp_path: Path) -> None:
    found = [load_dataset(configure(data, tmp_path / "run", folds=3, fold=fold)) for fold in range(3)]
    held = [{one.groups[i] for i in one.select("cal")} for one in found]
    assert set.union(*held) == set(found[0].groups)
    assert sum(map(len, held)) == len(set(found[0].groups))
    for one, patients in zip(found, held, strict=True):
        assert {one.groups[i] for i in one.select("train")} & patients == set()
        assert {one.groups[i] for i in one.select("val")} & patients == set()
        assert {one.targets[i] for i in one.select("val")} == {0, 1}
        share = np.bincount(one.targets[one.select("cal")]) / np.bincount(one.targets)
        assert share == pytest.approx(1 / 3, abs=0.1)


def test_folds_are_trained_judged_and_resumed(data: Path, tmp_path: Path) -> None:
    """Cut off in the middle of the second fold, the run goes on and ends with every image judged once."""
    config = configure(data, tmp_path / "run", folds=2, epochs=1)

    def stop(event) -> None:
        told.append(event)
        if sum(isinstance(one, FoldStarted) for one in told) == 2 and isinstance(event, StepEnded):
            raise StopError

    told: list = []
    with pytest.raises(StopError):
        train(config, on_event=stop)
    with pytest.raises(OutputError, match="fold-0"):
        train(config)
    events: list = []
    result = train(config, resume=True, on_event=events.append)
    started = [event.fold for event in events if isinstance(event, FoldStarted)]
    assert started == [0, 1, 2]
    assert "fold 1" in describe_event(FoldStarted(fold=1, folds=2))
    rows = read_table(result.run / "oof.csv")
    assert list(rows[0]) == ["name", "label", "group", "fold", "p_bar", "p_disc"]
    splits = read_table(result.run / "splits.csv")
    keys = ("name", "label", "group")
    assert [[r[k] for k in keys] for r in rows] == sorted([s[k] for k in keys] for s in splits)
    for fold in (0, 1):
        held = {row["name"] for row in rows if row["fold"] == str(fold)}
        of_fold = read_table(result.run / f"fold-{fold}" / "splits.csv")
        assert held == {row["name"] for row in of_fold if row["split"] == "cal"}
    assert result.spec.training["held_out"]["from"] == "out-of-fold predictions"
    assert result.spec.threshold_rule == "balanced"
    told_of = result.metrics["out_of_fold"]
    right = [(float(row["p_disc"]) >= 0.5) == (row["label"] == "disc") for row in rows]
    assert (told_of["folds"], told_of["images"]) == (2, 64)
    assert told_of["accuracy"] == pytest.approx(np.mean(right))
    assert json.loads((result.run / "config.json").read_text())["folds"] == 2
    assert not (result.run / "fold-0" / "cache").exists()
    assert train(config, resume=True).new_epochs == 0


def test_folds_are_refused_where_they_make_no_sense(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="folds must be"):
        configure(data, tmp_path, folds=1)
    with pytest.raises(ConfigError, match="fold must be below folds"):
        configure(data, tmp_path, folds=3, fold=3)
    with pytest.raises(ConfigError, match="fold must be below folds"):
        configure(data, tmp_path, fold=0)
    for part in ("train", "val"):
        draw_folder(tmp_path / "parts" / part, counts={"bar": 4, "disc": 4})
    with pytest.raises(DatasetError, match="--folds"):
        load_dataset(configure(tmp_path / "parts", tmp_path / "run", folds=2))
    few = draw_folder(tmp_path / "few", counts={"bar": 4, "disc": 40})
    with pytest.raises(DatasetError, match="needs 3 or more"):
        load_dataset(configure(few, tmp_path / "run", folds=3, fold=0))


def test_folds_that_cannot_be_dealt_are_refused_before_the_first(tmp_path: Path) -> None:
    """Of three patients one is in the first fold and two in the second: only the second fails."""
    few = draw_folder(tmp_path / "few", counts={"bar": 6, "disc": 40})
    for name in ("person1_3.png", "person2_5.png"):  # the patient of two images is dealt first
        (few / "bar" / name).unlink()
    load_dataset(configure(few, tmp_path / "alone", folds=2, fold=0))
    events: list = []
    with pytest.raises(DatasetError, match=r"\(bar 3, disc 20\).*each of 2 networks.*Leave --folds out"):
        train(configure(few, tmp_path / "run", folds=2), on_event=events.append)
    assert not any(isinstance(event, FoldStarted) for event in events)
    four = draw_folder(tmp_path / "four", counts={"bar": 8, "disc": 40})
    with pytest.raises(DatasetError, match="each of 5 networks.*Take --folds"):
        train(configure(four, tmp_path / "other", folds=5))
