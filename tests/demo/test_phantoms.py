"""Drawn chests: deterministic, varied, and not told apart by their brightness."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from wetread.demo.phantoms import CHEST, FINDINGS, draw_dataset, draw_phantom
from wetread.demo.slides import STAINS, draw_slide
from wetread.errors import ConfigError
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.*"))
    }


def test_same_seed_same_files_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        draw_dataset(tmp_path / name, count=12, seed=seed)
    first, again, other = (_digests(tmp_path / name) for name in "abc")
    assert first == again
    assert len(first) == 12
    assert not set(first.values()) & set(other.values())


def test_labels_share_one_to_three_and_names_carry_the_patient(tmp_path: Path) -> None:
    drawn = draw_dataset(tmp_path, count=80)
    assert Counter(one.label for one in drawn) == {"NORMAL": 20, "PNEUMONIA": 60}
    assert [one.path for one in drawn] == sorted(tmp_path.glob("*/*"))
    assert all(re.fullmatch(rf"phantom{one.patient:03d}-[1-4]\.(jpeg|png)", one.path.name) for one in drawn)
    labels = {one.patient: one.label for one in drawn}
    assert all(labels[one.patient] == one.label == one.path.parent.name for one in drawn)
    assert 1.5 < len(drawn) / len(labels) < 3.5


def test_files_vary_in_size_and_encoding(tmp_path: Path) -> None:
    drawn = draw_dataset(tmp_path, count=80)
    forms = []
    for one in drawn:
        with Image.open(one.path) as image:
            forms.append((image.format, image.mode, image.size))
    assert {form[:2] for form in forms} == {("JPEG", "L"), ("JPEG", "RGB"), ("PNG", "L")}
    sides = [side for *_, size in forms for side in size]
    assert min(sides) >= 180 and max(sides) <= 900
    assert max(sides) > 2.5 * min(sides)
    assert sum(width != height for *_, (width, height) in forms) > 70


def test_unlabelled_folder_is_flat_and_holds_the_same_pictures(tmp_path: Path) -> None:
    flat = draw_dataset(tmp_path / "flat", count=10, labelled=False)
    deep = draw_dataset(tmp_path / "deep", count=10)
    assert [one.path for one in flat] == sorted((tmp_path / "flat").glob("*.*"))
    assert {one.path.name: one.path.read_bytes() for one in flat} == {
        one.path.name: one.path.read_bytes() for one in deep
    }


@pytest.mark.parametrize("shares", [FINDINGS, STAINS], ids=["four gray", "three colour"])
def test_other_label_sets(tmp_path: Path, shares: dict[str, float]) -> None:
    drawn = draw_dataset(tmp_path, count=24, shares=shares)
    assert Counter(one.label for one in drawn) == {label: 24 // len(shares) for label in shares}
    recipe = PixelRecipe(color="rgb")
    colourful = [bool(np.ptp(read_pixels(one.path.read_bytes(), recipe), axis=2).max()) for one in drawn]
    assert colourful == [shares is STAINS] * 24


def test_unknown_label_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'COVID'.*NORMAL"):
        draw_dataset(tmp_path, count=4, shares={"NORMAL": 1, "COVID": 1})
    assert list(tmp_path.iterdir()) == []


def test_size_is_as_asked_and_gray() -> None:
    picture = draw_phantom("PNEUMONIA", patient=3, picture=2, size=(200, 331))
    assert (picture.shape, picture.dtype) == ((200, 331), np.uint8)


def test_a_patient_keeps_the_chest_but_not_the_pose() -> None:
    def small(patient: int, picture: int) -> np.ndarray:
        return cv2.resize(draw_phantom("NORMAL", patient=patient, picture=picture, size=(256, 256)), (64, 64))

    one, other = small(1, 1), small(1, 2)
    assert (one != other).mean() > 0.5
    assert np.array_equal(one, small(1, 1))


def test_brightness_does_not_give_the_label_away() -> None:
    means = {
        label: np.array([draw_phantom(label, patient=p, size=(180, 180)).mean() for p in range(80)])
        for label in CHEST
    }
    brighter = (means["PNEUMONIA"][:, None] > means["NORMAL"][None, :]).mean()  # the AUC of the mean
    assert 0.3 < brighter < 0.75


def test_opacities_brighten_the_lungs_of_the_same_patient() -> None:
    """The finding is there to be learned: same patient and pose, with and without."""
    normal, lobar = (
        draw_phantom(label, patient=9, picture=1, seed=2, size=(256, 256)) for label in ("NORMAL", "LOBAR")
    )
    assert lobar.shape == normal.shape
    assert (np.abs(lobar.astype(int) - normal) > 15).mean() > 0.03


def test_stains_have_one_brightness() -> None:
    grays = [
        np.mean([cv2.cvtColor(draw_slide(label, patient=p), cv2.COLOR_RGB2GRAY).mean() for p in range(10)])
        for label in STAINS
    ]
    assert max(grays) - min(grays) < 1.0
    reds = [np.mean([draw_slide(label, patient=p)[..., 0].mean() for p in range(10)]) for label in STAINS]
    assert max(reds) - min(reds) > 4


def test_drawing_is_fast() -> None:
    draw_phantom("NORMAL")
    start = time.process_time()
    for patient in range(20):
        draw_phantom("PNEUMONIA", patient=patient)
    # 10 ms on a free core; the bound leaves room for a busy machine.
    assert (time.process_time() - start) / 20 < 0.06
