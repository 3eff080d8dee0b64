"""The RUN directory: its files, written atomically, and what resuming needs.

model.keras  spec.json  metrics.json       at the end; metrics.json last: the run is finished
config.json  inputs.json                   at the start: a resumed run must match them
splits.csv  corrupt.csv  calibration/files.txt  augmentation.png
learned_last.csv  learned_last.png         at the end
learning_rate.csv  learning_rate.png       of a search for a learning rate, before a run
held_out.csv                               at the end, where patients were set aside
fold-0/ fold-1/ ...  oof.csv               before all, of a run with folds; each is a run, with held_out.csv
history.csv  history.png  checkpoint.npz   after every epoch (the checkpoint goes when the run is finished)
cache/                                     the images as arrays, unless they are kept elsewhere
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError, DatasetError, OutputError
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.files.atomic import replace_file, write_file
from wetread.runtime.files.locks import lock_file
from wetread.runtime.scoring.rows import encode_csv
from wetread.train.config import TrainConfig, find_difference
from wetread.train.defaults import adopt

if TYPE_CHECKING:
    from wetread.train.dataset import Dataset
    from wetread.train.events import LeftOut

CONFIG, INPUTS, SPEC, METRICS = "config.json", "inputs.json", "spec.json", "metrics.json"
MODEL, CHECKPOINT, HISTORY = "model.keras", "checkpoint.npz", "history.csv"
SPLITS, CORRUPT, CALIBRATION = "splits.csv", "corrupt.csv", "calibration/files.txt"
AUGMENTATION_PICTURE, HISTORY_PICTURE = "augmentation.png", "history.png"
_LOCK = ".lock"

History = list[dict[str, float]]
Variables = dict[str, NDArray[Any]]


def is_finished(run: Path) -> bool:
    """Whether a directory holds a finished run."""
    return (run / METRICS).is_file()


def check_place(config: TrainConfig) -> None:
    """Refuse a RUN directory inside DATA, where its pictures would be taken for images of a label.

    Raises ConfigError.
    """
    data, output = (_normalize(place) for place in (config.data, config.output))
    if output == data or output.startswith(data + "/"):
        raise ConfigError(
            f"--output {config.output} is inside DATA, {config.data}: its files would count as images. "
            "Choose a folder outside DATA."
        )


def _normalize(place: str) -> str:
    return place.rstrip("/") if is_bucket_location(place) else os.path.realpath(place).replace(os.sep, "/")


def check_run(run: Path, config: TrainConfig, *, resume: bool) -> bool:
    """Check whether a run has begun in a directory.

    Raises OutputError if it has and `resume` is false, and ConfigError if it began with another
    configuration.
    """
    try:
        old = TrainConfig.from_json((run / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except ConfigError as error:
        raise ConfigError(f"{run / CONFIG}: {error}") from error
    if not resume:
        state = "a finished" if is_finished(run) else "an unfinished"
        raise OutputError(
            f"{run} already holds {state} run. Continue it with --resume, or choose another --output."
        )
    changed = find_difference(old, config)
    if changed is not None:
        name, before, after = changed
        if name == "weights_digest":  # no option: --weights is
            name = "weights, by their SHA-256"
        raise ConfigError(
            f"The run in {run} began with {name} {before!r}, not {after!r}. Resume with the same options, or "
            "choose another --output."
        )
    return True


def adopt_options(config: TrainConfig) -> TrainConfig:
    """Take options that are open from the run that has begun in the configuration's directory, if one has."""
    try:
        text = (Path(config.output) / CONFIG).read_text(encoding="utf-8")
        return adopt(config, TrainConfig.from_json(text))
    except (FileNotFoundError, ConfigError):  # check_run says what is wrong with it
        return config


def check_inputs(run: Path, inputs: dict[str, Any]) -> None:
    """Check that data, policy and network are those that a resumed run began with.

    Raises DatasetError if the data changed and ConfigError if something else did.
    """
    old = json.loads((run / INPUTS).read_text(encoding="utf-8"))
    for name, after in inputs.items():
        before = old.get(name, after)  # an earlier version may not have saved it
        if before != after:
            kind = DatasetError if name in ("images", "data", "labels") else ConfigError
            raise kind(
                f"The {name} changed since the run in {run} began: {_shorten(before)} then, "
                f"{_shorten(after)} now. Restore it, or start a new run in another --output."
            )


def _shorten(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."


@contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Lock a directory for one trainer at a time. Raises OutputError if another has the lock."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = (run / _LOCK).open("wb")
    except OSError as error:
        raise OutputError(f"{run} cannot be written: {error.strerror}. Choose another --output.") from error
    with file:
        if not lock_file(file):
            raise OutputError(f"Another run is under way in {run}. Wait for it, or choose another --output.")
        yield


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, data)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV (RFC 4180, but with \\n); names that are not UTF-8 keep their bytes."""
    write_bytes(path, encode_csv([header, *rows]))


def write_splits(run: Path, data: Dataset) -> None:
    """Write splits.csv: each image's label, group and side."""
    rows = zip(data.names, (data.labels[t] for t in data.targets), data.groups, data.splits, strict=True)
    write_table(run / SPLITS, ("name", "label", "group", "split"), rows)


def write_left_out(run: Path, files: tuple[LeftOut, ...]) -> None:
    """Write corrupt.csv: the files that could not be read, and why."""
    rows = ((one.name, one.status, one.message) for one in files)
    write_table(run / CORRUPT, ("name", "status", "error"), rows)


def write_names(path: Path, names: Iterable[str]) -> None:
    """Write one name a line."""
    write_bytes(path, "".join(name + "\n" for name in names).encode("utf-8", "surrogateescape"))


def write_history(run: Path, history: History) -> None:
    """Write history.csv: a row for each epoch that is done."""
    columns = [name for name in history[0] if name != "seconds"]  # the same seed must give the same bytes
    write_table(run / HISTORY, columns, ([f"{row[name]:.6g}" for name in columns] for row in history))


def save_checkpoint(run: Path, variables: Variables, history: History) -> None:
    """Save an epoch's end in one file: every variable, the optimizer's too, and the history so far."""
    text = np.frombuffer(json.dumps(history).encode(), np.uint8)
    with replace_file(run / CHECKPOINT) as staged, staged.open("wb") as file:
        _save_arrays(file, {"history": text, **{f"variable/{name}": v for name, v in variables.items()}})


def _save_arrays(file: BinaryIO, arrays: Variables) -> None:
    np.savez(file, allow_pickle=False, **arrays)


def load_checkpoint(run: Path) -> tuple[Variables, History]:
    """Load the end of the last whole epoch; nothing before the first. Raises OutputError."""
    path = run / CHECKPOINT
    if not path.exists():
        return {}, []
    try:
        with np.load(path, allow_pickle=False) as saved:
            arrays = dict(saved)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise OutputError(f"The checkpoint {path} cannot be read: {error}. Start a new run.") from error
    history: History = json.loads(arrays.pop("history").tobytes())
    return {name.removeprefix("variable/"): array for name, array in arrays.items()}, history
