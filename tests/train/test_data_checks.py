from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.train.drawn import draw_folder, draw_shape, write_image
from tests.train.test_dataset import configure
from wetread.errors import DatasetError
from wetread.train.config import TrainConfig
from wetread.train.data_checks import find_conflicts
from wetread.train.dataset import load_dataset
from wetread.train.events import DataFound, describe_event


def find(config: TrainConfig) -> tuple[DataFound, str]:
    """What a run is told of its data, and as text."""
    events: list = []
    load_dataset(config, on_event=events.append)
    return events[-1], describe_event(events[-1])


def test_files_under_two_labels_are_counted_and_one_pair_is_named(tmp_path: Path) -> None:
    """Two pictures stand under both labels; a copy under its own label is no conflict."""
    folder = draw_folder(tmp_path / "data", counts={"bar": 12, "disc": 12})
    assert find(configure(folder))[0].conflicts == 0
    for name, copy in (("person0_0.jpg", "x.jpg"), ("person1_3.png", "y.png")):
        shutil.copy(folder / "bar" / name, folder / "disc" / copy)
    shutil.copy(folder / "bar" / "person2_4.jpg", folder / "bar" / "z.jpg")
    found, text = find(configure(folder))
    assert found.conflicts == 4
    assert found.conflict == ("bar/person0_0.jpg", "disc/x.jpg")
    assert "4 images are byte-identical and have two labels" in text
    assert "bar/person0_0.jpg and disc/x.jpg" in text


@pytest.mark.parametrize(
    ("labels", "digests", "images"),
    [((0, 1, 2), "abc", 0), ((0, 0, 1), "aab", 0), ((0, 0, 1), "aaa", 3), ((2, 1, 2, 0), "abab", 2)],
)
def test_conflicts_of_any_number_of_labels(labels: tuple[int, ...], digests: str, images: int) -> None:
    names = [f"{label}/{position}" for position, label in enumerate(labels)]
    found = find_conflicts(names, labels, digests)
    assert found.images == images
    assert len({name.split("/")[0] for name in found.pair}) == (2 if images else 0)
    assert len({digests[int(name.split("/")[1])] for name in found.pair}) == (1 if images else 0)


def test_setting_patients_aside_hides_no_leak(tmp_path: Path) -> None:
    """Whoever is in val and in what the training side gave away was seen on that side all the same."""
    data = tmp_path / "data"
    draw_folder(data / "train", counts={"bar": 24, "disc": 24})
    draw_folder(data / "val", counts={"bar": 24, "disc": 24})
    shares = (0.0, 0.2, 0.4)
    assert [find(configure(data, calibration_split=share))[0].leaks for share in shares] == [48] * 3


def draw_static_scenes(folder: Path, *, scenes: int) -> Path:
    """Fixed cameras: a scene each, and in it a small spot that the label is about."""
    for camera in range(scenes):
        random = np.random.default_rng(camera)
        scene = cv2.GaussianBlur(random.integers(0, 255, (96, 96)).astype(np.uint8), (0, 0), 6)
        scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)
        for number in range(20):
            image, label = scene.copy(), ("dark", "light")[number % 2]
            center = tuple(int(v) for v in random.integers(30, 60, 2))
            cv2.circle(image, center, 2, (20, 235)[number % 2], -1)
            write_image(folder / label / f"{camera}-{number}.png", image)
    return folder


@pytest.mark.parametrize(("scenes", "split"), [(1, 0.0), (2, 0.2)])
def test_alike_images_that_leave_too_few_patients_are_told_of(
    tmp_path: Path, scenes: int, split: float
) -> None:
    """One patient of each label cannot be on two sides, nor two of them on three."""
    folder = draw_static_scenes(tmp_path / "data", scenes=scenes)
    told = rf"{20 * scenes} images are near-identical.*--no-near-identical"
    with pytest.raises(DatasetError, match=told):
        load_dataset(configure(folder, size=64, calibration_split=split))
    apart = load_dataset(configure(folder, size=64, calibration_split=split, near_identical=False))
    assert len(set(apart.groups)) == 20 * scenes


def test_alike_images_are_not_blamed_where_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="--group-regex") as caught:
        load_dataset(configure(draw_folder(tmp_path / "data", counts={"bar": 4, "disc": 2})))
    assert "near-identical" not in str(caught.value)


def test_color_that_is_dropped_is_told(tmp_path: Path) -> None:
    counts = {"bar": 20, "disc": 20}
    drawn = draw_folder(tmp_path / "color", counts=counts, color=True)
    gray = draw_folder(tmp_path / "gray", counts=counts)
    found, text = find(configure(drawn, color="gray"))
    assert found.colored == (24, 24)
    assert "24 of 24 images checked are in colour" in text
    assert "--color rgb" in text
    for config in (configure(drawn, color="rgb"), configure(gray)):
        found, text = find(config)
        assert found.colored == (0, 0)
        assert "colour" not in text


def test_scans_that_are_a_little_tinted_or_few_are_passed_over(tmp_path: Path) -> None:
    """Gray pictures stored in colour, with a yellowish cast; and two coloured ones among forty."""
    folder = tmp_path / "data"
    for label in ("bar", "disc"):
        for number in range(20):
            image = np.repeat(draw_shape(label, seed=number)[..., None], 3, axis=2)
            image[..., 0] -= np.minimum(image[..., 0], 5)
            write_image(folder / label / f"person{label}{number}_1.png", image)
    assert find(configure(folder))[0].colored == (0, 0)
    for label in ("bar", "disc"):
        write_image(folder / label / f"person{label}0_1.png", draw_shape(label, seed=0, color=True))
    assert find(configure(folder))[0].colored == (0, 0)
