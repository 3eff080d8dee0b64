"""Search for good training options: trials of `wetread train`, each with options proposed from the last ones.

Optuna proposes them (tree-structured Parzen estimator) and stops trials that are below the median. A trial is
a run like any other, in DIR/trial-0000 and so on, all on one split. DIR/study.log holds the search's state.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from wetread.errors import ConfigError, OutputError
from wetread.packages import importing
from wetread.train import run as runs
from wetread.train.config import METRICS, TrainConfig, find_difference
from wetread.train.dataset import load_dataset
from wetread.train.defaults import adopt, settle
from wetread.train.events import EpochEnded, Event, OnEvent, TrialEnded, TrialStarted, ignore_event
from wetread.train.fit import train
from wetread.train.history import check_metric

STUDY, OPTIONS, BEST, TABLE = "study.log", "tune.json", "best.json", "trials.csv"
WIDTHS, BATCH_SIZES = (8, 12, 16, 24, 32), (16, 32, 64, 128)
# The first trial: as near to the defaults of `train` as the search space allows.
_FIRST = {
    "width": 16,
    "stages": 3,
    "convolutions": 2,
    "dropout": 0.3,
    "learning_rate": 1e-3,
    "weight_decay": 1e-2,
    "batch_size": 32,
    "augment": 1.0,
}
_SIZE_FOR_FOUR = 64  # pixels: four stages leave 4 x 4 of it
_BEFORE_PRUNING = 5  # trials that are always finished


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial: how it ended ('complete', 'pruned' or 'failed'), its value, and its configuration."""

    number: int
    state: str
    value: float | None
    epochs: int
    config: TrainConfig


@dataclass(frozen=True, kw_only=True)
class TuneResult:
    """All trials, the best first, and the configuration of the best."""

    trials: tuple[Trial, ...]
    best: TrainConfig


def tune(
    config: TrainConfig,
    *,
    trials: int,
    metric: str = "auc",
    resume: bool = False,
    on_event: OnEvent = ignore_event,
) -> TuneResult:
    """Train `trials` networks with different options and rank them by a validation metric.

    `config`: the options that all trials share; its `output` is the search's directory. The search varies the
    network's width and depth, dropout, learning rate, weight decay, batch size and the strength of
    augmentation. Writes best.json and trials.csv. Raises as `train`, and OutputError if the directory holds a
    search and `resume` is false.
    """
    _check(config, trials, metric)
    directory = Path(config.output)
    with runs.lock_run(directory):
        config = settle(_adopt_options(directory, config) if resume else config, on_event=on_event)
        data = load_dataset(config)
        check_metric(metric, len(data.labels), option="metric")
        _begin(directory, config, {"metric": metric, "data": data.fingerprint}, resume=resume)
        study = _open_study(directory, metric)
        error = None
        while (left := trials - len(_list_done(study))) > 0:
            found = _run_trial(study, config, metric, left - 1, on_event)
            error = found or error
        return _finish(directory, study, config, error)


def _check(config: TrainConfig, trials: int, metric: str) -> None:
    if metric not in METRICS:
        raise ConfigError(f"metric must be one of {', '.join(METRICS)}, not {metric!r}.")
    if trials < 1:
        raise ConfigError(f"trials must be at least 1, not {trials}.")
    if config.output.startswith("gs://"):
        raise ConfigError(f"A search needs a local output, and {config.output!r} is in a bucket.")
    network = config.backbone or config.is_pretrained or config.architecture != TrainConfig.architecture
    if network or config.folds or config.teacher:
        raise ConfigError(
            "A search chooses the network itself: leave architecture, backbone, weights, teacher and folds "
            "out."
        )


def _adopt_options(directory: Path, config: TrainConfig) -> TrainConfig:
    """Take options that are open from the search that has begun in a directory, if one has."""
    path = directory / OPTIONS
    if not path.is_file():
        return config
    old = json.loads(path.read_text(encoding="utf-8"))["config"]
    return adopt(config, TrainConfig.from_json(json.dumps(old)))


def _begin(directory: Path, config: TrainConfig, held: dict[str, str], *, resume: bool) -> None:
    """Save the search's options, or compare a resumed one with them. Raises OutputError and ConfigError.

    `held`: the metric, and the fingerprint of the data.
    """
    path = directory / OPTIONS
    if not path.is_file():
        runs.write_json(path, {**held, "config": asdict(config)})
        return
    if not resume:
        raise OutputError(
            f"{directory} already holds a search. Continue it with --resume, or choose another --output."
        )
    old = json.loads(path.read_text(encoding="utf-8"))
    changed = find_difference(TrainConfig.from_json(json.dumps(old["config"])), config)
    for name, before, after in (changed or ("", "", ""), *((key, old[key], held[key]) for key in held)):
        if before != after:
            raise ConfigError(f"The search began with {name} {before!r}, not {after!r}.")


def _open_study(directory: Path, metric: str) -> Any:
    with importing("optuna", extra="tune"):
        import optuna
    from optuna.storages import JournalStorage, journal

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = str(directory / STUDY)
    backend = journal.JournalFileBackend(path, lock_obj=journal.JournalFileOpenLock(path))
    study = optuna.create_study(
        storage=JournalStorage(backend),
        study_name="wetread",
        direction="minimize" if metric == "loss" else "maximize",
        load_if_exists=True,
    )
    if not study.trials:
        study.enqueue_trial(_FIRST)
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):  # interrupted: run again
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
        study.set_user_attr(f"again {trial.number}", True)
    return study


def _run_trial(
    study: Any, config: TrainConfig, metric: str, left: int, on_event: OnEvent
) -> ConfigError | None:
    """Train one network, before `left` others; return why it could not be trained, if so."""
    import optuna

    # Each trial has its own sampler, from the seed and its number: a resumed search repeats no draw.
    number = len(study.trials)
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + number)
    study.pruner = optuna.pruners.MedianPruner(
        n_startup_trials=_BEFORE_PRUNING, n_warmup_steps=1 + config.epochs // 3
    )
    trial = study.ask()
    chosen = propose(trial, config)
    trial.set_user_attr("config", json.loads(chosen.to_json()))
    on_event(TrialStarted(number=trial.number, options=trial.params, left=left))

    def listen(event: Event) -> None:
        on_event(event)
        if isinstance(event, EpochEnded):
            trial.report(event.metrics[f"val_{metric}"], event.epoch)
            if event.epoch < event.epochs and trial.should_prune():
                raise optuna.TrialPruned

    failure: ConfigError | None = None
    try:
        result = train(chosen, on_event=listen)
        study.tell(trial, result.metrics["history"][-1][f"val_{metric}"])
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except ConfigError as error:  # for example it diverged; the next trial may work
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        failure = error
    ended = _describe(study.trials[trial.number])
    on_event(TrialEnded(number=ended.number, state=ended.state, value=ended.value))
    return failure


def propose(trial: Any, config: TrainConfig) -> TrainConfig:
    """Let a trial choose its options; return its configuration."""
    width = trial.suggest_categorical("width", WIDTHS)
    stages = trial.suggest_int("stages", 2, 4 if config.size >= _SIZE_FOR_FOUR else 3)
    convolutions = trial.suggest_int("convolutions", 1, 3)
    dropout = trial.suggest_float("dropout", 0.0, 0.6, step=0.1)
    strength = trial.suggest_float("augment", 0.0, 2.0, step=0.25)
    policy = config.augment.partition(":")[0]
    return replace(
        config,
        output=os.path.join(config.output, f"trial-{trial.number:04}"),
        cache=config.cache_folder(),
        architecture=f"stages-{width}-{stages}-{convolutions}-{dropout:.1f}",
        augment=f"{policy}:{strength:g}" if strength else "none",
        learning_rate=float(f"{trial.suggest_float('learning_rate', 1e-4, 1e-2, log=True):.3g}"),
        weight_decay=float(f"{trial.suggest_float('weight_decay', 1e-5, 1e-1, log=True):.3g}"),
        batch_size=trial.suggest_categorical("batch_size", BATCH_SIZES),
    )


def _list_done(study: Any) -> list[Any]:
    """The trials that ended, without those that were interrupted."""
    again = study.user_attrs
    return [t for t in study.trials if t.state.is_finished() and f"again {t.number}" not in again]


def _describe(trial: Any) -> Trial:
    states = {"COMPLETE": "complete", "PRUNED": "pruned"}
    value = trial.value
    if value is None and trial.intermediate_values:
        value = trial.intermediate_values[max(trial.intermediate_values)]
    return Trial(
        number=trial.number,
        state=states.get(trial.state.name, "failed"),
        value=value,
        epochs=max(trial.intermediate_values, default=0),
        config=TrainConfig.from_json(json.dumps(trial.user_attrs["config"])),
    )


def _finish(directory: Path, study: Any, config: TrainConfig, error: ConfigError | None) -> TuneResult:
    """Write the table and the best configuration. Raises the last error if no trial was finished."""
    found = [_describe(trial) for trial in _list_done(study)]
    sign = -1 if study.direction.name == "MAXIMIZE" else 1
    order = ("complete", "pruned", "failed")
    found.sort(key=lambda one: (order.index(one.state), sign * (one.value or 0.0), one.number))
    if found[0].state != "complete":
        raise error or ConfigError("No trial was finished. Ask for more --trials.")
    runs.write_table(directory / TABLE, ("trial", "state", "value", "epochs", *CHOSEN), _list_rows(found))
    best = replace(found[0].config, output=config.output, cache=config.cache)
    runs.write_bytes(directory / BEST, best.to_json().encode())
    return TuneResult(trials=tuple(found), best=best)


CHOSEN = ("architecture", "learning_rate", "weight_decay", "batch_size", "augment")


def _list_rows(trials: list[Trial]) -> Iterator[tuple[Any, ...]]:
    for one in trials:
        value = "" if one.value is None else f"{one.value:.6g}"
        yield (one.number, one.state, value, one.epochs, *(getattr(one.config, name) for name in CHOSEN))


def write_command(config: TrainConfig, *, output: str, project: str | None = None) -> str:
    """Write the `wetread train` command of a configuration, leaving out options with default values.

    `project`: the one that pays for requests, which no configuration holds.
    """
    words = ["wetread", "train", config.data, "--output", output]
    for name, value in asdict(config).items():
        default = TrainConfig.__dataclass_fields__[name].default
        if name in ("data", "output", "cache", "preset", "reasons") or value in (default, None):
            continue
        option = name.replace("_", "-")
        words += [f"--{option}" if value else f"--no-{option}"] if isinstance(value, bool) else []
        words += [] if isinstance(value, bool) else [f"--{option}", str(value)]
    words += ["--project", project] if project else []
    return shlex.join(words)
