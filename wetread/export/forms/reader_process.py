"""The process that reads what Keras 3 cannot: Keras 2's files with tf_keras, and SavedModel folders.

    python -m wetread.export.forms.reader_process FOLDER

reads FOLDER/request.json and leaves what it found beside it: description and weights with tf_keras' own
answers, or TensorFlow's graph. A process of its own, so that a broken file, Keras 2 and the owner's code stay
out of the one that goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from wetread.errors import WetreadError
from wetread.export.forms.custom import call_custom, import_custom
from wetread.export.forms.file_kinds import Kind, read_json
from wetread.export.forms.foreign_code import list_foreign
from wetread.export.forms.frozen_function import Frozen, freeze_function, list_reaching
from wetread.export.forms.weighted_layers import list_leaves

_UNKNOWN = re.compile(
    r"(?:Unknown (?:layer|activation function|object)|Could not locate (?:class|function)):? '?\"?([\w>.]+)"
)
_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
_OPEN_SIDE = 96
# Every SavedModel has them, to save and restore its weights; none may stand in what serves.
_RESTORING = ("MergeV2Checkpoints", "RestoreV2", "SaveV2")


class Refusal(Exception):  # noqa: N818 - an answer to the one who asks
    """What is wrong with a file, as a key that the asking process knows, and words."""

    def __init__(self, key: str, words: Any) -> None:
        super().__init__(str(words))
        self.key = key
        self.words = words


def main(folder: Path) -> None:
    """Answer one request."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    sys.path[:] = request["python_path"]
    try:
        result = read(request, folder)
    except Refusal as refusal:
        result = {refusal.key: refusal.words}
    except WetreadError as error:
        result = {"error": str(error)}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def read(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Read what is asked for, as layers if they are known and wanted, else as a graph."""
    kind = Kind(request["kind"])
    if kind is Kind.SAVED_MODEL and (request["graph"] or not request["layers"]):
        return write_graph(freeze_saved_model(Path(request["path"])), folder)
    keras = import_keras2()
    custom = import_custom(request["custom"]) if request["custom"] else {}
    with tempfile.TemporaryDirectory() as place:
        model = load(request, keras, custom, Path(place))
    if request["graph"]:
        return write_graph(freeze_model(model, request["size"]), folder)
    return write_layers(model, folder, request["size"])


def import_keras2() -> Any:
    """Import tf_keras, and let `import keras` and `tf.keras` in the owner's code mean it."""
    import tf_keras

    modules = {name: value for name, value in vars(tf_keras).items() if isinstance(value, ModuleType)}
    sys.modules["keras"] = tf_keras
    for name, module in modules.items():
        sys.modules[f"keras.{name}"] = module
    return tf_keras


def load(request: dict[str, Any], keras: Any, custom: dict[str, Any], place: Path) -> Any:
    """The network, by tf_keras. Raises Refusal."""
    path, kind = Path(request["path"]), Kind(request["kind"])
    _need_own_layers(path, kind, custom)
    path = _prepare(path, kind, custom, place)
    try:
        with keras.utils.custom_object_scope(custom):
            if kind is Kind.JSON:
                model = keras.models.model_from_json(json.dumps(read_json(path)), custom_objects=custom)
                _load_weights(model, Path(request["weights"]), place)
                return model
            return keras.models.load_model(path, compile=False, custom_objects=custom)
    except Refusal:
        raise
    except Exception as error:
        raise _explain(error) from error


def _explain(error: Exception) -> Refusal:
    words = " ".join(str(error).split())
    if unknown := _UNKNOWN.search(words):
        return Refusal("code", [f"'{unknown[1]}'"])
    damaged = isinstance(error, OSError | zipfile.BadZipFile) or type(error).__name__ == "DataLossError"
    return Refusal("damaged" if damaged else "error", words[:600])


def _need_own_layers(path: Path, kind: Kind, custom: dict[str, Any]) -> None:
    found = list_foreign(_read_descriptions(path, kind), known=frozenset(custom))
    if found:
        raise Refusal("code", found)


def _read_descriptions(path: Path, kind: Kind) -> Any:
    from wetread.export.forms.architecture import read_architecture

    if kind is Kind.SAVED_MODEL:
        from tf_keras.protobuf import saved_metadata_pb2

        metadata = saved_metadata_pb2.SavedMetadata()
        metadata.ParseFromString((path / "keras_metadata.pb").read_bytes())
        return [json.loads(node.metadata) for node in metadata.nodes]
    found = read_architecture(path, kind)
    return found.config if found is not None else {}


def _prepare(path: Path, kind: Kind, custom: dict[str, Any], place: Path) -> Path:
    """The file under a name that tf_keras reads it by, its Lambda layers calling the owner's functions."""
    if kind is Kind.SAVED_MODEL or (kind is Kind.JSON and not custom):
        return path
    if kind is Kind.JSON:
        config = read_json(path)
        call_custom(config, custom, function=_name_function)
        (place / "architecture.json").write_text(json.dumps(config), encoding="utf-8")
        return place / "architecture.json"
    if kind is Kind.HDF5:
        return _prepare_hdf5(path, custom, place) if custom else path
    return _prepare_zip(path, custom, place)


def _prepare_hdf5(path: Path, custom: dict[str, Any], place: Path) -> Path:
    import h5py

    copy = place / "network.h5"
    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        text = file.attrs["model_config"]
        config = json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
        call_custom(config, custom, function=_name_function)
        file.attrs["model_config"] = json.dumps(config).encode("utf-8")
    return copy


def _prepare_zip(path: Path, custom: dict[str, Any], place: Path) -> Path:
    """A .keras file whose weights lie where tf_keras looks for them: Keras 2.12 and 2.13 had another "
    "place."""
    content = place / "content"
    if path.is_dir():
        shutil.copytree(path, content)
    else:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(content)
    config = json.loads((content / "config.json").read_text(encoding="utf-8"))
    call_custom(config, custom, function=_name_function)
    (content / "config.json").write_text(json.dumps(config), encoding="utf-8")
    _move_layers(content / "model.weights.h5")
    copy = place / "network.keras"
    with zipfile.ZipFile(copy, "w") as archive:
        for file in sorted(content.rglob("*")):
            archive.write(file, file.relative_to(content).as_posix())
    return copy


def _move_layers(weights: Path) -> None:
    import h5py

    if not weights.is_file():
        return
    with h5py.File(weights, "r+") as file:
        groups: list[str] = []
        file.visit(
            lambda name: groups.append(name) if name.endswith("_layer_checkpoint_dependencies") else None
        )
        for name in sorted(groups, key=len, reverse=True):
            above = name.rpartition("/")[0]
            target = f"{above}/layers".lstrip("/")
            if target in file:
                del file[target]
            file.move(name, target)


def _name_function(name: str) -> dict[str, Any]:
    """That a Lambda layer calls the function of a name, as Keras 2 writes it."""
    return {"function": name, "function_type": "function", "module": None}


def _load_weights(model: Any, weights: Path, place: Path) -> None:
    """Load weights of any form: by HDF5's content, or a TensorFlow checkpoint."""
    import h5py

    if not h5py.is_hdf5(weights):
        prefix = str(weights).removesuffix(".index")
        model.load_weights(re.sub(r"\.data-\d+-of-\d+$", "", prefix)).assert_existing_objects_matched()
        return
    with h5py.File(weights) as file:
        legacy = "layer_names" in file.attrs or "model_weights" in file
    copy = place / ("network.h5" if legacy else "network.weights.h5")
    shutil.copyfile(weights, copy)
    if not legacy:
        _move_layers(copy)
    model.load_weights(str(copy))


def write_layers(model: Any, folder: Path, size: list[int] | None) -> dict[str, Any]:
    """Leave a network's description, its weights, and its answers to drawn images."""
    leaves = [(path, layer.get_weights()) for path, layer in list_leaves(model)]
    arrays = {f"{i}/{j}": array for i, (_, ws) in enumerate(leaves) for j, array in enumerate(ws)}
    np.savez(folder / "weights.npz", **arrays)
    probes, answers = _ask(model, size)
    np.savez(folder / "answers.npz", **{f"{i}": a for i, a in enumerate(answers)}, probes=probes)
    (folder / "config.json").write_text(model.to_json(), encoding="utf-8")
    return {"leaves": [[path, len(ws)] for path, ws in leaves], "answers": len(answers)}


def _ask(model: Any, size: list[int] | None) -> tuple[Any, list[Any]]:
    """A network's answers to noise in three ranges, float32 (6, H, W, C): one of them is near what it "
    "knows."""
    import tensorflow

    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[3] is None:
        return np.empty(0, np.float32), []
    sides = [
        given or asked for given, asked in zip(inputs[0].shape[1:3], size or [_OPEN_SIDE] * 2, strict=True)
    ]
    random = np.random.default_rng(0)
    shape = (2, *sides, inputs[0].shape[3])
    probes = np.concatenate([random.uniform(*ends, shape) for ends in _RANGES]).astype(np.float32)
    packed = tensorflow.nest.pack_sequence_as(model.input, [tensorflow.constant(probes)])
    return probes, [np.asarray(one) for one in tensorflow.nest.flatten(model(packed, training=False))]


def freeze_model(model: Any, size: list[int] | None) -> Frozen:
    """A network that tf_keras holds as a graph."""
    import tensorflow

    if len(getattr(model, "inputs", None) or []) != 1:
        raise Refusal("error", "it does not take one image")
    spec = tensorflow.TensorSpec([None, *model.inputs[0].shape[1:]], tensorflow.float32)

    def infer(image: Any) -> Any:
        packed = tensorflow.nest.pack_sequence_as(model.input, [image])
        return tensorflow.nest.flatten(model(packed, training=False))

    names = list(model.output_names)
    return _freeze(tensorflow.function(infer, input_signature=[spec]).get_concrete_function(), names)


def freeze_saved_model(path: Path) -> Frozen:
    """A SavedModel's serving function as a graph. None of its author's Python runs."""
    import tensorflow

    _check_operations(path)
    try:
        loaded = tensorflow.saved_model.load(str(path))
    except Exception as error:
        raise Refusal("damaged", " ".join(str(error).split())[:400]) from error
    names = [name for name in ("serving_default", "serve") if name in loaded.signatures] or list(
        loaded.signatures
    )
    if not names:
        raise Refusal("error", "it has no function to serve: save it with model.export(folder)")
    function = loaded.signatures[names[0]]
    outputs = sorted(function.structured_outputs)
    return _freeze(function, outputs)


def _check_operations(path: Path) -> None:
    """Before anything of it is loaded: does any function of it reach outside, but to restore its weights?"""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception as error:
        raise Refusal("damaged", f"its saved_model.pb cannot be read ({error})") from error
    for graph in saved.meta_graphs:
        nodes = [*graph.graph_def.node, *(n for f in graph.graph_def.library.function for n in f.node_def)]
        reaching = [name for name in list_reaching(nodes) if name not in _RESTORING]
        if reaching:
            raise Refusal("error", f"its graph uses {', '.join(reaching)}, which reaches outside of it")


def _freeze(function: Any, names: list[str]) -> Frozen:
    try:
        return freeze_function(function, names)
    except ValueError as error:
        raise Refusal("error", str(error)) from error


def write_graph(frozen: Frozen, folder: Path) -> dict[str, Any]:
    """Leave a graph."""
    (folder / "graph.pb").write_bytes(frozen.graph)
    rest = asdict(frozen)
    return {"graph": {key: rest[key] for key in ("input", "outputs", "shape")}}


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Keep TensorFlow's lines to itself: what matters is in the result."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


if __name__ == "__main__":
    with hushed():
        main(Path(sys.argv[1]))
