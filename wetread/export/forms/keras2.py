"""Keras 2's files: read by tf_keras in a process of its own, rebuilt of Keras 3's layers, and compared.

Where tf_keras is not installed, HDF5 files of layers that both compute alike are rebuilt from the file alone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ExportError, MissingExtraError
from wetread.export import network
from wetread.export.forms import keras2_rebuild, layers2
from wetread.export.forms.architecture import Architecture, describe_damage
from wetread.export.forms.file_kinds import HDF5_SIGNATURE, Kind
from wetread.export.forms.foreign_code import find_name, refuse_code
from wetread.export.forms.frozen_function import Frozen
from wetread.export.forms.graph import make_network
from wetread.export.forms.keras2_rebuild import list_entries
from wetread.export.forms.layers2 import RebuildError
from wetread.export.forms.network_files import NetworkSource
from wetread.export.forms.opened_network import Opened
from wetread.export.forms.weighted_layers import set_weights
from wetread.export.forms.weights2 import read_weights
from wetread.keras_backend import import_keras

TOLERANCE = 1e-4  # of the largest answer, or of 1 where all are smaller
_ALIKE = (
    layers2.SAME
    | layers2.SPECIAL
    | frozenset(keras2_rebuild.NETWORKS)
    | frozenset({"InputLayer", "TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"})
)

# Layers of Keras 2 that Keras 3 has not, and that tf_keras reads.
_ELSEWHERE = frozenset(
    {"CuDNNGRU", "CuDNNLSTM", "DenseFeatures", "LocallyConnected1D", "LocallyConnected2D"}
    | {"BatchNormalizationV1", "BatchNormalizationV2", "LayerNormalizationV1"}
)


def has_tf_keras() -> bool:
    """Whether the extra `keras2` is installed."""
    return importlib.util.find_spec("tf_keras") is not None


def open_keras2(
    path: Path,
    kind: Kind,
    source: NetworkSource,
    *,
    architecture: Architecture,
    size: tuple[int, int] | None,
) -> Opened:
    """Open a file of Keras 2. Raises ExportError, and MissingExtraError where it needs tf_keras."""
    if source.custom is None and (unknown := _list_unknown(architecture.config)):
        raise refuse_code(path, unknown)
    if has_tf_keras():
        return open_with_tf_keras(path, kind, source, size=size)
    hdf5 = path if kind is Kind.HDF5 else Path(source.weights or path)
    kinds = {str(entry["class_name"]) for entry in list_entries(architecture.config)}
    if source.custom or not _starts_hdf5(hdf5) or architecture.backend != "tensorflow" or kinds - _ALIKE:
        raise MissingExtraError("tf_keras", extra="keras2")
    try:
        model = keras2_rebuild.rebuild_network(architecture.config)
        set_weights(model, read_weights(hdf5, model))
    except (RebuildError, ValueError, TypeError, KeyError) as error:
        raise MissingExtraError("tf_keras", extra="keras2") from error
    note = (
        f"Written by Keras {architecture.version or '2'}, rebuilt of Keras 3's layers, and not compared with "
        "Keras 2: for that, pip install 'wetread[keras2]'."
    )
    return Opened(model=model, notes=(note,))


def _list_unknown(config: dict[str, Any]) -> list[str]:
    """The layers of a description that are neither Keras 2's nor Keras 3's, in words."""
    layers = import_keras().layers
    return [
        f"the layer '{find_name(entry)}' ({kind})"
        for entry in list_entries(config)
        if (kind := str(entry["class_name"])) not in _ALIKE | _ELSEWHERE and not hasattr(layers, kind)
    ]


def _starts_hdf5(path: Path) -> bool:
    if not path.is_file():
        return False  # the beginning of a checkpoint's names
    with path.open("rb") as file:
        return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE


def open_with_tf_keras(
    path: Path, kind: Kind, source: NetworkSource, *, size: tuple[int, int] | None
) -> Opened:
    """Read a file, or a SavedModel of Keras 2, with tf_keras, and rebuild it; else take its graph."""
    request = {"path": path, "kind": kind, "weights": source.weights, "custom": source.custom, "size": size}
    with tempfile.TemporaryDirectory(prefix="wetread-") as place:
        folder = Path(place)
        try:
            found = ask_reader(folder, request, graph=False)
            return _rebuild(folder, found, custom=source.custom)
        except RebuildError as error:
            reason = str(error)
        opened = read_graph(folder, ask_reader(folder, request, graph=True))
    note = f"Converted as TensorFlow's graph, not layer by layer: Keras 3's layers do not say {reason}."
    return Opened(model=opened.model, notes=(*_say_custom(source.custom), note), is_graph=True)


def _say_custom(custom: str | None) -> tuple[str, ...]:
    return () if custom is None else (f"The code of {custom} was run: the network needs it.",)


def ask_reader(folder: Path, request: dict[str, Any], *, graph: bool, layers: bool = True) -> dict[str, Any]:
    """Let the reading process answer a request, beside which it leaves what it found. Raises ExportError."""
    words = {key: os.fspath(value) if isinstance(value, Path) else value for key, value in request.items()}
    for name in ("path", "weights"):
        words[name] = None if words[name] is None else os.path.abspath(words[name])
    words |= {"graph": graph, "layers": layers, "python_path": [os.getcwd(), *sys.path]}
    (folder / "request.json").write_text(json.dumps(words), encoding="utf-8")
    (folder / "result.json").unlink(missing_ok=True)
    package = str(Path(__file__).parents[3])
    environment = os.environ | {
        "TF_USE_LEGACY_KERAS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "wetread.export.forms.reader_process", str(folder)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    result = folder / "result.json"
    if not result.is_file():
        last = " ".join((done.stderr.strip().splitlines() or ["nothing"])[-1].split())[:300]
        raise ExportError(
            f"{request['path']} cannot be read: the process that read it ended with code "
            f"{done.returncode} and said {last!r}. The file may be damaged; or there is too little memory."
        )
    return _check(json.loads(result.read_text(encoding="utf-8")), Path(request["path"]))


def _check(result: dict[str, Any], path: Path) -> dict[str, Any]:
    if "code" in result:
        raise refuse_code(path, result["code"])
    if "damaged" in result:
        raise describe_damage(path, result["damaged"])
    if "error" in result:
        words = result["error"].rstrip(".")
        raise ExportError(f"{path}: Keras 2 cannot read the network: {words}.")
    return result


def _rebuild(folder: Path, found: dict[str, Any], *, custom: str | None) -> Opened:
    """Build what the reading process described, and compare it with tf_keras. Raises RebuildError."""
    description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    try:
        model = keras2_rebuild.rebuild_network(description)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise RebuildError(f"what it calls ({' '.join(str(error).split())[:200]})") from error
    network.network_shape(model)
    with np.load(folder / "weights.npz") as arrays:
        weights = {
            path: [arrays[f"{index}/{place}"] for place in range(count)]
            for index, (path, count) in enumerate(found["leaves"])
        }
    set_weights(model, weights)
    with np.load(folder / "answers.npz") as arrays:
        answers = [arrays[str(index)] for index in range(found["answers"])]
        difference = _compare(model, arrays["probes"], answers)
    version = description.get("keras_version") or "2"
    note = (
        f"Read with tf_keras {version} and rebuilt of Keras 3's layers. On {len(answers[0])} drawn images "
        f"their answers differ by at most {difference:.1e}."
    )
    return Opened(model=model, notes=(*_say_custom(custom), note))


def _compare(model: Any, probes: NDArray[np.float32], answers: list[NDArray[Any]]) -> float:
    """The largest difference from tf_keras' answers, beside their size. Raises RebuildError above 1e-4."""
    keras = import_keras()
    packed = keras.tree.map_structure(lambda _: probes, model.input)
    with network.quiet():
        found = [np.asarray(one) for one in keras.tree.flatten(model(packed, training=False))]
    if [one.shape for one in found] != [one.shape for one in answers]:
        raise RebuildError("its outputs")
    if not answers:
        raise RebuildError("how many channels it takes")
    size = max(1.0, *(float(np.abs(one).max()) for one in answers))
    difference = max(float(np.abs(a - b).max()) for a, b in zip(found, answers, strict=True)) / size
    if not difference <= TOLERANCE:
        raise RebuildError(f"what it computes (rebuilt, it is off by {difference:.2g})")
    return difference


def read_graph(folder: Path, found: dict[str, Any]) -> Opened:
    """The graph that the reading process left, as a network."""
    parts = found["graph"]
    frozen = Frozen(
        (folder / "graph.pb").read_bytes(), parts["input"], parts["outputs"], tuple(parts["shape"])
    )
    return Opened(model=make_network(frozen), notes=(), is_graph=True)
