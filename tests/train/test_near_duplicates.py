from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.train.drawn import draw_folder, write_image
from wetread.train.config import TrainConfig
from wetread.train.dataset import load_dataset
from wetread.train.near_duplicates import correlate, find_alike, hash_image


def draw_scene(seed: int, side: int = 224) -> np.ndarray:
    """A smooth random picture, unlike any other: uint8 (side, side)."""
    noise = np.random.default_rng(seed).normal(size=(12, 12)).astype(np.float32)
    smooth = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 45 * smooth, 0, 255).astype(np.uint8)


def encode(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)


COPIES = {
    "the same": lambda image: image,
    "JPEG at 30": lambda image: encode(image, 30),
    "half its size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "darker": lambda image: (255 * (image / 255.0) ** 1.8).astype(np.uint8),
    "less contrast": lambda image: (image * 0.7 + 30).astype(np.uint8),
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 1.5),
}


def shrink(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)[..., None]


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_among_strangers(name: str) -> None:
    images = [shrink(draw_scene(seed)) for seed in range(60)]
    images += [shrink(COPIES[name](draw_scene(7))), shrink(COPIES[name](draw_scene(41)))]
    rows = np.arange(len(images))
    assert find_alike(np.stack(images), rows) == [(7, 60), (41, 61)]
    assert find_alike(np.stack(images), rows[::-1].copy()) == [(0, 20), (1, 54)]


def test_strangers_and_empty_pictures_are_not_alike() -> None:
    """A picture without contrast says nothing, although its hash is that of every other such picture."""
    images = [np.full((64, 64, 1), level, np.uint8) for level in (0, 0, 90)]
    images += [shrink(draw_scene(1)), 255 - shrink(draw_scene(1)), shrink(draw_scene(1))[:, ::-1].copy()]
    assert np.array_equal(hash_image(images[0]), hash_image(images[2]))
    assert find_alike(np.stack(images), np.arange(6)) == []


def test_pairs_are_found_across_blocks(monkeypatch) -> None:
    monkeypatch.setattr("wetread.train.near_duplicates._BLOCK", 7)
    images = np.stack([shrink(draw_scene(seed % 25)) for seed in range(50)])
    assert find_alike(images, np.arange(50)) == [(seed, seed + 25) for seed in range(25)]


def test_colors_count() -> None:
    """Two pictures of one brightness and other colors are two pictures."""
    gray = shrink(draw_scene(3))[..., 0]
    other = shrink(draw_scene(4))[..., 0]
    first = np.stack([gray, other, other], axis=2)
    second = np.stack([other, gray, other], axis=2)
    assert np.array_equal(hash_image(first), hash_image(second))
    assert correlate(first, first) == pytest.approx(1)
    assert find_alike(np.stack([first, second, first]), np.arange(3)) == [(0, 2)]


def test_a_copy_under_another_name_comes_to_its_patients_side(tmp_path) -> None:
    """Patient 900's only image is patient 3's, lightened and saved again: they are one group, on one side."""
    folder = draw_folder(tmp_path / "data", counts={"bar": 16, "disc": 16}, patients=1)
    for seed in range(12):
        write_image(folder / "disc" / f"person{500 + seed}_1.png", draw_scene(seed))
    write_image(folder / "disc" / "person900_1.jpg", COPIES["darker"](draw_scene(3)))
    for near in (True, False):
        config = TrainConfig(
            data=str(folder), output=str(tmp_path / f"run-{near}"), size=40, near_identical=near
        )
        data = load_dataset(config)
        groups = dict(zip(data.names, data.groups, strict=True))
        sides = dict(zip(data.names, data.splits, strict=True))
        assert data.alike == (2 if near else 0)
        assert data.describe().alike == data.alike
        assert (groups["disc/person900_1.jpg"] == groups["disc/person503_1.png"]) is near
        assert len(set(data.groups)) == (44 if near else 45)
        if near:
            assert sides["disc/person900_1.jpg"] == sides["disc/person503_1.png"]
