"""The layers of a network that hold weights, by the path of their names: the same in Keras 2 and 3.

'base/conv1': the layer 'conv1' in the network 'base' in the network
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from wetread.export.forms.layers2 import RebuildError, safe_name

Weights = Mapping[str, Sequence[NDArray[Any]]]


def list_leaves(network: Any, *, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every layer that is no network itself, with its path, in the network's own order."""
    for layer in network.layers:
        path = f"{above}{safe_name(layer.name)}"
        if hasattr(layer, "layers"):
            yield from list_leaves(layer, above=f"{path}/")
        else:
            yield path, layer


def set_weights(network: Any, weights: Weights) -> None:
    """Give each layer its weights. Raises RebuildError unless all layers and weights fit one another."""
    waiting = {path: list(arrays) for path, arrays in weights.items() if len(arrays)}
    for path, layer in list_leaves(network):
        arrays = waiting.pop(path, [])
        shapes = [tuple(array.shape) for array in arrays]
        wanted = [tuple(weight.shape) for weight in layer.weights]
        if [_drop_ones(shape) for shape in shapes] != [_drop_ones(shape) for shape in wanted]:
            raise RebuildError(f"the weights of layer '{path}' (shapes {shapes} where Keras 3 has {wanted})")
        if wanted:
            layer.set_weights([array.reshape(shape) for array, shape in zip(arrays, wanted, strict=True)])
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()  # Normalization computes with a copy of its weights
    if waiting:
        raise RebuildError(f"weights of '{next(iter(waiting))}', for which there is no layer")


def _drop_ones(shape: tuple[int, ...]) -> list[int]:
    """A shape without the sides of 1 that only spread what is in the others."""
    return [side for side in shape if side != 1]
