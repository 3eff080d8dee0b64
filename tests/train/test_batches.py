from __future__ import annotations

import threading

import numpy as np
import pytest

from tests.train.drawn import draw_folder
from wetread.train.augment import POLICIES
from wetread.train.batches import BatchPlan, iterate_batches, order_epoch, scale_pixels, weigh_labels
from wetread.train.config import TrainConfig
from wetread.train.dataset import Dataset, load_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("batches")
    draw_folder(folder / "data", counts={"bar": 8, "disc": 24})
    return load_dataset(TrainConfig(data=str(folder / "data"), output=str(folder / "run"), size=16))


def plan(data: Dataset, *, policy: str = "none", batch_size: int = 8) -> BatchPlan:
    weights = weigh_labels(data, "balanced")
    return BatchPlan(dataset=data, policy=POLICIES[policy], weights=weights, batch_size=batch_size, seed=5)


def test_an_epoch_holds_every_training_image(data: Dataset) -> None:
    train = data.select("train")
    batches = list(iterate_batches(plan(data), epoch=1))
    assert len(batches) == plan(data).steps == -(-len(train) // 8)
    assert {batch.images.shape for batch in batches} == {(8, 16, 16, 1)}
    found = {image.tobytes() for batch in batches for image in batch.images}
    assert found == {scale_pixels(data.pixels[data.rows[i]]).tobytes() for i in train}
    pixels = {scale_pixels(data.pixels[data.rows[i]]).tobytes(): i for i in train}
    for batch in batches:
        for image, target, weight in zip(batch.images, batch.targets, batch.weights, strict=True):
            assert target == data.targets[pixels[image.tobytes()]]
            assert weight == plan(data).weights[target]


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    positions = np.arange(20, 51)
    order = order_epoch(positions, seed=1, epoch=1, batch_size=7)
    assert order.shape == (5, 7)
    assert sorted(order.ravel()[:31]) == positions.tolist()
    assert order.ravel()[31:].tolist() == order.ravel()[:4].tolist()
    large = order_epoch(positions, seed=1, epoch=1, batch_size=31)
    assert large.ravel().tolist() == order.ravel()[:31].tolist()
    for seed, epoch in ((1, 2), (2, 1)):
        assert order_epoch(positions, seed=seed, epoch=epoch, batch_size=7).tolist() != order.tolist()


def test_a_batch_larger_than_the_data_is_filled_up() -> None:
    order = order_epoch(np.arange(3), seed=0, epoch=0, batch_size=8)
    assert order.shape == (1, 8)
    assert set(order.ravel()) == {0, 1, 2}


def test_augmented_batches_repeat(data: Dataset) -> None:
    first = [batch.images for batch in iterate_batches(plan(data, policy="xray"), epoch=3)]
    again = [batch.images for batch in iterate_batches(plan(data, policy="xray"), epoch=3)]
    assert np.array_equal(first, again)
    other = [batch.images for batch in iterate_batches(plan(data, policy="xray"), epoch=4)]
    assert not np.array_equal(first, other)


def test_balanced_weights_give_each_label_the_same_sum(data: Dataset) -> None:
    counts = np.bincount(data.targets[data.select("train")])
    weights = weigh_labels(data, "balanced")
    assert weights.dtype == np.float32
    assert (weights * counts).tolist() == pytest.approx([counts.sum() / 2] * 2)
    assert weigh_labels(data, "none").tolist() == [1, 1]


def test_pixels_are_scaled_as_the_spec_says() -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(scale_pixels(levels), levels.astype(np.float32) * np.float32(1 / 255))


def test_an_epoch_left_early_leaves_no_thread(data: Dataset) -> None:
    batches = iterate_batches(plan(data), epoch=1)
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("wetread-batches")]
