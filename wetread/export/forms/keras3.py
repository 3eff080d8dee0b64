"""Keras 3's files, in the form in which they are: by Keras itself, in safe mode."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from wetread.errors import ExportError
from wetread.export import network
from wetread.export.forms.architecture import Architecture
from wetread.export.forms.custom import call_custom, import_custom
from wetread.export.forms.file_kinds import Kind
from wetread.export.forms.foreign_code import need_own_layers
from wetread.export.forms.network_files import NetworkSource
from wetread.export.forms.opened_network import Opened
from wetread.keras_backend import import_keras


def open_keras3(path: Path, kind: Kind, source: NetworkSource, *, architecture: Architecture) -> Opened:
    """Open a file of Keras 3. The owner's own code runs only where `source.custom` names it.

    Raises ExportError.
    """
    keras = import_keras()
    custom = import_custom(source.custom) if source.custom else {}
    notes = (f"The code of {source.custom} was run: the network needs it.",) if custom else ()
    need_own_layers(path, architecture.config, known=frozenset(custom))
    with tempfile.TemporaryDirectory(prefix="wetread-") as place, keras.saving.custom_object_scope(custom):
        if kind is Kind.JSON:
            model = _open_json(path, source, architecture, Path(place))
        else:
            model = network.load_network(_prepare(path, kind, custom, Path(place)), called=path)
    return Opened(model=model, notes=notes)


def _prepare(path: Path, kind: Kind, custom: dict[str, Any], place: Path) -> Path:
    """The file under a name by which Keras knows its form, its Lambda layers calling the owner's "
    "functions."""
    if kind is Kind.HDF5:
        return _lay(path, place / "network.h5", custom)
    if not custom and kind is Kind.KERAS:
        return path if path.suffix == ".keras" else _lay(path, place / "network.keras", {})
    return _pack(path, custom, place)


def _lay(path: Path, target: Path, custom: dict[str, Any]) -> Path:
    """A file under another name: a link where the disk has them and nothing in it changes."""
    if not custom:
        try:
            os.symlink(path.absolute(), target)
        except OSError:
            shutil.copyfile(path, target)
        return target
    import h5py

    shutil.copyfile(path, target)
    with h5py.File(target, "r+") as file:
        text = file.attrs["model_config"]
        config = json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
        call_custom(config, custom, function=_name_function)
        file.attrs["model_config"] = json.dumps(config).encode("utf-8")
    return target


def _pack(path: Path, custom: dict[str, Any], place: Path) -> Path:
    """A .keras file of a folder or of another .keras file, with the owner's functions in place of "
    "Lambdas'."""
    content = path
    if not path.is_dir():
        content = place / "content"
        with zipfile.ZipFile(path) as archive:
            archive.extractall(content)
    target = place / "network.keras"
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(one for one in content.rglob("*") if one.is_file()):
            name = file.relative_to(content).as_posix()
            if name == "config.json" and custom:
                config = json.loads(file.read_text(encoding="utf-8"))
                call_custom(config, custom, function=_name_function)
                archive.writestr(name, json.dumps(config))
            else:
                archive.write(file, name)
    return target


def _name_function(name: str) -> dict[str, Any]:
    """That a Lambda layer calls the function of a name, as Keras 3 writes it."""
    parts = {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}
    return {"function": parts}


def _open_json(path: Path, source: NetworkSource, architecture: Architecture, place: Path) -> Any:
    keras = import_keras()
    weights = Path(os.fspath(source.weights or ""))
    call_custom(architecture.config, keras.saving.get_custom_objects(), function=_name_function)
    with network.quiet():
        try:
            model = keras.models.model_from_json(json.dumps(architecture.config))
        except Exception as error:
            raise ExportError(network.explain_load(path, str(error))) from error
        try:
            model.load_weights(_name_weights(weights, place))
        except Exception as error:
            raise ExportError(
                f"The weights in {weights} do not fit the network in {path}: "
                f"{' '.join(str(error).split())[:300]}."
            ) from error
    return model


def _name_weights(weights: Path, place: Path) -> Path:
    """A file of weights under a name by which Keras knows its form."""
    import h5py

    if not h5py.is_hdf5(weights):
        raise ValueError("it is no HDF5 file")
    with h5py.File(weights) as file:
        legacy = "layer_names" in file.attrs or "model_weights" in file
    return _lay(weights, place / ("weights.h5" if legacy else "network.weights.h5"), {})
