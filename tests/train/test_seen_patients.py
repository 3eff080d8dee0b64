from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.train.drawn import configure_xray
from wetread.errors import ConfigError
from wetread.train.data_checks import Conflicts
from wetread.train.dataset import Dataset
from wetread.train.seen_patients import HeldOut, compare_weights, doubt_weights


def make_data(splits: dict[str, str]) -> Dataset:
    """A data set with these names and their splits."""
    count = len(splits)
    return Dataset(
        labels=("bar", "disc"),
        names=tuple(splits),
        groups=tuple(splits),
        targets=np.zeros(count, np.intp),
        splits=tuple(splits.values()),
        rows=np.arange(count),
        pixels=np.zeros((count, 8, 8, 1), np.uint8),
        left_out=(),
        fingerprint="",
        leaks=0,
        alike=0,
        unmatched=0,
        conflicts=Conflicts(),
        colored=(0, 0),
    )


def hold_out(splits: dict[str, str], **options: str) -> HeldOut:
    """The held-out images of such a data set."""
    return HeldOut(make_data(splits), configure_xray(**options))


def write_splits(run: Path, splits: dict[str, str]) -> Path:
    rows = [f"{name},bar,{name},{split}" for name, split in splits.items()]
    (run / "splits.csv").write_text("\n".join(["name,label,group,split", *rows, ""]))
    return run


STUDENT = {"bar/person1_1.png": "train", "bar/person2_1.png": "val", "bar/person3_1.png": "cal"}


@pytest.mark.parametrize(
    ("teacher", "seen"),
    [
        (STUDENT, []),
        ({**STUDENT, "bar/person2_1.png": "train"}, ["bar/person2_1.png"]),
        ({**STUDENT, "bar/person3_1.png": "train"}, ["bar/person3_1.png"]),
        ({**STUDENT, "disc/person2_7.png": "train"}, ["disc/person2_7.png"]),
        ({**STUDENT, "disc/person2_7.png": "val", "disc/person9_1.png": "train"}, []),
        (
            {f"train/{name}": "train" for name in STUDENT},
            ["train/bar/person2_1.png", "train/bar/person3_1.png"],
        ),
    ],
    ids=["the same split", "validates", "is set aside", "another image", "others", "other folders"],
)
def test_a_teacher_is_compared_by_patient(teacher: dict[str, str], seen: list[str], tmp_path: Path) -> None:
    found = hold_out(STUDENT).compare(write_splits(tmp_path, teacher))
    assert found.seen == seen
    assert found.is_known


def test_an_image_of_val_is_held_out_though_its_patient_trains(tmp_path: Path) -> None:
    student = {"train/bar/person1_1.png": "train", "val/bar/person1_2.png": "val"}
    held = hold_out(student)
    assert held.compare(write_splits(tmp_path, student)).seen == []
    both = dict.fromkeys(student, "train")
    assert held.compare(write_splits(tmp_path, both)).seen == ["val/bar/person1_2.png"]


def test_one_name_in_train_and_val_is_two_images(tmp_path: Path) -> None:
    student = {"train/bar/1.png": "train", "val/bar/1.png": "val"}
    held = hold_out(student)
    assert held.compare(write_splits(tmp_path, student)).seen == []
    assert held.compare(write_splits(tmp_path, {"bar/1.png": "train"})).seen == ["bar/1.png"]


@pytest.mark.parametrize(
    ("expression", "student", "teacher"),
    [
        (r"^\w+/\w+/(p\d+)-", {"train/bar/p1-1.png": "train", "val/bar/p2-1.png": "val"}, "bar/p2-9.png"),
        (r"^\w+/(p\d+)-", {"bar/p1-1.png": "train", "bar/p2-1.png": "val"}, "train/bar/p2-9.png"),
    ],
)
def test_an_expression_of_one_layout_finds_patients_in_the_other(
    expression: str, student: dict[str, str], teacher: str, tmp_path: Path
) -> None:
    first = next(iter(student))
    held = hold_out(student, group_regex=expression)
    assert held.compare(write_splits(tmp_path, {first: "train", teacher: "train"})).seen == [teacher]


def test_names_that_tell_nothing_are_doubted_only_where_files_are_called_alike(tmp_path: Path) -> None:
    held = hold_out(STUDENT)
    elsewhere = held.compare(write_splits(tmp_path, {"bar/person2_b.png": "train"}))
    assert (elsewhere.seen, elsewhere.is_known) == ([], True)
    moved = held.compare(write_splits(tmp_path, {"scans/2/person2_1.png": "train"}))
    assert (moved.seen, moved.is_known) == ([], False)


BROKEN = {
    "none": None,
    "empty": "",
    "head": "name,label,group,split\n",
    "columns": "name,label\nbar/1.png,bar\n",
    "cut word": "name,split\nbar/1.png,tr",
    "cut row": "name,split\nbar/1.png,train\nbar/2.png",
    "zeros": "\0\0\0",
    "a field without end": 'name,split\n"' + 200_000 * "a",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=list(BROKEN))
def test_splits_that_cannot_be_read_are_refused(content: str | None, tmp_path: Path) -> None:
    """Whom a teacher saw is not guessed."""
    if content is not None:
        (tmp_path / "splits.csv").write_text(content)
    with pytest.raises(ConfigError, match=r"splits\.csv cannot be read: .*Copy the"):
        hold_out(STUDENT).compare(tmp_path)


def test_only_a_run_of_wetread_can_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published weights are of other images, whatever folders there are; a RUN without splits is doubted."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()
    data = make_data(STUDENT)
    for weights in ("none", "imagenet", str(tmp_path / "no_top.h5")):
        config = configure_xray(weights=weights, backbone="MobileNetV2")
        assert doubt_weights(config, compare_weights(config, data), word="patient") is None
    config = configure_xray(weights=str(tmp_path))
    lost = doubt_weights(config, compare_weights(config, data), word="patient")
    assert lost == (
        f"which images trained {tmp_path} is not known. Where they validate here, the figures are too good"
    )


@pytest.mark.parametrize(
    ("fold", "seen"), [(None, ["bar/person1_1.png", "bar/person2_1.png"]), (0, ["bar/person2_1.png"])]
)
def test_folds_hold_out_every_image_in_turn(fold: int | None, seen: list[str], tmp_path: Path) -> None:
    """The run's own oof.csv has all of them; a fold's run, its own split's."""
    trained = {"bar/person1_1.png": "train", "bar/person2_1.png": "train", "bar/person9_1.png": "train"}
    config = configure_xray(weights=str(write_splits(tmp_path, trained)), folds=2, fold=fold)
    assert compare_weights(config, make_data(STUDENT)).seen == seen


def test_the_network_in_a_run_is_that_run(tmp_path: Path) -> None:
    write_splits(tmp_path, {"bar/person2_1.png": "train"})
    config = configure_xray(weights=str(tmp_path / "model.keras"))
    assert compare_weights(config, make_data(STUDENT)).seen == []  # no run: its metrics.json is not there
    (tmp_path / "metrics.json").write_text("{}")
    assert compare_weights(config, make_data(STUDENT)).seen == ["bar/person2_1.png"]
