"""The weights of Keras 2's HDF5 files by the names of their layers, without tf_keras."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from wetread.export.forms.layers2 import RebuildError, safe_name
from wetread.export.forms.weighted_layers import list_leaves

Arrays = dict[str, list[NDArray[Any]]]


def read_weights(path: Path, network: Any) -> Arrays:
    """Every layer's weights by its path in `network`, in the order of the file.

    The weights of a network inside another lie in one group, trainable ones first: there the names of the
    weights tell the layer. Raises RebuildError where they do not.
    """
    import h5py

    leaves = [leaf for leaf, layer in list_leaves(network) if layer.weights]
    found: Arrays = {}
    with h5py.File(path) as file:
        root = file.get("model_weights", file)
        if "layer_names" not in root.attrs:
            raise RebuildError("weights in the form of newer files")
        for name in _texts(root.attrs["layer_names"]):
            for leaf, array in _read_group(root[name], safe_name(name), leaves):
                found.setdefault(leaf, []).append(array)
    return found


def _read_group(group: Any, above: str, leaves: list[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    inside = [leaf for leaf in leaves if leaf == above or leaf.startswith(f"{above}/")]
    for name in _texts(group.attrs.get("weight_names", [])):
        array = group[name][()]
        if above in inside:
            yield above, array
            continue
        parts = name.split("/")
        fitting = [leaf for leaf in inside if leaf.rpartition("/")[2] in parts]
        if len(fitting) != 1:
            raise RebuildError(f"weights '{name}' in '{above}', whose layer their name does not tell")
        yield fitting[0], array


def _texts(values: Any) -> list[str]:
    return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]
