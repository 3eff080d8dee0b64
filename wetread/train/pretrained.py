"""Load weights that were trained before: Keras' published files, .keras files, and runs of wetread.

    config = TrainConfig(..., backbone="MobileNetV2", weights="mobilenet_v2_..._no_top.h5")
    load_weights(model, config)

Everything but the last dense layer, which belongs to other labels, gets the weights of the file. Nothing is
ever downloaded: 'imagenet' is a file that is already in Keras' own cache.
"""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError
from wetread.keras_backend import import_keras
from wetread.train.backbones import SCALED_INSIDE, build_application, standardize
from wetread.train.config import TrainConfig
from wetread.train.weights_file import digest_weights, find_weights

if TYPE_CHECKING:
    import keras

_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
# What h5py, zipfile and Keras raise for a file that is cut, or has other bytes in its middle.
DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)
_FOREIGN = ("deserialization of a `Lambda` layer", "Could not locate ")  # how Keras refuses code
_STATISTICS = ("mean", "variance")  # of a Normalization layer
_OF_DENSE = 2  # axes of a dense layer's kernel


class Saved(NamedTuple):
    """A layer's weights in a file: its name, theirs, and their values."""

    name: str
    weights: tuple[str, ...]
    values: tuple[NDArray[Any], ...]

    @property
    def is_scaling(self) -> bool:
        """Whether it is a Normalization layer, which prepares pixels."""
        return self.weights[:2] == _STATISTICS


def load_weights(model: keras.Model, config: TrainConfig) -> None:
    """Give a network, except for its last layer with weights, those of the file of a configuration.

    Layers are matched in order, and their shapes compared; what follows them in the file, a top, is left
    out. Raises ConfigError, naming the layer, for weights of another network.
    """
    path = find_weights(config)
    if config.weights_digest not in (None, digest_weights(path)):
        raise ConfigError(
            f"{path} changed since its SHA-256 was taken, {config.weights_digest}. Bring that file back, or "
            "start a new run."
        )
    saved = read_layers(path, config)
    scalings = [one for one in saved if one.is_scaling]
    others = [one for one in saved if not (config.backbone and one.is_scaling)]
    body = [layer for layer in list_leaves(model) if layer.weights][:-1]
    for layer, one in _match(body, others, path, config):
        _check_finite(one, path)
        for variable, value in zip(layer.weights, one.values, strict=True):
            variable.assign(value)
    if scalings and config.backbone in SCALED_INSIDE:
        _take_scaling(model, scalings[0])


def _check_finite(saved: Saved, path: Path) -> None:
    """Refuse weights that are no numbers: a run from them would only say that it diverged."""
    if not all(np.isfinite(value).all() for value in saved.values):
        raise ConfigError(
            f"{path} holds weights that are not finite, of the layer {saved.name!r}: the network that it is "
            "of diverged, or the file is damaged. Take another."
        )


def list_leaves(model: Any) -> Iterator[Any]:
    """List a network's layers in order; instead of a network inside it, that network's layers."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from list_leaves(layer)
        elif type(layer).__name__ != "InputLayer":
            yield layer


def _match(body: list[Any], saved: list[Saved], path: Path, config: TrainConfig) -> list[tuple[Any, Saved]]:
    """Pair a network's layers with those of a file. Raises ConfigError where they do not fit."""
    pairs = list(zip(body, saved, strict=False))
    by_name = {one.name: one for one in saved[: len(body)]}
    if set(by_name) == {layer.name for layer in body}:  # in another order, perhaps
        pairs = [(layer, by_name[layer.name]) for layer in body]
    for layer, one in pairs:
        wanted = [tuple(variable.shape) for variable in layer.weights]
        found = [value.shape for value in one.values]
        if wanted != found:
            raise ConfigError(
                f"{path} does not hold the weights of {config.network}: in its place the layer "
                f"{layer.name!r}, of shapes {_write_shapes(wanted)}, meets {one.name!r} of "
                f"{_write_shapes(found)}. {_advise(wanted, found)}"
            )
    if len(pairs) < len(body):
        raise ConfigError(
            f"{path} does not hold the weights of {config.network}: it has {len(saved)} layers with weights, "
            f"and {len(body)} are needed. Name the network that the file is of."
        )
    return pairs


def _advise(wanted: list[tuple[int, ...]], found: list[tuple[int, ...]]) -> str:
    """What to do where shapes differ: by the kernel, images had another colour or size."""
    (*_, wanted_channels, wanted_filters), (*_, channels, filters) = (
        (1, 1, *one[0]) for one in (wanted, found)
    )
    if {wanted_channels, channels} == {1, 3} and wanted_filters == filters:
        return f"Its images were in {'gray' if channels == 1 else 'colour'}: give --color."
    if len(wanted[0]) == len(found[0]) == _OF_DENSE and wanted_filters == filters:
        return "A dense layer sees another number of pixels: give the --size of its images."
    return "Name the network that the file is of."


def _write_shapes(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(" x ".join(map(str, shape)) or "one number" for shape in shapes)


def _take_scaling(model: Any, saved: Saved) -> None:
    """Scale pixels as the file's own Normalization layer does.

    Keras' EfficientNetB0 has one. Its published files hold deviations in place of variances, which Keras
    corrects by a further layer.
    """
    mean, variance = (np.ravel(value).astype(np.float64) for value in saved.values[:2])
    deviation = np.sqrt(variance)
    if np.allclose(variance, (0.229, 0.224, 0.225), atol=1e-3):
        deviation = variance
    scaling = next(layer for layer in list_leaves(model) if type(layer).__name__ == "Rescaling")
    scaling.scale, scaling.offset = standardize(mean, deviation)


def read_layers(path: Path, config: TrainConfig) -> list[Saved]:
    """Read the layers that have weights from a file, whatever its name, in order. Raises ConfigError."""
    with path.open("rb") as file:
        start = file.read(8)
    try:
        if start.startswith(_ZIP) and zipfile.is_zipfile(path):
            return _read_keras(path)
        if start == _HDF5:
            return _read_hdf5(path, config)
    except DAMAGED as error:
        raise ConfigError(_explain_unread(path, error)) from error
    raise ConfigError(
        f"{path} is no file of weights: neither HDF5 (.h5, .weights.h5) nor a .keras file. Another form of "
        "a network becomes one with: wetread convert FORM --output network.keras"
    )


def _explain_unread(path: Path, error: Exception) -> str:
    """Say why a file's weights were not read: code that it needs, or damage."""
    text = " ".join(str(error).split())[:300]
    if any(words in text for words in _FOREIGN):
        return (
            f"The network in {path} has layers or functions of someone's own code, which is not run: "
            f"{text.split('. ')[0]}. Where that code is, save the network as .h5 (model.save('network.h5')): "
            "of that file only the weights are read."
        )
    return (
        f"The weights in {path} cannot be read: {text}. The file may be damaged; one of Keras 2 becomes "
        "readable with: wetread convert FILE --output network.keras"
    )


def _read_keras(path: Path) -> list[Saved]:
    """A whole network, as Keras 3 saves it."""
    if path.suffix != ".keras":
        raise ConfigError(f"{path} holds a network in Keras' own form: rename it, so that it ends in .keras.")
    return _describe(import_keras().models.load_model(path, compile=False, safe_mode=True))


def _describe(model: Any) -> list[Saved]:
    return [
        Saved(
            layer.name,
            tuple(str(weight.name) for weight in layer.weights),
            tuple(np.asarray(value) for value in layer.get_weights()),
        )
        for layer in list_leaves(model)
        if layer.weights
    ]


def _read_hdf5(path: Path, config: TrainConfig) -> list[Saved]:
    import h5py

    with h5py.File(path) as file:
        group = file.get("model_weights", file)
        if names := _list_attribute(group, "layer_names"):
            return list(_walk_groups(group, names))
        layers = file.get("layers")
        if layers is None:
            raise ConfigError(f"{path} is an HDF5 file, but holds no weights of Keras.")
        dense = [layers[name]["vars"]["0"].shape[-1] for name in layers if name.startswith("dense")]
    return _read_keras3_weights(path, config, classes=[1000, *dense[-1:]])


def _walk_groups(group: Any, names: list[str]) -> Iterator[Saved]:
    """Keras 2's layout, of a model's weights or of a whole model: a group for each layer.

    The group of a network inside a network holds the weights of several layers: each weight's own name says
    of which, 'Conv1/kernel:0'.
    """
    for name in names:
        weights = _list_attribute(group[name], "weight_names")
        owners = [weight.rpartition("/")[0] or name for weight in weights]
        for owner in dict.fromkeys(owners):
            own = [weight for weight, of in zip(weights, owners, strict=True) if of == owner]
            words = tuple(weight.rpartition("/")[2].partition(":")[0] for weight in own)
            values = tuple(np.asarray(group[name][weight]) for weight in own)
            yield Saved(owner.rpartition("/")[2], words, values)


def _list_attribute(group: Any, name: str) -> list[str]:
    """An attribute of names; a long one is saved in pieces, 'layer_names0' and so on."""
    pieces = [name] if name in group.attrs else [f"{name}{i}" for i in range(len(group.attrs))]
    found = [text for piece in pieces if piece in group.attrs for text in group.attrs[piece]]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in found]


def _read_keras3_weights(path: Path, config: TrainConfig, *, classes: list[int]) -> list[Saved]:
    """Weights alone, as Keras 3 saves them: only the application that they are of knows their order.

    `classes`: how many labels its top may have, if it has one.
    """
    if config.backbone is None:
        raise ConfigError(
            f"{path} holds weights without a network. Name the application of Keras that they are of with "
            "--backbone, or give the whole network, a .keras file or a run."
        )
    if not path.name.endswith(".weights.h5"):
        raise ConfigError(f"{path} holds weights of Keras 3: rename it, so that it ends in .weights.h5.")
    forms: list[dict[str, Any]] = [{"input_shape": (config.size, config.size, 3)}]
    failure: Exception | None = None
    for form in forms + [{"top": True, "classes": count} for count in dict.fromkeys(classes)]:
        application = build_application(config.backbone, **form)
        try:
            with warnings.catch_warnings():
                # Keras only warns where layers find nothing in the file and stay random.
                warnings.simplefilter("error", UserWarning)
                application.load_weights(path)
        except (ValueError, KeyError, UserWarning) as error:
            failure = failure or error
        else:
            return _describe(application)
    raise ConfigError(
        f"{path} does not hold the weights of {config.backbone}, with or without its top: "
        f"{' '.join(str(failure).split())[:300]}"
    )
