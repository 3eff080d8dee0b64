"""Train the body of a network on the images of labelled folders without their labels.

    result = pretrain(TrainConfig(data="DATA", output="body", objective="views"))

Its RUN holds what `train --weights RUN` begins with. The split is that of `train` with the same seed and
data: images that validate there are not seen here. Killed, it goes on after its last whole epoch, as `train`
does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError
from wetread.train import run as runs
from wetread.train.architectures import check_architecture
from wetread.train.augment import Policy, augment_images, read_policy
from wetread.train.batches import make_ahead, order_epoch, scale_pixels
from wetread.train.config import VIEWS, TrainConfig
from wetread.train.dataset import Dataset, load_dataset
from wetread.train.defaults import settle
from wetread.train.events import EpochEnded, OnEvent, StepEnded, TrainingStarted, ignore_event
from wetread.train.network import make_network, make_optimizer, save_network
from wetread.train.network_identity import digest_network
from wetread.train.remote import stage_run
from wetread.train.run_pictures import draw_augmentation
from wetread.train.training_state import check_finite
from wetread.train.views import ViewLearner

if TYPE_CHECKING:
    import keras

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """A finished run: its directory or gs:// location, the content of metrics.json, the epochs done now.

    `metrics["history"]` are the rows of history.csv: the loss, and of how many views of training images the
    other view of the image was the most similar in its batch (`matched`, 0 to 1).
    """

    run: Path | str
    metrics: dict[str, Any]
    new_epochs: int


def pretrain(
    config: TrainConfig, *, resume: bool = False, on_event: OnEvent = ignore_event
) -> PretrainResult:
    """Train a network's body without labels and leave a RUN directory, on this disk or in a bucket.

    `config.objective` must be 'views'. With `resume` as `train` does. Raises DatasetError, ConfigError,
    SourceError, OutputError and MissingExtraError.
    """
    runs.check_place(config)
    check_names(config)
    with stage_run(config, on_event) as (staged, tell):
        local = staged is config
        staged = settle(runs.adopt_options(staged) if resume else staged, on_event=on_event)
        result = _pretrain(staged, resume=resume, on_event=tell)
    return result if local else replace(result, run=config.output)


def check_names(config: TrainConfig) -> None:
    """Check what is named by a word, before the data are listed. Raises ConfigError."""
    if config.objective != VIEWS:
        raise ConfigError(f"objective must be {VIEWS!r} to learn without labels, not {config.objective!r}.")
    if config.is_pretrained or config.folds or config.backbone or config.teacher:
        raise ConfigError("weights, folds, a backbone and a teacher have no part in learning without labels.")
    if config.batch_size == 1:
        raise ConfigError(
            "batch_size must be 2 or more: each view is told from those of the other images of its batch."
        )
    if config.augment is not None:
        read_policy(config.augment)
    if config.architecture is not None:
        check_architecture(config.architecture)


def _pretrain(config: TrainConfig, *, resume: bool, on_event: OnEvent) -> PretrainResult:
    directory, policy = Path(config.output), read_policy(config.augment)
    begun = runs.check_run(directory, config, resume=resume)
    if begun and runs.is_finished(directory):
        return _load_result(directory, new_epochs=0)
    with runs.lock_run(directory):
        data = load_dataset(config, on_event=on_event)
        steps = _count_steps(data, config)
        model = make_network(config, 1 if len(data.labels) == 2 else len(data.labels), steps=steps)
        learner = ViewLearner(model, optimizer=make_optimizer(config, steps=steps))
        _check_or_begin(config, data, policy, network=digest_network(model), begun=begun)
        saved, history = runs.load_checkpoint(directory)
        if saved:
            learner.restore_variables(saved)
        done = len(history)
        on_event(
            TrainingStarted(
                architecture=config.network,
                parameters=model.count_params(),
                epochs=config.epochs,
                steps=steps,
                first_epoch=done + 1,
            )
        )
        for epoch in range(done + 1, config.epochs + 1):
            start = perf_counter()
            loss, matched = _train_epoch(learner, data, policy, config, epoch=epoch, on_event=on_event)
            row = {"epoch": epoch, "loss": loss, "matched": matched, "seconds": perf_counter() - start}
            history.append(row)
            runs.save_checkpoint(directory, learner.list_variables(), history)
            runs.write_history(directory, history)
            on_event(EpochEnded(epoch=epoch, epochs=config.epochs, metrics=row))
        _finish(config, model, data, history)
        return _load_result(directory, new_epochs=len(history) - done)


def _count_steps(data: Dataset, config: TrainConfig) -> int:
    return math.ceil(len(data.select("train")) / config.batch_size)


def _check_or_begin(config: TrainConfig, data: Dataset, policy: Policy, *, network: str, begun: bool) -> None:
    """Compare with what the run began with, or save it to begin the run; config.json is written last."""
    directory = Path(config.output)
    inputs = {
        "images": len(data.names),
        "data": data.fingerprint,
        "policy": policy.to_dict(),
        "architecture": f"{config.network}, {network}",
    }
    if begun:
        runs.check_inputs(directory, inputs)
        return
    draw_augmentation(directory / runs.AUGMENTATION_PICTURE, data, policy, seed=config.seed)
    runs.write_splits(directory, data)
    runs.write_left_out(directory, data.left_out)
    runs.write_json(directory / runs.INPUTS, inputs)
    runs.write_bytes(directory / runs.CONFIG, config.to_json().encode())


def _train_epoch(
    learner: ViewLearner, data: Dataset, policy: Policy, config: TrainConfig, *, epoch: int, on_event: OnEvent
) -> tuple[float, float]:
    """Train on two views of every image once; return the mean loss and the mean share of matched views.

    Raises ConfigError when the loss is no longer finite.
    """
    losses, matches, steps = 0.0, 0.0, _count_steps(data, config)
    for step, (one, other) in enumerate(_iterate_pairs(data, policy, config, epoch=epoch), start=1):
        loss, matched = learner.learn(one, other)
        losses, matches = losses + loss, matches + matched
        mean = losses / step
        on_event(StepEnded(epoch=epoch, epochs=config.epochs, step=step, steps=steps, loss=mean))
    check_finite(learner.model, losses / steps, epoch=epoch)
    return losses / steps, matches / steps


def _iterate_pairs(data: Dataset, policy: Policy, config: TrainConfig, *, epoch: int) -> Iterator[Pair]:
    """Return an epoch's batches, two views of each image. Another thread makes the next one meanwhile."""
    order = order_epoch(data.select("train"), seed=config.seed, epoch=epoch, batch_size=config.batch_size)

    def make(positions: NDArray[np.intp]) -> Pair:
        pixels = data.pixels[data.rows[positions]]
        # An epoch of `train` draws one view of each image; this takes the numbers of two epochs.
        one, other = (
            augment_images(pixels, policy, indices=positions, seed=config.seed, epoch=number)
            for number in (2 * epoch - 1, 2 * epoch)
        )
        return scale_pixels(one), scale_pixels(other)

    return make_ahead(make, order)


def _finish(config: TrainConfig, model: keras.Model, data: Dataset, history: runs.History) -> None:
    """Write the network, the curves and, last, metrics.json."""
    directory, found = Path(config.output), data.describe()
    save_network(model, directory / runs.MODEL, sample=data.pixels[data.rows[data.select("val")[:16]]])
    metrics = {
        "architecture": config.network,
        "parameters": model.count_params(),
        "epochs": len(history),
        "seconds": sum(row["seconds"] for row in history),
        "images": found.counts,
        "left_out": len(found.left_out),
        "matched": history[-1]["matched"],
        "history": history,
    }
    runs.write_json(directory / runs.METRICS, metrics)
    (directory / runs.CHECKPOINT).unlink(missing_ok=True)


def _load_result(directory: Path, *, new_epochs: int) -> PretrainResult:
    metrics = json.loads((directory / runs.METRICS).read_text(encoding="utf-8"))
    return PretrainResult(run=directory, metrics=metrics, new_epochs=new_epochs)
