"""A network's own description of its layers: read from any form, without running or building anything."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wetread.errors import ExportError
from wetread.export.forms.file_kinds import Kind, read_json
from wetread.packages import importing


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The layers of a network, as Keras wrote them.

    `config`: the whole object, {'class_name': ..., 'config': ...}. `version`: of the Keras that wrote it,
    such as '2.15.0', or '' where the file does not tell. `backend`: 'tensorflow' but in old files of Keras 2.
    """

    config: dict[str, Any]
    version: str
    backend: str = "tensorflow"

    @property
    def major(self) -> int:
        """1, 2 or 3: which Keras can read it."""
        if self.version:
            return int(self.version.split(".")[0].lstrip("v") or 0)
        return 3 if _is_of_keras3(self.config) else 2


def read_architecture(path: Path, kind: Kind) -> Architecture | None:
    """Read the architecture of a network in any form but a SavedModel; None where a file has weights alone.

    Raises ExportError for a file that is damaged.
    """
    try:
        if kind is Kind.KERAS:
            return _read_zip(path)
        if kind is Kind.UNPACKED:
            return _make(read_json(path / "config.json"), _read_metadata(path / "metadata.json"))
        if kind is Kind.HDF5:
            return _read_hdf5(path)
        return _make(read_json(path), None)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise describe_damage(path, error) from error


def describe_damage(path: Path, error: object) -> ExportError:
    """The error of a file that begins well and cannot be read to its end."""
    reason = " ".join(str(error).split()).rstrip(".")[:300]
    return ExportError(f"{path} is damaged: {reason}. Copy or download it again.")


def _make(config: object, metadata: object, *, backend: object = None) -> Architecture:
    if not isinstance(config, dict) or "class_name" not in config:
        raise ValueError("its description of layers has no class_name")
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    version = version or config.get("keras_version") or ""
    backend = backend or config.get("backend") or "tensorflow"
    return Architecture(config=config, version=str(version), backend=str(backend))


def _read_metadata(path: Path) -> object:
    return read_json(path) if path.is_file() else None


def _read_zip(path: Path) -> Architecture:
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
        if broken is not None:
            raise ValueError(f"the checksum of {broken} in it is wrong")
        names = set(archive.namelist())
        if not names & {"model.weights.h5", "model.weights.npz", "model.weights.json"}:
            raise ValueError("it holds no weights")
        config = json.loads(archive.read("config.json"))
        metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in names else None
    return _make(config, metadata)


def _read_hdf5(path: Path) -> Architecture | None:
    with importing("h5py", extra="train"):
        import h5py
    with h5py.File(path) as file:
        text = file.attrs.get("model_config")
        if text is None:
            return None
        if "model_weights" not in file:
            raise ValueError("it holds an architecture without its weights")
        versions = {"keras_version": _decode(file.attrs.get("keras_version"))}
        return _make(json.loads(_decode(text)), versions, backend=_decode(file.attrs.get("backend")))


def _decode(value: Any) -> str:
    if value is None:
        return ""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _is_of_keras3(config: dict[str, Any]) -> bool:
    """Whether a description that names no version is Keras 3's: by how it writes inputs and types."""
    text = json.dumps(config)
    return '"batch_input_shape"' not in text and ('"DTypePolicy"' in text or '"batch_shape"' in text)
