"""Batches for the training loop: shuffled, augmented and scaled one step ahead, on another thread."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError
from wetread.train.augment import Policy, augment_images, draw_uniforms
from wetread.train.config import TrainConfig
from wetread.train.dataset import Dataset
from wetread.train.label_weights import parse_weights

SCALE = 1 / 255
Made = TypeVar("Made")


@dataclass(frozen=True)
class Batch:
    """`images`: float32 (N, H, W, C), 0 to 1; `targets`: (N,) columns of the labels; `weights`: float32.

    `positions`: (N,) the images' indices in the data set. `answers`: a teacher's, float32 (N, K).
    """

    images: NDArray[np.float32]
    targets: NDArray[np.intp]
    weights: NDArray[np.float32]
    positions: NDArray[np.intp]
    answers: NDArray[np.float32] | None = None


# Asks a teacher about views, uint8 (N, H, W, C), of the images at positions (N,), in an epoch.
Ask = Callable[[NDArray[np.uint8], NDArray[np.intp], int], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """How a data set becomes batches: everything that a batch depends on except the epoch."""

    dataset: Dataset
    policy: Policy
    weights: NDArray[np.float32]  # of each label
    batch_size: int
    seed: int
    ask: Ask | None = None

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return math.ceil(len(self.dataset.select("train")) / self.batch_size)


def plan_batches(
    config: TrainConfig, dataset: Dataset, policy: Policy, *, ask: Ask | None = None
) -> BatchPlan:
    """Return the plan of a run; `ask` asks its teacher.

    Raises ConfigError if `class_weight` names a label that is not there.
    """
    return BatchPlan(
        dataset=dataset,
        policy=policy,
        weights=weigh_labels(dataset, config.class_weight),
        batch_size=config.batch_size,
        seed=config.seed,
        ask=ask,
    )


def weigh_labels(dataset: Dataset, mode: str) -> NDArray[np.float32]:
    """Return each label's weight, float32 (K,).

    'balanced' weighs all labels alike in sum, 'none' gives 1, and 'A=2,B=0.5' what it says, 1 to the others.
    Raises ConfigError if it names a label that is not there.
    """
    given = parse_weights(mode)
    if given is not None:
        if unknown := sorted(set(given) - set(dataset.labels)):
            raise ConfigError(
                f"class_weight names {', '.join(unknown)}, and the labels are {', '.join(dataset.labels)}."
            )
        return np.array([given.get(label, 1.0) for label in dataset.labels], np.float32)
    counts = np.bincount(dataset.targets[dataset.select("train")], minlength=len(dataset.labels))
    return np.asarray(counts.sum() / (len(counts) * counts), np.float32)


def encode_targets(targets: NDArray[np.intp], outputs: int) -> NDArray[np.float32]:
    """Return the loss's targets, float32 (N, outputs): 0 or 1 for one output, else one-hot rows."""
    return np.asarray(targets[:, None] if outputs == 1 else np.eye(outputs)[targets], np.float32)


def scale_pixels(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scale uint8 pixels to the network's input, float32 0 to 1, as `scale` in the spec says."""
    return pixels.astype(np.float32) * np.float32(SCALE)


def order_epoch(positions: NDArray[np.intp], *, seed: int, epoch: int, batch_size: int) -> NDArray[np.intp]:
    """Shuffle the training images, (steps, batch_size); the last batch is filled up with the first images.

    All batches have one size: TensorFlow compiles one shape, and batch norm never sees a batch of one image.
    """
    keys = draw_uniforms(positions, seed=seed, epoch=epoch, count=1)[:, 0]
    shuffled = positions[np.argsort(keys, kind="stable")]
    return np.resize(shuffled, (math.ceil(len(shuffled) / batch_size), batch_size))


def iterate_batches(plan: BatchPlan, *, epoch: int) -> Iterator[Batch]:
    """Return an epoch's batches. Another thread makes the next one while this one trains."""
    data = plan.dataset
    order = order_epoch(data.select("train"), seed=plan.seed, epoch=epoch, batch_size=plan.batch_size)

    def make(positions: NDArray[np.intp]) -> Batch:
        pixels = data.pixels[data.rows[positions]]
        images = augment_images(pixels, plan.policy, indices=positions, seed=plan.seed, epoch=epoch)
        targets = data.targets[positions]
        answers = None if plan.ask is None else plan.ask(images, positions, epoch)
        return Batch(scale_pixels(images), targets, plan.weights[targets], positions, answers)

    return make_ahead(make, order)


def make_ahead(make: Callable[[NDArray[np.intp]], Made], order: NDArray[np.intp]) -> Iterator[Made]:
    """Yield what `make` makes of each row of positions, the next one on another thread meanwhile."""
    with ThreadPoolExecutor(1, thread_name_prefix="wetread-batches") as pool:
        ahead = pool.submit(make, order[0])
        for positions in order[1:]:
            batch, ahead = ahead.result(), pool.submit(make, positions)
            yield batch
        yield ahead.result()
