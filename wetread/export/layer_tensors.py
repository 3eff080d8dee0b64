"""Which tensor of an ONNX graph is which Keras layer's output: found by value, kept as names.

An exported file calls its tensors by the layers that make them, so that people can read it, tables can
name a layer, and `wetread parity --by-layer` can say which one departs first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from wetread.export.graph import INPUT, LOGITS, OUTPUT, add_outputs, find_outputs, open_plain, rename_tensors
from wetread.export.network import quiet

_RESERVED = (INPUT, OUTPUT, LOGITS, "shuffled", "cast", "pixels", "wide", "scaled", "offsetd")
_CLOSE = 1e-3


@dataclass(frozen=True)
class LayerOutput:
    """What one Keras layer gave: float32, (N, ...), channels last.

    A layer that runs again, or another of its name inside another network, has `:2` after its name.
    """

    name: str
    kind: str
    values: NDArray[np.float32]


def record_layers(wrapped: Any, inputs: NDArray[np.float32]) -> list[LayerOutput]:
    """Run a wrapped network on scaled images and keep what each of its layers gives, in order.

    Layers inside layers too; those with several outputs, and those that pass on what they got, are left out.
    """
    recorded: list[LayerOutput] = []
    with _watch_layers(wrapped, recorded), quiet():
        wrapped(inputs, training=False)
    return recorded


@contextlib.contextmanager
def _watch_layers(wrapped: Any, recorded: list[LayerOutput]) -> Iterator[None]:
    all_layers = wrapped._flatten_layers(include_self=False)
    watched = [layer for layer in all_layers if not getattr(layer, "layers", None)]
    for layer in watched:
        object.__setattr__(layer, "call", _recorder(layer, recorded))
    try:
        yield
    finally:
        for layer in watched:
            object.__delattr__(layer, "call")


def _recorder(layer: Any, recorded: list[LayerOutput]) -> Any:
    name, call = layer.name, layer.call

    def record(*args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        same = args and result is args[0]
        if hasattr(result, "numpy") and not same and str(result.dtype).endswith("float32'>"):
            again = sum(one.name.split(":")[0] == name for one in recorded)
            unique = f"{name}:{again + 1}" if again else name
            recorded.append(LayerOutput(unique, type(layer).__name__, result.numpy()))
        return result

    return record


def name_layers(model: onnx.ModelProto, layers: list[LayerOutput], images: NDArray[np.uint8]) -> None:
    """Name the tensors of a float32 graph by the Keras layers whose outputs they are, and the nodes alike.

    `images`: the uint8 images that the layers' outputs belong to. Names that wetread gave stay.
    """
    names = [name for name in find_outputs(model) if name not in _RESERVED]
    values = run_tensors(model, names, images)
    known: dict[str, str] = {}
    for layer in layers:
        matched = next((n for n in names if n not in known and is_same(layer.values, values[n])), None)
        if matched is not None and layer.name not in (*known.values(), *_RESERVED):
            known[matched] = layer.name
    _name_the_rest(model, known)


def _name_the_rest(model: onnx.ModelProto, known: dict[str, str]) -> None:
    """Name each node and tensor by the layer that it leads to: `conv2d/Conv` makes what `conv2d` reads."""
    names, taken = dict(known), set(known.values())
    layer = "head"
    for node in reversed(model.graph.node):
        layer = known.get(node.output[0], layer)
        exact = node.output[0] in known
        node.name = _free(
            f"{layer}/{node.op_type}" if not exact or node.op_type != "Identity" else layer, taken
        )
        for output in node.output:
            if output not in names and output not in _RESERVED:
                names[output] = node.name if len(node.output) == 1 else _free(node.name, taken)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name not in names and any(t.name == name for t in model.graph.initializer):
                names[name] = _free(f"{node.name}/{index}", taken)
    rename_tensors(model, names)


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    taken.add(found)
    return found


def run_tensors(
    model: onnx.ModelProto, names: list[str], images: NDArray[np.uint8]
) -> dict[str, NDArray[Any]]:
    """The values of named tensors inside a graph for uint8 images.

    Nothing for no names, as in a network of one layer: onnxruntime would take that for all outputs.
    """
    if not names:
        return {}
    values = open_plain(add_outputs(model, names).SerializeToString()).run(names, {INPUT: images})
    return dict(zip(names, values, strict=True))


def is_same(expected: NDArray[np.float32], found: NDArray[Any]) -> bool:
    """Whether a tensor holds a layer's output, channels last or first, within a thousandth of its size."""
    if found.dtype != np.float32 or expected.size != found.size or not expected.size:
        return False
    size = max(float(np.abs(expected).max()), 1e-6)
    aligned = align(expected, found)
    return aligned is not None and float(np.abs(aligned - expected).max()) <= _CLOSE * size


def align(expected: NDArray[Any], found: NDArray[Any]) -> NDArray[Any] | None:
    """A tensor in the layout of a layer's output; None where it has another shape.

    Where the shape fits both layouts (as many channels as rows), the one that is nearer.
    """
    fitting = [found] if found.shape == expected.shape else []
    if found.ndim == 4 and found.transpose(0, 2, 3, 1).shape == expected.shape:
        fitting.append(found.transpose(0, 2, 3, 1))
    if not fitting and expected.ndim < 4 and found.size == expected.size and len(found) == len(expected):
        fitting.append(found.reshape(expected.shape))
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    return min(fitting, key=lambda one: float(np.abs(one.astype(np.float64) - expected).sum()))
