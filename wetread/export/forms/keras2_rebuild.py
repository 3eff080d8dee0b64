"""A network of Keras 2, from its description, built of Keras 3's layers. It has no weights yet.

    {"class_name": "Sequential", "config": {"layers": [...]}}  ->  keras.Sequential

Networks inside networks, shared layers, and calls of TensorFlow's functions are built as they were called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wetread.export.forms.layers2 import RebuildError, make_steps, safe_name
from wetread.export.forms.operations2 import make_function
from wetread.keras_backend import import_keras

NETWORKS = ("Functional", "Model", "Sequential")
_CALLS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")
_CONSTANT = "_CONSTANT_VALUE"


def rebuild_network(description: Mapping[str, Any]) -> Any:
    """Build a network of Keras 3 from the description of one of Keras 2.

    Raises RebuildError, saying what Keras 3's layers do not say.
    """
    kind, config = description["class_name"], description["config"]
    if kind == "Sequential":
        return _build_sequential(config)
    if kind in NETWORKS and isinstance(config, dict) and "output_layers" in config:
        return _Graph(config).build()
    raise RebuildError(f"a network of the class '{kind}'")


def list_entries(description: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A network's description and those of all layers in it, inner networks' too."""
    inner = description.get("config")
    entries = inner if isinstance(inner, list) else (inner or {}).get("layers", [])
    return [description, *(one for entry in entries for one in list_entries(entry))]


def _build_sequential(config: Any) -> Any:
    keras = import_keras()
    entries = config if isinstance(config, list) else config["layers"]  # a list alone before Keras 2.2.3
    name = None if isinstance(config, list) else safe_name(config.get("name"))
    steps: list[Any] = []
    shape = _find_shape(entries, config)
    for entry in entries:
        if entry["class_name"] != "InputLayer":
            steps += _make_entry(entry)
    if shape is not None:
        image = keras.Input(shape)
        return keras.Model(image, _run_steps(steps, image), name=name)
    if all(isinstance(step, keras.Layer) for step in steps):
        return keras.Sequential(steps, name=name)
    raise RebuildError(f"the network '{name}', which does not say what it takes")


def _find_shape(entries: list[dict[str, Any]], config: Any) -> tuple[int | None, ...] | None:
    """The shape of one input of a Sequential network, where its description says it."""
    while entries and isinstance(entries[0]["config"], dict):
        inner = entries[0]["config"]
        shape = inner.get("batch_input_shape") or inner.get("batch_shape")
        if shape:
            return tuple(shape[1:])
        if "layers" not in inner:
            break
        entries = inner["layers"]
    shape = config.get("build_input_shape") if isinstance(config, dict) else None
    return tuple(shape[1:]) if shape and len(shape) > 1 else None


def _run_steps(steps: list[Any], inputs: Any, **options: Any) -> Any:
    """Call one step after the other; the first gets the options of the call."""
    result = steps[0](inputs, **options) if steps else inputs
    for step in steps[1:]:
        result = step(result)
    return result


def _make_entry(entry: Mapping[str, Any]) -> list[Any]:
    """What one entry of a description does, in steps."""
    kind, config = entry["class_name"], entry["config"]
    if kind in NETWORKS:
        return [rebuild_network(entry)]
    if kind in _CALLS:
        return [make_function(kind, config)]
    return make_steps(kind, config)


class _Graph:
    """A functional network: its layers are called when all that they read is there."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._entries = {entry["name"]: entry for entry in config["layers"]}
        self._steps: dict[str, list[Any]] = {}
        self._made: dict[tuple[str, int], Any] = {}
        self._first = self._find_first_calls()

    def build(self) -> Any:
        keras = import_keras()
        waiting = [
            (name, index, node)
            for name, entry in self._entries.items()
            for index, node in enumerate(self._list_calls(entry))
        ]
        while waiting:
            left = [one for one in waiting if not self._call(*one)]
            if len(left) == len(waiting):
                raise RebuildError(f"layers that wait for one another, '{left[0][0]}' first")
            waiting = left
        inputs = self._map_ends(self._config["input_layers"])
        outputs = self._map_ends(self._config["output_layers"])
        return keras.Model(inputs, outputs, name=safe_name(self._config.get("name")))

    def _list_calls(self, entry: Mapping[str, Any]) -> list[Any]:
        return [None] if entry["class_name"] == "InputLayer" else list(entry["inbound_nodes"])

    def _call(self, name: str, index: int, node: Any) -> bool:
        """Make one call of a layer; False where what it reads is not there yet."""
        entry = self._entries[name]
        if node is None:
            self._made[name, 0] = self._make_input(entry)
            return True
        options: dict[str, Any] = {}
        try:
            values = self._read(node, options)
            options = {key: self._read_option(value) for key, value in options.items()}
        except KeyError:
            return False
        if name not in self._steps:
            self._steps[name] = _make_entry(entry)
        if isinstance(values, list) and len(values) == 1:
            values = values[0]
        self._made[name, index] = _run_steps(self._steps[name], values, **self._drop_idle(entry, options))
        return True

    def _make_input(self, entry: Mapping[str, Any]) -> Any:
        config = entry["config"]
        shape = config.get("batch_input_shape") or config.get("batch_shape")
        return import_keras().Input(tuple(shape[1:]), name=safe_name(entry["name"]))

    def _drop_idle(self, entry: Mapping[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        """Leave out what a call says of training: the network is wrapped for inference later."""
        if entry["class_name"] in _CALLS:
            return options
        return {k: v for k, v in options.items() if k != "training" and not (k == "mask" and v is None)}

    def _read(self, node: Any, options: dict[str, Any]) -> Any:
        """The tensors that a call takes, in the structure in which they are written. Raises KeyError."""
        if isinstance(node, dict):
            return {key: self._read(value, options) for key, value in node.items()}
        if self._is_reference(node):
            options.update(node[3] if len(node) > 3 else {})
            return node[2] if node[0] == _CONSTANT else self._tensor(node)
        return [self._read(one, options) for one in node]

    def _read_option(self, value: Any) -> Any:
        if self._is_reference(value):
            return value[2] if value[0] == _CONSTANT else self._tensor(value)
        return [self._read_option(one) for one in value] if isinstance(value, list) else value

    def _is_reference(self, value: Any) -> bool:
        known = isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str)
        return known and (value[0] == _CONSTANT or (value[0] in self._entries and isinstance(value[1], int)))

    def _tensor(self, reference: list[Any]) -> Any:
        name, node, place = reference[:3]
        made = self._made[name, node - self._first.get(name, 0)]
        if isinstance(made, list | tuple):
            return made[place]
        return list(made.values())[place] if isinstance(made, dict) else made

    def _find_first_calls(self) -> dict[str, int]:
        """The number of each inner network's first call: files may count from 1, as it had one inside."""
        ends = [[entry["inbound_nodes"] for entry in self._entries.values()], self._config["output_layers"]]
        last: dict[str, int] = {}
        for name, number, *_ in self._list_references(ends):
            last[name] = max(number, last.get(name, 0))
        return {
            name: max(0, number + 1 - len(self._entries[name]["inbound_nodes"]))
            for name, number in last.items()
            if self._entries[name]["class_name"] in NETWORKS
        }

    def _list_references(self, value: Any) -> Iterator[list[Any]]:
        """Every tensor that is named anywhere in calls, the options of a call too."""
        if self._is_reference(value):
            if value[0] != _CONSTANT:
                yield value
            value = value[3:]
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from self._list_references(part)

    def _map_ends(self, ends: Any) -> Any:
        """Inputs or outputs in the structure in which they are written; one in a list is one alone."""
        if isinstance(ends, dict):
            return {key: self._map_ends(value) for key, value in ends.items()}
        if self._is_reference(ends):
            return self._tensor(ends)
        found = [self._map_ends(one) for one in ends]
        return found[0] if len(found) == 1 else found
