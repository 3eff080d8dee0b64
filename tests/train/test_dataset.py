from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.train.drawn import draw_folder, draw_shape, write_image
from wetread.errors import DatasetError, SourceError
from wetread.train.config import TrainConfig
from wetread.train.dataset import load_dataset, sample_calibration
from wetread.train.events import DataFound, ImagesRead, describe_event
from wetread.train.splits import assign_folds


def configure(data: Path, **values) -> TrainConfig:
    return TrainConfig(
        data=str(data), output=str(data.parent / "run"), **{"size": 16, "validation": 0.25, **values}
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "data", counts={"bar": 12, "disc": 24})


def test_names_that_tell_no_patient_are_told(folder: Path) -> None:
    events: list = []
    load_dataset(configure(folder, group_regex="^nobody"), on_event=events.append)
    assert events[-1].unmatched == 36
    assert "no patient was found in the names of 36 images" in describe_event(events[-1])


def test_the_expression_names_what_it_groups_by(folder: Path) -> None:
    """It may say so itself; X-rays have patients, and other pictures groups."""
    for values, word in (
        ({"group_regex": r"(?P<leaf>person\d+)_"}, "leaf"),
        ({"group_regex": r"(person\d+)_"}, "patient"),
        ({"group_regex": r"(person\d+)_", "preset": "document"}, "group"),
        ({}, "patient"),  # the default expression knows these names
    ):
        found = load_dataset(configure(folder, **values)).describe()
        assert found.word == word
        assert f"images of 14 {word}s: " in describe_event(found)
    with pytest.raises(DatasetError, match="has 1 leafs. Each label needs 30 or more"):
        assign_folds(["a"] * 36, [0] * 36, fractions=[1 / 30] * 30, seed=0, word="leaf")


def test_what_is_found_is_told(folder: Path) -> None:
    events = []
    data = load_dataset(configure(folder), on_event=events.append)
    assert events[0] == ImagesRead(done=36, total=36)
    (found,) = events[1:]
    assert found == DataFound(
        labels=("bar", "disc"),
        counts=found.counts,
        patients={"train": 14, "val": 4},
        left_out=(),
        leaks=0,
        alike=0,
        unmatched=0,
    )
    assert found.counts["train"]["bar"] + found.counts["val"]["bar"] == 12
    assert found.counts["train"]["disc"] + found.counts["val"]["disc"] == 24
    assert 2 <= found.counts["val"]["bar"] <= 4
    assert found.counts["val"]["disc"] == 6
    assert data.names[0] == "bar/person0_0.jpg"
    assert data.pixels.shape == (36, 16, 16, 1)
    assert data.pixels.dtype == np.uint8


def test_patients_are_on_one_side(folder: Path) -> None:
    data = load_dataset(configure(folder))
    sides = {side: {data.groups[i] for i in data.select(side)} for side in ("train", "val")}
    assert not sides["train"] & sides["val"]
    assert len(sides["train"]) + len(sides["val"]) == 18


def test_the_split_is_the_same_elsewhere(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "else" / "where")
    here, there = load_dataset(configure(folder)), load_dataset(configure(copy))
    assert (here.names, here.splits, here.fingerprint) == (there.names, there.splits, there.fingerprint)
    assert np.array_equal(here.pixels, there.pixels)
    other = load_dataset(configure(folder, seed=1))
    assert other.splits != here.splits
    assert other.fingerprint == here.fingerprint


def test_identical_files_are_on_one_side(tmp_path: Path) -> None:
    """Every image stands twice, under two patients' names."""
    for label in ("bar", "disc"):
        for number in range(10):
            image = draw_shape(label, seed=number)
            write_image(tmp_path / "data" / label / f"person{number}_a.png", image)
            write_image(tmp_path / "data" / label / f"person{number + 50}_b.png", image)
    data = load_dataset(configure(tmp_path / "data"))
    sides = {
        name.split("/")[1].split("_")[0]: side for name, side in zip(data.names, data.splits, strict=True)
    }
    assert [sides[f"person{n}"] for n in range(10)] == [sides[f"person{n + 50}"] for n in range(10)]
    assert set(sides.values()) == {"train", "val"}


def test_corrupt_files_are_listed_and_left_out(folder: Path) -> None:
    whole = (folder / "disc" / "person2000_0.jpg").read_bytes()
    (folder / "disc" / "a_cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "bar" / "notes.txt").write_text("no image")
    (folder / "bar" / "empty.png").write_bytes(b"")
    (folder / "readme.md").write_text("beside the labels")
    data = load_dataset(configure(folder))
    assert {one.name: one.status for one in data.left_out} == {
        "readme.md": "unlabelled",
        "bar/empty.png": "empty",
        "bar/notes.txt": "not_an_image",
        "disc/a_cut.jpg": "truncated",
    }
    assert len(data.names) == 36
    assert data.names[0] == "bar/person0_0.jpg"
    clean = load_dataset(configure(folder, size=17))
    assert clean.fingerprint == data.fingerprint
    for position in (0, 20, 35):  # each image's own pixels, although rows were skipped
        name = data.names[position]
        assert data.targets[position] == ("bar", "disc").index(name.split("/")[0])
        alone = draw_folder_of_one(folder, name)
        assert np.array_equal(data.pixels[data.rows[position]], alone)


def draw_folder_of_one(folder: Path, name: str) -> np.ndarray:
    from wetread.runtime.images.pixels import read_pixels
    from wetread.runtime.images.recipe import PixelRecipe

    return read_pixels((folder / name).read_bytes(), PixelRecipe(height=16, width=16))


def test_folders_of_train_and_val_are_taken_as_they_are(tmp_path: Path) -> None:
    data = tmp_path / "data"
    draw_folder(data / "train", counts={"bar": 6, "disc": 6})
    draw_folder(data / "val", counts={"bar": 2, "disc": 4})
    draw_folder(data / "test", counts={"ring": 2})
    (data / "__MACOSX").mkdir()
    (data / "__MACOSX" / "x.png").write_bytes(b"")
    found = load_dataset(configure(data))
    assert found.labels == ("bar", "disc")
    assert found.splits == ("train",) * 12 + ("val",) * 6
    assert found.leaks == 6  # person0, person2000 and person2001 are in both


def test_train_without_val_is_split(tmp_path: Path) -> None:
    draw_folder(tmp_path / "data" / "train", counts={"bar": 8, "disc": 8})
    draw_folder(tmp_path / "data" / "test", counts={"ring": 2})
    found = load_dataset(configure(tmp_path / "data"))
    assert found.labels == ("bar", "disc")
    assert sorted(found.splits) == ["train"] * 12 + ["val"] * 4
    assert found.leaks == 0


def test_a_subset_is_stratified_and_grouped(folder: Path) -> None:
    found = load_dataset(configure(folder, subset=18))
    assert len(found.names) == 18
    assert np.bincount(found.targets).tolist() == [6, 12]
    assert all(found.groups.count(group) == 2 for group in found.groups)
    assert load_dataset(configure(folder, subset=18)).names == found.names
    assert len(load_dataset(configure(folder, subset=1000)).names) == 36


def test_the_cache_is_used_again(folder: Path, monkeypatch) -> None:
    first = load_dataset(configure(folder))
    monkeypatch.setattr("wetread.runtime.images.cache.read_input", None)
    again = load_dataset(configure(folder))
    assert np.array_equal(first.pixels, again.pixels)
    assert again.fingerprint == first.fingerprint


def test_calibration_files_are_of_the_training_split(folder: Path) -> None:
    data = load_dataset(configure(folder))
    train = {data.names[i] for i in data.select("train")}
    names = sample_calibration(data, count=9, seed=0)
    assert set(names) <= train
    totals = [sum(name.startswith(label) for name in train) for label in ("bar", "disc")]
    found = [sum(name.startswith(label) for name in names) for label in ("bar", "disc")]
    assert found == [9 * total // len(train) for total in totals]
    assert set(sample_calibration(data, count=512, seed=0)) == train


def make_empty_class(data: Path) -> None:
    draw_folder(data, counts={"bar": 4, "disc": 4})
    (data / "ring").mkdir()


def make_other_labels(data: Path) -> None:
    draw_folder(data / "train", counts={"bar": 4, "disc": 4})
    draw_folder(data / "val", counts={"bar": 4, "ring": 4})


def make_unreadable(data: Path) -> None:
    draw_folder(data, counts={"bar": 4})
    (data / "disc").mkdir()
    for number in range(4):
        (data / "disc" / f"{number}.png").write_bytes(b"nothing")


def make_both_layouts(data: Path) -> None:
    draw_folder(data, counts={"bar": 4, "disc": 4})
    draw_folder(data / "train", counts={"bar": 4, "disc": 4})
    draw_folder(data / "test", counts={"bar": 4, "disc": 4})


def make_misnamed(data: Path, name: str = "validation") -> None:
    for part in ("train", "test", name):
        draw_folder(data / part, counts={"bar": 4, "disc": 4})


BROKEN = {
    "val by another name": (make_misnamed, "Rename 'validation' to 'val'"),
    "val by a short name": (lambda data: make_misnamed(data, "Valid"), "Rename 'Valid' to 'val'"),
    "one label": (lambda data: draw_folder(data, counts={"bar": 4}), "only one label, bar"),
    "empty class folder": (make_empty_class, "empty: ring"),
    "other labels in val": (make_other_labels, r"disc \(train\), ring \(val\)"),
    "nothing in a label's folder": (
        lambda data: write_image(data / "x.png", np.zeros((9, 9))),
        "has 1 files",
    ),
    "nothing at all": (lambda data: data.mkdir(), "has 0 files"),
    "nothing readable": (make_unreadable, "None of the 4 files of 'disc'.*4 not_an_image.*corrupt.csv"),
    "one patient of a label": (
        lambda data: draw_folder(data, counts={"bar": 4, "disc": 2}),
        "'disc' has 2 readable images, of 1 patients",
    ),
    "both layouts": (make_both_layouts, "mixes labels and splits: bar, disc, test, train"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_data_that_cannot_train_are_refused(case: str, tmp_path: Path) -> None:
    make, message = BROKEN[case]
    make(tmp_path / "data")
    with pytest.raises(DatasetError, match=message):
        load_dataset(configure(tmp_path / "data"))


def test_data_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        load_dataset(configure(tmp_path / "nowhere"))


def test_the_real_names_split_by_patient(xray_data: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        data=str(xray_data / "chest-xray-224"), output=str(tmp_path / "run"), size=8, subset=600
    )
    data = load_dataset(config)
    assert 590 <= len(data.names) <= 610
    sides = {side: {data.groups[i] for i in data.select(side)} for side in ("train", "val")}
    assert not sides["train"] & sides["val"]
    share = {side: data.targets[data.select(side)].mean() for side in ("train", "val")}
    assert share["train"] == pytest.approx(0.743, abs=0.01)
    assert share["val"] == pytest.approx(0.743, abs=0.02)
    assert all(group.startswith(("person", "IM-", "NORMAL2-IM-")) for group in data.groups)


def test_calibration_takes_patients_from_training_and_leaves_validation_as_it_is(folder: Path) -> None:
    without, data = load_dataset(configure(folder)), load_dataset(configure(folder, calibration_split=0.2))
    assert np.array_equal(data.select("val"), without.select("val"))
    sides = {side: {data.groups[i] for i in data.select(side)} for side in ("train", "val", "cal")}
    assert all(sides.values())
    assert sum(map(len, sides.values())) == len(set(data.groups)) == 18
    assert 6 <= len(data.select("cal")) <= 8
    assert set(data.targets[data.select("cal")]) == {0, 1}
    assert data.describe().counts["cal"] == {"bar": 2, "disc": len(data.select("cal")) - 2}


def test_calibration_is_taken_from_a_given_training_side(tmp_path: Path) -> None:
    draw_folder(tmp_path / "data" / "train", counts={"bar": 12, "disc": 24})
    for label in ("bar", "disc"):
        write_image(tmp_path / "data" / "val" / label / "a.png", draw_shape(label, seed=77))
    data = load_dataset(configure(tmp_path / "data", calibration_split=0.2))
    assert [data.names[i] for i in data.select("val")] == ["val/bar/a.png", "val/disc/a.png"]
    assert not {data.groups[i] for i in data.select("cal")} & {data.groups[i] for i in data.select("train")}
    assert 6 <= len(data.select("cal")) <= 10
    draw_folder(tmp_path / "data" / "val", counts={"bar": 30, "disc": 30})
    with pytest.raises(DatasetError, match="--calibration-split"):
        load_dataset(configure(tmp_path / "data", calibration_split=0.5))


def move_flat(folder: Path, labels: Path, *, above: str = "") -> list[str]:
    """Move labelled images into folders that say nothing, and write their labels as a reader would."""
    rows = ["path,label,verdict"]
    for number, path in enumerate(sorted(folder.rglob("*.*"))):
        name = f"{'ab'[number % 2]}/{path.name}"
        (folder / name).parent.mkdir(exist_ok=True)
        path.rename(folder / name)
        rows.append(f"{above}{name},{path.parent.name},agree")
    labels.write_text("\n".join(rows) + "\n")
    return rows[1:]


@pytest.mark.parametrize("above", ["", "data/", "/srv/site/data/", "gs://bucket/data/"])
def test_images_that_lie_where_they_are_take_their_labels_from_a_file(folder: Path, tmp_path, above) -> None:
    """As they were scored elsewhere, under other names above them."""
    by_folder = load_dataset(configure(folder))
    pixels = {
        Path(name).name: by_folder.pixels[row]
        for name, row in zip(by_folder.names, by_folder.rows, strict=True)
    }
    truth = {
        Path(n).name: by_folder.labels[t] for n, t in zip(by_folder.names, by_folder.targets, strict=True)
    }
    move_flat(folder, tmp_path / "reviews.csv", above=above)
    (folder / "a" / "person9_unlabelled.png").write_bytes(b"never read")
    data = load_dataset(configure(folder, labels=str(tmp_path / "reviews.csv")))
    assert data.labels == by_folder.labels and len(data.names) == 36 and data.left_out == ()
    for name, target, row in zip(data.names, data.targets, data.rows, strict=True):
        assert data.labels[target] == truth[Path(name).name]
        np.testing.assert_array_equal(data.pixels[row], pixels[Path(name).name])
    sides = {side: {data.groups[i] for i in data.select(side)} for side in ("train", "val")}
    assert sides["train"] and sides["val"] and not sides["train"] & sides["val"]


def test_labels_that_do_not_fit_their_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    rows = move_flat(folder, tmp_path / "reviews.csv")
    for lines, words in (
        ([*rows, "a/person99_gone.png,bar,agree"], "lacks 1 of the .* such as 'a/person99_gone.png'"),
        ([f"x/{row}" for row in rows[:1]] + rows[1:], "lacks .* of the .* images that"),
        ([row for row in rows if "bar" in row], "only one label, .* two or more"),
        ([*rows, f"./{rows[0].replace('/', '//', 1)}"], "two rows for '.*'. Keep only one"),
        (["a/x.png,,unsure"], "labels no image"),
    ):
        (tmp_path / "other.csv").write_text("path,label,verdict\n" + "\n".join(lines) + "\n")
        with pytest.raises(DatasetError, match=words):
            load_dataset(configure(folder, labels=str(tmp_path / "other.csv")))
