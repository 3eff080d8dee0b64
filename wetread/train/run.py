"""The RUN directory: what it holds, written whole or not at all, and what resuming needs.

model.keras  spec.json  metrics.json       at the end; metrics.json last: the run is finished
config.json  inputs.json                   at the start: what a resumed run is held to
splits.csv  corrupt.csv  calibration/files.txt  augmentation.png
held_out.csv                               at the end, where patients were set aside
fold-0/ fold-1/ ...  oof.csv               before all, of a run with folds; each is a run, with held_out.csv
history.csv  history.png  checkpoint.npz   after every epoch (the checkpoint goes when the run is finished)
cache/                                     the images as arrays, unless they are kept elsewhere
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError, DatasetError, OutputError
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.files.atomic import replace_file, write_file
from wetread.runtime.files.locks import lock_file
from wetread.runtime.scoring.rows import encode_csv
from wetread.train.config import TrainConfig, find_difference

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
    """Refuse a RUN directory inside DATA, where its files would be images of a label; before any is made.

    Raises ConfigError.
    """
    data, output = (_normalize(place) for place in (config.data, config.output))
    if output == data or output.startswith(data + "/"):
        raise ConfigError(
            f"Expected an --output outside DATA, {config.data}. Received {config.output}: its files would "
            "count as images. Choose a folder beside DATA."
        )


def _normalize(place: str) -> str:
    return place.rstrip("/") if is_bucket_location(place) else os.path.realpath(place).replace(os.sep, "/")


def check_run(run: Path, config: TrainConfig, *, resume: bool) -> bool:
    """Tell whether a run has begun in a directory.

    Raises OutputError when it has and is not to be resumed, and ConfigError when it is to be resumed with
    another configuration.
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
            f"Expected a new RUN directory. Received {run}, which holds {state} run. Go on with it by "
            "--resume, or choose another --output."
        )
    changed = find_difference(old, config)
    if changed is not None:
        name, before, after = changed
        raise ConfigError(
            f"Expected {name} {before!r}, with which the run in {run} began. Received {after!r}. Resume with "
            "the same options, or choose another --output."
        )
    return True


def check_inputs(run: Path, inputs: dict[str, Any]) -> None:
    """Hold a resumed run to the data, policy and network it began with.

    Raises DatasetError when the data changed and ConfigError when something else did.
    """
    old = json.loads((run / INPUTS).read_text(encoding="utf-8"))
    for name, after in inputs.items():
        before = old.get(name, after)  # what an earlier version did not write down
        if before != after:
            kind = DatasetError if name in ("images", "data") else ConfigError
            raise kind(
                f"Expected the same {name} as when the run in {run} began: {_shorten(before)}. Received "
                f"{_shorten(after)}. Put it back, or start a new run in another --output."
            )


def _shorten(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."


@contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Hold a directory for one trainer at a time. Raises OutputError when another has it."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = (run / _LOCK).open("wb")
    except OSError as error:
        raise OutputError(
            f"Expected to write into {run}. Received: {error.strerror}. Choose another --output."
        ) from error
    with file:
        if not lock_file(file):
            raise OutputError(f"Expected {run} to be free. Received one in which another run is under way.")
        yield


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, in a folder that is made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, data)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV (RFC 4180 but for its line ends); names that are not UTF-8 keep their bytes."""
    write_bytes(path, encode_csv([header, *rows]))


def write_names(path: Path, names: Iterable[str]) -> None:
    """Write one name a line."""
    write_bytes(path, "".join(name + "\n" for name in names).encode("utf-8", "surrogateescape"))


def write_history(run: Path, history: History) -> None:
    """Write history.csv: a row for each epoch that is done."""
    columns = [name for name in history[0] if name != "seconds"]  # one seed, one file, to the byte
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
    except (OSError, ValueError) as error:
        raise OutputError(f"Expected a checkpoint in {path}. Received: {error}. Start a new run.") from error
    history: History = json.loads(arrays.pop("history").tobytes())
    return {name.removeprefix("variable/"): array for name, array in arrays.items()}, history
