"""A network of any form as a .keras file of Keras 3, which anyone's Keras loads in safe mode."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wetread.errors import ExportError, UsageError
from wetread.export import network
from wetread.export.forms.network_files import NetworkSource, make_source
from wetread.export.forms.opening import open_network
from wetread.export.forms.outputs import list_outputs
from wetread.keras_backend import import_keras
from wetread.runtime.files.atomic import write_file

_OPEN_SIDE = 96


@dataclass(frozen=True)
class Converted:
    """A .keras file that was written: its size in bytes, what the network takes and gives, and notes."""

    size: int
    takes: str
    gives: str
    notes: tuple[str, ...]


def convert_network(
    source: str | os.PathLike[str] | NetworkSource, *, output: str | os.PathLike[str]
) -> Converted:
    """Write a network as a .keras file.

    It appears only after it was loaded in safe mode and gave the same answers. Raises ExportError, also for a
    network whose layers are not known or that needs its owner's code, and UsageError for a wrong output.
    """
    output = Path(output)
    if output.suffix != ".keras" or not output.absolute().parent.is_dir():
        raise UsageError(f"--output must end in .keras and be in an existing folder, unlike {output}.")
    opened = open_network(source)
    if opened.is_graph:
        reason = opened.notes[-1].rpartition(": ")[2] if opened.notes else ""
        raise ExportError(
            f"{os.fspath(source)} cannot be converted: only its TensorFlow graph is known, not its layers: "
            f"{reason} Export it as it is: `wetread export --keras {os.fspath(source)}`."
        )
    with tempfile.TemporaryDirectory(prefix="wetread-") as place:
        file = Path(place) / "network.keras"
        with network.quiet():
            opened.model.save(file)
        _compare(opened.model, file, custom=make_source(source).custom)
        data = file.read_bytes()
    try:
        write_file(output, data)
    except OSError as error:
        raise ExportError(f"{output} cannot be written: {error.strerror}.") from error
    return Converted(len(data), *_describe(opened.model), opened.notes)


def _describe(model: Any) -> tuple[str, str]:
    takes = ", ".join(str(tuple(tensor.shape)) for tensor in model.inputs)
    return takes, ", ".join(f"'{name}' {tuple(tensor.shape)}" for name, tensor in list_outputs(model))


def _compare(model: Any, file: Path, *, custom: str | None) -> None:
    try:
        loaded = network.load_network(file)
    except ExportError as error:
        if custom is None:
            raise
        raise ExportError(
            f"A .keras file cannot hold this network alone: it needs {custom} again whenever it is loaded. "
            "Export it as it is: `wetread export --keras ... --custom`."
        ) from error
    keras = import_keras()
    random = np.random.default_rng(0)
    shapes = [[2, *(_OPEN_SIDE if side is None else side for side in one.shape[1:])] for one in model.inputs]
    images = [random.uniform(0, 1, shape).astype(np.float32) for shape in shapes]
    with network.quiet():
        answers = [
            [np.asarray(one) for one in keras.tree.flatten(each(_pack(each, images), training=False))]
            for each in (model, loaded)
        ]
    if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*answers, strict=True)):
        raise ExportError("The .keras file gives other results than the network. It was not written.")


def _pack(model: Any, images: list[Any]) -> Any:
    """Give images the structure of a model's inputs. A Sequential has `inputs` alone once it is loaded."""
    keras = import_keras()
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.pack_sequence_as(structure, images)
