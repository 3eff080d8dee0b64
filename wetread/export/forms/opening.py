"""Open a Keras network in whatever form its owner has it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from wetread.errors import ExportError
from wetread.export.forms import keras2, keras3
from wetread.export.forms.architecture import read_architecture
from wetread.export.forms.file_kinds import Kind, find_network
from wetread.export.forms.foreign_code import need_own_layers
from wetread.export.forms.network_files import NetworkSource, make_source
from wetread.export.forms.opened_network import Opened
from wetread.export.forms.outputs import choose_output


def open_network(
    source: str | os.PathLike[str] | NetworkSource, *, size: tuple[int, int] | None = None
) -> Opened:
    """Open a network: a .keras or HDF5 file of Keras 2 or 3, a SavedModel, or JSON with weights.

    `size`: (height, width) where the network leaves them open. Raises ExportError for what is not there,
    damaged, of another kind, or needs code that was not given; MissingExtraError where it needs tf_keras;
    ConfigError for a module that cannot be imported.
    """
    source = make_source(source)
    path, kind = find_network(source.path)
    opened = _open(path, kind, source, size)
    if source.output_name is not None:
        model = choose_output(opened.model, source.output_name)
        return Opened(model=model, notes=opened.notes, is_graph=opened.is_graph)
    return opened


def _open(path: Path, kind: Kind, source: NetworkSource, size: tuple[int, int] | None) -> Opened:
    if source.weights is not None and kind is not Kind.JSON:
        raise ExportError(f"--weights belongs to an architecture in JSON; {path} is {kind.value}.")
    if kind is Kind.SAVED_MODEL:
        return _open_saved_model(path, source, size)
    architecture = read_architecture(path, kind)
    if architecture is None:
        raise ExportError(
            f"{path} holds weights alone. Give the architecture, "
            f"model.to_json() of the same network, with --keras, and this file with --weights."
        )
    if kind is Kind.JSON:
        _need_weights(path, source)
    if architecture.major < 2:
        raise ExportError(
            f"{path} was written by Keras {architecture.version}; Keras 2 and 3 are read. Load it in a "
            "Keras of 2.0 to 2.3 and save it again."
        )
    if architecture.major >= 3:
        return keras3.open_keras3(path, kind, source, architecture=architecture)
    if source.custom is None:
        need_own_layers(path, architecture.config)
    return keras2.open_keras2(path, kind, source, architecture=architecture, size=size)


def _need_weights(path: Path, source: NetworkSource) -> None:
    if source.weights is None:
        beside = sorted(
            file.name for file in path.parent.iterdir() if file.suffix in (".h5", ".hdf5", ".index")
        )
        seen = f" Beside it stands {', '.join(beside[:3])}." if beside else ""
        raise ExportError(f"{path} holds an architecture without weights.{seen} Give them with --weights.")
    weights = Path(source.weights)
    if not weights.exists() and not weights.with_name(f"{weights.name}.index").exists():
        raise ExportError(f"--weights {weights} does not exist.")


def _open_saved_model(path: Path, source: NetworkSource, size: tuple[int, int] | None) -> Opened:
    """By its layers, where Keras 2 wrote them and tf_keras is there; else TensorFlow's graph of it."""
    reason = "the folder holds no keras_metadata.pb, which describes them"
    if (path / "keras_metadata.pb").is_file():
        reason = "that needs tf_keras: pip install 'wetread[keras2]'"
        if keras2.has_tf_keras():
            try:
                return keras2.open_with_tf_keras(path, Kind.SAVED_MODEL, source, size=size)
            except ExportError as error:
                reason = str(error)
    with tempfile.TemporaryDirectory(prefix="wetread-") as place:
        request = {"path": path, "kind": Kind.SAVED_MODEL, "weights": None, "custom": None, "size": size}
        found = keras2.ask_reader(Path(place), request, graph=True, layers=False)
        opened = keras2.read_graph(Path(place), found)
    note = f"Converted as TensorFlow's graph, not layer by layer: {reason.rstrip('.')}."
    return Opened(model=opened.model, notes=(note,), is_graph=True)
