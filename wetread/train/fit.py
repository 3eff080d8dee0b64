"""Train a network: config, data, network, loop, save; read it from top to bottom.

The same seed and data give the same history on a CPU. A run that was killed and resumed gives the same result
as one that was not: every random number is a function of the seed and the epoch, or is saved.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from wetread.errors import ConfigError
from wetread.evaluate.exact_intervals import advise_only_answer
from wetread.evaluate.temperature_scaling import doubt_temperature
from wetread.runtime.model.spec import ModelSpec
from wetread.train import run as runs
from wetread.train.architectures import check_architecture, find_head
from wetread.train.augment import Policy, read_policy
from wetread.train.backbones import check_backbone
from wetread.train.batches import SCALE, BatchPlan, iterate_batches, plan_batches
from wetread.train.calibration import check_rule
from wetread.train.chance_level import find_chance
from wetread.train.config import LABELS, TrainConfig
from wetread.train.dataset import Dataset, UnreadableLabelError, check_folds, load_dataset, sample_calibration
from wetread.train.defaults import settle
from wetread.train.devices import check_devices, copy_plain
from wetread.train.events import (
    Doubted,
    EpochEnded,
    FoldStarted,
    ImagesLearned,
    ImagesRead,
    OnEvent,
    StepEnded,
    TrainingStarted,
    ignore_event,
)
from wetread.train.fine_tuning import Stages, begin_stage
from wetread.train.finishing import finish, judge_epoch
from wetread.train.folds import gather_folds, list_folds
from wetread.train.history import check_best, choose_epoch, is_over
from wetread.train.learned_last import LEARNED_LAST, AnswerRecord, write_learned_last
from wetread.train.network import make_network
from wetread.train.network_identity import digest_network
from wetread.train.remote import stage_run
from wetread.train.run_pictures import draw_augmentation
from wetread.train.seen_patients import compare_weights, describe_weights, doubt_weights
from wetread.train.teachers import Teachers, check_teachers, open_teachers
from wetread.train.tensorboard import log_epoch
from wetread.train.training_state import Learner, check_finite
from wetread.train.weights_file import check_weights

if TYPE_CHECKING:
    import keras

CALIBRATION_FILES = 512


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished run: its directory, its model's spec, the content of metrics.json, and the epochs done now.

    `run` is a gs:// location where the run is in a bucket. `metrics["history"]` are the rows of history.csv
    with the seconds of each epoch.
    """

    run: Path | str
    spec: ModelSpec
    metrics: dict[str, Any]
    new_epochs: int


def train(config: TrainConfig, *, resume: bool = False, on_event: OnEvent = ignore_event) -> TrainResult:
    """Train a network and leave a RUN directory, on this disk or in a bucket.

    `on_event` is called with each event (`wetread.train.events`). With `resume`, a run that was killed
    continues after its last whole epoch, a run that has not begun begins, and a finished one is left as it
    is. Raises DatasetError, ConfigError, SourceError, OutputError, MissingExtraError, and ModelError for a
    model file that cannot teach.
    """
    runs.check_place(config)
    check_names(config)
    if not runs.is_finished(Path(config.output)):  # a finished run needs no teacher any more
        check_teachers(config)
    with stage_run(config, on_event) as (staged, tell):
        local = staged is config
        staged = settle(runs.adopt_options(staged) if resume else staged, on_event=on_event)
        check_backbone(staged.backbone, size=staged.size)
        if config.folds and config.fold is None:
            whole = dataclasses.replace(staged, output=config.output)
            _train_folds(whole, staged, resume=resume, on_event=on_event)
        result = _train(staged, resume=resume, on_event=tell)
    return result if local else dataclasses.replace(result, run=config.output)


def check_names(config: TrainConfig) -> None:
    """Check what is named by a word, before the data are listed. Raises ConfigError."""
    if config.objective != LABELS:
        raise ConfigError(f"objective must be {LABELS!r} to train on labels, not {config.objective!r}.")
    if config.augment is not None:
        read_policy(config.augment)
    if config.architecture is not None:
        check_architecture(config.architecture)
    check_backbone(config.backbone, size=config.size)
    check_weights(config)


def _train_folds(config: TrainConfig, staged: TrainConfig, *, resume: bool, on_event: OnEvent) -> None:
    """Train one network without each fold's patients and collect its predictions for them."""
    directory = Path(staged.output)
    if runs.check_run(directory, staged, resume=resume) and runs.is_finished(directory):
        return
    quiet: OnEvent = lambda event: on_event(event) if isinstance(event, ImagesRead) else None  # noqa: E731
    check_folds(_load_data(staged, on_event=quiet), staged)
    configs = list_folds(config, cache=staged.cache_folder())
    for number, one in enumerate(configs):
        on_event(FoldStarted(fold=number, folds=len(configs)))
        train(one, resume=resume, on_event=on_event)
    gather_folds(configs, directory)
    on_event(FoldStarted(fold=len(configs), folds=len(configs)))


def _train(config: TrainConfig, *, resume: bool, on_event: OnEvent) -> TrainResult:
    """Train in a directory on this disk."""
    directory = Path(config.output)
    policy = read_policy(config.augment)
    begun = runs.check_run(directory, config, resume=resume)
    if begun and runs.is_finished(directory):
        return _load_result(directory, new_epochs=0)

    with runs.lock_run(directory):
        data = _load_data(config, on_event=on_event)
        check_best(config, len(data.labels))
        check_rule(config, data.labels)
        spec = ModelSpec(labels=data.labels, pixels=config.recipe(), positive=config.positive)
        check_devices(config)
        compared = compare_weights(config, data, begun=begun)
        if reason := doubt_weights(config, compared, word=data.word):
            on_event(Doubted(reason=reason))
        teachers = open_teachers(config, data, policy, on_event=on_event)
        plan = plan_batches(config, data, policy, ask=None if teachers is None else teachers.answer)
        model = make_network(config, 1 if len(data.labels) == 2 else len(data.labels), steps=plan.steps)
        spec = dataclasses.replace(spec, scale=(SCALE,), offset=(0.0,), head=find_head(model))
        stages = Stages(config, model, steps=plan.steps)
        inputs = _collect_inputs(config, data, policy, network=digest_network(model), teachers=teachers)
        _check_or_begin(config, data, policy, inputs=inputs | describe_weights(compared), begun=begun)
        learner = Learner(model, ema=config.ema)
        saved, history = runs.load_checkpoint(directory)
        record = AnswerRecord(data, head=spec.head)
        record.take_arrays(saved)
        if saved:
            stages.enter(learner, len(history))
            learner.restore_variables(saved)
        done = len(history)
        on_event(_describe_start(config, model, steps=plan.steps, done=done))

        while not is_over(history, config):
            start, epoch = perf_counter(), len(history) + 1
            begin_stage(stages, learner, epoch, on_event)
            loss = _train_epoch(learner, plan, record, epoch=epoch, epochs=config.epochs, on_event=on_event)
            with learner.averaged():
                row = {"epoch": epoch, "loss": loss, **judge_epoch(model, data, spec)}
                history.append({**row, "seconds": perf_counter() - start})
                if config.best and choose_epoch(history, config) == epoch:
                    learner.keep_best()
            runs.save_checkpoint(directory, learner.list_variables() | record.list_arrays(), history)
            runs.write_history(directory, history)
            log_epoch(config, history[-1])
            on_event(EpochEnded(epoch=epoch, epochs=config.epochs, metrics=history[-1]))
            if reason := find_chance(history, data, config):
                on_event(Doubted(reason=reason))

        stages.leave()
        write_learned_last(directory, record, data)
        with learner.kept(best=config.best is not None):
            spec = finish(config, copy_plain(model), data, spec=spec, history=history)
        result = _load_result(directory, new_epochs=len(history) - done)
        on_event(ImagesLearned(images=len(record.positions), wrong=record.wrong, file=LEARNED_LAST))
        _tell_doubt(result, on_event)
        return result


def _load_data(config: TrainConfig, *, on_event: OnEvent) -> Dataset:
    """Read the data. If a label has no readable file, corrupt.csv is written before the error is raised."""
    try:
        return load_dataset(config, on_event=on_event)
    except UnreadableLabelError as error:
        runs.write_left_out(Path(config.output), error.left_out)
        raise


def _collect_inputs(
    config: TrainConfig, data: Dataset, policy: Policy, *, network: str, teachers: Teachers | None
) -> dict[str, Any]:
    """Describe what a run's result depends on besides its options."""
    inputs: dict[str, Any] = {
        "images": len(data.names),
        "data": data.fingerprint,
        "policy": policy.to_dict(),
        "architecture": f"{config.network}, {network}",
    }
    if config.labels is not None:
        inputs["labels"] = digest_labels(data)
    if teachers is not None:
        inputs["teachers"] = teachers.digest
    return inputs


def _check_or_begin(
    config: TrainConfig, data: Dataset, policy: Policy, *, inputs: dict[str, Any], begun: bool
) -> None:
    """Compare the inputs with those that the run began with, or save them to begin it."""
    directory = Path(config.output)
    if begun:
        runs.check_inputs(directory, inputs)
        return
    draw_augmentation(directory / runs.AUGMENTATION_PICTURE, data, policy, seed=config.seed)
    _describe_run(directory, config, data, inputs)


def digest_labels(data: Dataset) -> str:
    """SHA-256 of the labels in listing order: of a run that takes them from a file, no folder names them."""
    words = "\n".join(data.labels[target] for target in data.targets)
    return hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()


def _describe_run(directory: Path, config: TrainConfig, data: Dataset, inputs: dict[str, Any]) -> None:
    """Save what a resumed run is compared with; config.json is written last and marks the run as begun."""
    runs.write_splits(directory, data)
    runs.write_left_out(directory, data.left_out)
    names = sample_calibration(data, count=CALIBRATION_FILES, seed=config.seed)
    runs.write_names(directory / runs.CALIBRATION, names)
    runs.write_json(directory / runs.INPUTS, inputs)
    runs.write_bytes(directory / runs.CONFIG, config.to_json().encode())


def _describe_start(config: TrainConfig, model: keras.Model, *, steps: int, done: int) -> TrainingStarted:
    return TrainingStarted(
        architecture=config.network,
        parameters=model.count_params(),
        epochs=config.epochs,
        steps=steps,
        first_epoch=done + 1,
    )


def _train_epoch(
    learner: Learner, plan: BatchPlan, record: AnswerRecord, *, epoch: int, epochs: int, on_event: OnEvent
) -> float:
    """Train on every image once; return the mean loss. Raises ConfigError when it is no longer finite."""
    total = loss = 0.0
    for step, batch in enumerate(iterate_batches(plan, epoch=epoch), start=1):
        total += learner.learn(batch)
        record.note(batch.positions, learner.read_outputs())
        loss = total / step
        on_event(StepEnded(epoch=epoch, epochs=epochs, step=step, steps=plan.steps, loss=loss))
    check_finite(learner.model, loss, epoch=epoch)
    record.end_epoch(epoch)
    return loss


def _tell_doubt(result: TrainResult, on_event: OnEvent) -> None:
    """Send a `Doubted` event if the network gives all images one label, or its temperature is extreme."""
    validation = result.metrics["validation"]
    if (label := validation["only_answer"]) is not None:
        on_event(Doubted(reason=advise_only_answer(label, validation["images"])))
    reason = doubt_temperature(result.spec.temperature)
    if reason is not None:  # at 1 where none was fitted
        on_event(Doubted(reason=reason))


def _load_result(directory: Path, *, new_epochs: int) -> TrainResult:
    """Read back a finished run."""
    return TrainResult(
        run=directory,
        spec=ModelSpec.from_json((directory / runs.SPEC).read_text(encoding="utf-8")),
        metrics=json.loads((directory / runs.METRICS).read_text(encoding="utf-8")),
        new_epochs=new_epochs,
    )
