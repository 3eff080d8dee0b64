"""What a file is, by its first bytes and what it holds: its name is not believed.

What is no Keras network is called what it is, with what to do about it.
"""

from __future__ import annotations

import json
import os
import zipfile
from enum import StrEnum
from pathlib import Path

from wetread.errors import ExportError


class Kind(StrEnum):
    """The forms of a Keras network that can be opened, in words that a message may use."""

    KERAS = "a .keras file"
    UNPACKED = "an unpacked .keras file"
    HDF5 = "an HDF5 file (.h5)"
    SAVED_MODEL = "a SavedModel folder"
    JSON = "an architecture in JSON"


HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# A folder with one of these is a network itself: a SavedModel, an unpacked .keras file, Teachable Machine's.
NETWORK_FILES = ("saved_model.pb", "saved_model.pbtxt", "model.weights.h5", "keras_model.h5")
# HDF5 allows a block of the user's own before it, of 512 bytes or that doubled and doubled again.
_HDF5_OFFSETS = (0, 512, 1024, 2048, 4096)
_SAVE = "Load it where it was made and save it with model.save('x.keras')."
_LARGE_JSON = 256 << 20
# First bytes of what people hand over instead, and what it is. The first that fits counts.
_STRANGERS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"),
    (b"\x80\x02", "a pickle, which runs code when it is opened, and is not opened. " + _SAVE),
    (b"\x80\x03", "a pickle, which runs code when it is opened, and is not opened. " + _SAVE),
    (b"\x80\x04", "a pickle, which runs code when it is opened, and is not opened. " + _SAVE),
    (b"\x80\x05", "a pickle, which runs code when it is opened, and is not opened. " + _SAVE),
    (b"\x1f\x8b", "an archive (gzip): unpack it and give what is inside"),
    (b"7z\xbc\xaf", "an archive (7z): unpack it and give what is inside"),
    (b"Rar!", "an archive (RAR): unpack it and give what is inside"),
    (b"BZh", "an archive (bzip2): unpack it and give what is inside"),
    (b"\xfd7zXZ", "an archive (xz): unpack it and give what is inside"),
    (b"\x93NUMPY", "an array of numpy, not a network. " + _SAVE),
    (b"<!DOCTYPE", "a web page, not the file itself: download it again"),
    (b"<!doctype", "a web page, not the file itself: download it again"),
    (b"<html", "a web page, not the file itself: download it again"),
)
_TFLITE = "a TensorFlow Lite file, whose layers cannot be had back. Give the Keras file that it was made of."
_YAML = "an architecture in YAML, which Keras no longer reads. Save it as JSON, with model.to_json()."
_CHECKPOINT = "a TensorFlow checkpoint, which is weights alone"


def find_network(path: str | os.PathLike[str]) -> tuple[Path, Kind]:
    """Tell the form of a network and where it begins: a folder may hold it in one file.

    Raises ExportError for what is not there, empty, damaged, or no Keras network.
    """
    path = Path(path)
    if not path.exists():
        raise ExportError(f"{path} does not exist. Name a Keras network.")
    if path.is_dir():
        return _look_into_folder(path)
    if path.name in ("saved_model.pb", "keras_metadata.pb"):
        return _look_into_folder(path.parent)
    try:
        with path.open("rb") as file:
            head = file.read(4096 + len(HDF5_SIGNATURE))
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}.") from error
    if not size:
        raise ExportError(f"{path} is empty. Name a Keras network.")
    return path, _tell_file(path, head)


def _look_into_folder(folder: Path) -> tuple[Path, Kind]:
    names = {file.name for file in folder.iterdir()}
    if names & {"saved_model.pb", "saved_model.pbtxt"}:
        return folder, Kind.SAVED_MODEL
    if {"config.json", "model.weights.h5"} <= names:
        return folder, Kind.UNPACKED
    for name in ("model.keras", "keras_model.h5"):  # a RUN's own, and Teachable Machine's
        if name in names:
            return find_network(folder / name)
    if names & {"variables", "keras_metadata.pb", "fingerprint.pb"}:
        raise ExportError(
            f"{folder} is damaged: it is a SavedModel folder without its saved_model.pb. Copy all of it "
            f"again."
        )
    shown = ", ".join(sorted(names)[:5]) or "nothing"
    raise ExportError(f"{folder} is a folder, but not a SavedModel: it holds {shown}. Name the file in it.")


def _tell_file(path: Path, head: bytes) -> Kind:
    if any(head[at:].startswith(HDF5_SIGNATURE) for at in _HDF5_OFFSETS):
        return Kind.HDF5
    if head.startswith(b"PK\x03\x04"):
        return _tell_zip(path)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for beginning, words in _STRANGERS:
        if text.startswith(beginning):
            raise _refuse(path, words)
    if text.startswith((b"{", b'"{', b"[")):
        return _tell_json(path)
    if head[4:8] == b"TFL3":
        raise _refuse(path, _TFLITE)
    if b"class_name:" in head and b"config:" in head:
        raise _refuse(path, _YAML)
    raise _refuse_unknown(path, head)


def _refuse(path: Path, words: str) -> ExportError:
    return ExportError(f"{path} is not a Keras network: it is {words.rstrip('.')}.")


def _refuse_unknown(path: Path, head: bytes) -> ExportError:
    if path.suffix in (".onnx", ".tflite", ".pb", ".pt", ".pth", ".bin"):
        return _refuse(path, f"a file of another kind ({path.suffix}). {_SAVE}")
    if path.suffix == ".index" or ".data-0" in path.name or path.name == "checkpoint":
        return _refuse(path, f"{_CHECKPOINT}: give the architecture (model.to_json()), and it as --weights")
    if path.suffix in (".h5", ".hdf5", ".keras"):
        return ExportError(
            f"{path} is damaged: it begins with {head[:8]!r}, as neither HDF5 nor a .keras file does. "
            f"Copy or "
            "download it again."
        )
    return _refuse(path, f"of no kind that Keras writes (it begins with {head[:8]!r}). {_SAVE}")


def _tell_zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ExportError(
            f"{path} is damaged: it begins as a .keras file and is cut off or changed ({error}). Copy or "
            "download it again."
        ) from error
    if "config.json" in names:
        return Kind.KERAS
    if any(name.endswith("data.pkl") for name in names):
        raise _refuse(path, "a PyTorch file: wetread exports Keras networks")
    inside = [n for n in names if n.rpartition("/")[2] in ("keras_model.h5", "saved_model.pb", "model.keras")]
    shown = f"with {inside[0]} in it" if inside else "that holds no config.json, as a .keras file does"
    raise _refuse(path, f"an archive (zip) {shown}: unpack it and give what is inside")


def _tell_json(path: Path) -> Kind:
    try:
        content = read_json(path)
    except ValueError as error:
        raise ExportError(
            f"{path} is damaged: it begins as JSON and is not ({error}). Copy or download it again."
        ) from error
    if isinstance(content, dict) and "class_name" in content and "config" in content:
        return Kind.JSON
    if isinstance(content, dict) and ("modelTopology" in content or "weightsManifest" in content):
        raise _refuse(path, "a network for TensorFlow.js. Give the Keras file that it was made of")
    raise _refuse(path, "JSON that describes no network. Save an architecture with model.to_json()")


def read_json(path: Path) -> object:
    """What a JSON file says; a text that holds JSON, as `json.dump(model.to_json())` leaves it, too.

    Raises ValueError for what is no JSON.
    """
    if path.stat().st_size > _LARGE_JSON:
        raise ValueError("it is larger than any architecture")
    content = json.loads(path.read_bytes().decode("utf-8-sig"))
    return json.loads(content) if isinstance(content, str) else content
