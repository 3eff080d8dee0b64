"""Identify a network by a digest of its Keras configuration, without the counters in Keras' names."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

_COUNTER = re.compile(r"(_\d+)?$")
# Left out: options of the run, which are compared by name, and seeds, which Keras draws if none is given.
_LEFT_OUT = ("compile_config", "seed")


def digest_network(model: keras.Model) -> str:
    """Return the SHA-256, in hexadecimal, of a network's layers, their options and how they are joined.

    Weights are not part of it, nor are Keras' automatic names, which count all layers of the process.
    """
    described = json.loads(model.to_json())
    names: dict[str, str] = {}
    _collect_names(described, names)
    text = json.dumps(_rename(described, names), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _collect_names(value: Any, names: dict[str, str]) -> None:
    """Map each automatic name of Keras ('conv2d_7', of a Conv2D) to one by order of appearance."""
    if isinstance(value, list):
        for item in value:
            _collect_names(item, names)
    if not isinstance(value, dict):
        return
    config, kind = value.get("config"), value.get("class_name")
    name = config.get("name") if isinstance(config, dict) else None
    if isinstance(name, str) and isinstance(kind, str) and _squeeze(name).endswith(kind.lower()):
        names.setdefault(name, f"{kind} {len(names)}")
    for item in value.values():
        _collect_names(item, names)


def _squeeze(name: str) -> str:
    """Remove a name's counter and underscores: 're_lu_3' becomes 'relu'."""
    return _COUNTER.sub("", name).replace("_", "")


def _rename(value: Any, names: dict[str, str], key: str = "") -> Any:
    """Replace names of layers in a configuration; an activation 'relu' is not the name of a layer."""
    if isinstance(value, dict):
        return {k: _rename(item, names, k) for k, item in value.items() if k not in _LEFT_OUT}
    if isinstance(value, list):
        return [_rename(item, names, key) for item in value]
    named = key in ("name", "keras_history", "input_layers", "output_layers")
    return names.get(value, value) if named and isinstance(value, str) else value
