"""Whether a Keras network takes pixels from 0 to 255 as they are, because it scales them itself.

A guess would be silently wrong, so only what stands between the pixels and everything with weights counts:
a Rescaling further back, as residual branches have them, says nothing of the pixels.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np

_SCALING = ("Rescaling", "Normalization")
# A mean or a deviation above it pixels from 0 to 255 have, and pixels from 0 to 1 cannot.
_BEYOND_ONE = 2.0


def find_doubt(model: Any) -> str | None:
    """Say why it cannot be told that a network scales pixels itself; None where it does, on every way in."""
    if not any(type(layer).__name__ in _SCALING for layer in model._flatten_layers()):
        return "the network has no Rescaling or Normalization layer"
    return next(filter(None, map(_doubt, _meet(model))), None)


def _doubt(layer: Any) -> str | None:
    """Why a layer, the first that the pixels meet, is none that scales what is from 0 to 255."""
    kind = type(layer).__name__
    if kind == "Rescaling":
        largest = float(np.abs(np.asarray(layer.scale, np.float64)).max())
        if largest <= 1:
            return None
        return f"layer '{layer.name}' multiplies by {largest:g}, as if pixels were from 0 to 1"
    if kind == "Normalization":
        return _doubt_statistics(layer)
    return f"layer '{layer.name}' ({kind}) reads the pixels before any Rescaling or Normalization layer"


def _doubt_statistics(layer: Any) -> str | None:
    """Why a Normalization is none of pixels from 0 to 255, by its statistics: from 0 to 1 none is above 1."""
    if layer.mean is None or layer.invert:
        return f"layer '{layer.name}' (Normalization) takes no mean of pixels off"
    mean = float(np.abs(np.asarray(layer.mean, np.float64)).max())
    deviation = float(np.sqrt(np.asarray(layer.variance, np.float64)).max())
    if max(mean, deviation) > _BEYOND_ONE:
        return None
    return f"layer '{layer.name}' (Normalization) takes a mean of {mean:g} off, as if pixels were from 0 to 1"


def _meet(operation: Any) -> Generator[Any, None, bool]:
    """Yield the layers, with weights or of those that scale, that pixels meet first on each way in.

    Returns whether what comes out is pixels still: there is a way through that meets none.
    """
    if type(operation).__name__ in _SCALING:
        yield operation
        return False
    if hasattr(operation, "_nodes_by_depth"):
        return (yield from _meet_in_graph(operation))
    if layers := getattr(operation, "layers", None):  # one after the other: Sequential, Pipeline
        for layer in layers:
            if not (yield from _meet(layer)):
                return False
        return True
    if getattr(operation, "weights", None):
        yield operation
        return False
    return True


def _meet_in_graph(model: Any) -> Generator[Any, None, bool]:
    """The same for a functional network, node by node from its inputs on."""
    pixels = {id(tensor) for tensor in model.inputs}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if pixels.isdisjoint(map(id, node.input_tensors)):
                continue
            if (yield from _meet(node.operation)):
                pixels.update(map(id, node.output_tensors))
    return not pixels.isdisjoint(map(id, model.outputs))
