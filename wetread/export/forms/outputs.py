"""One of several outputs, by its name."""

from __future__ import annotations

from typing import Any

from wetread.errors import ExportError
from wetread.keras_backend import import_keras


def choose_output(model: Any, name: str) -> Any:
    """The network that ends in the output of that name, or of that number from 0 on.

    Raises ExportError, naming the outputs there are.
    """
    keras = import_keras()
    named = list_outputs(model)
    fitting = [tensor for known, tensor in named if known == name]
    if not fitting and name.isdecimal() and int(name) < len(named):
        fitting = [named[int(name)][1]]
    if len(fitting) != 1:
        shown = ", ".join(f"'{known}' {tuple(tensor.shape)}" for known, tensor in named)
        raise ExportError(
            f"The network has no output '{name}', but {shown or 'none'}. Name one of them, or "
            "give its number from 0 on."
        )
    return keras.Model(model.inputs, fitting[0], name=model.name)


def list_outputs(model: Any) -> list[tuple[str, Any]]:
    """Every output with the name of what makes it: its key in a dict, or its layer."""
    outputs = model.outputs if getattr(model, "outputs", None) else []
    structure = getattr(model, "_outputs_struct", None)
    if isinstance(structure, dict):
        pairs = [(key, tensor) for key, tensor in structure.items()]
        if all(hasattr(tensor, "shape") for _, tensor in pairs):
            return [(str(key), tensor) for key, tensor in pairs]
    names = [tensor._keras_history.operation.name for tensor in outputs]
    return list(zip(names, outputs, strict=True))
