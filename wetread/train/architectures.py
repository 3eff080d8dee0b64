"""Networks by name ('edge', 'model-1', ...), and networks from a user's own function.

All take scaled pixels (float32, N x H x W x C) and return logits: one for two labels, K for more. They
use only Keras' own layers, so `model.keras` loads without wetread.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from wetread.errors import ConfigError
from wetread.keras_backend import import_keras
from wetread.output_activation import trace_activation

if TYPE_CHECKING:
    import keras

Shape = tuple[int, int, int]


def check_architecture(architecture: str) -> None:
    """Refuse a name that is neither in ARCHITECTURES nor module:function. Raises ConfigError."""
    module, _, function = architecture.partition(":")
    known = architecture in ARCHITECTURES or STAGES.fullmatch(architecture)
    if not known and not (module and function):
        raise ConfigError(
            f"There is no architecture {architecture!r}. Choose {', '.join(ARCHITECTURES)}, "
            "stages-WIDTH-STAGES-CONVOLUTIONS-DROPOUT (stages-16-3-2-0.3, say) or module:function."
        )


def build_network(architecture: str, shape: Shape, outputs: int) -> keras.Model:
    """Build a network, untrained.

    `architecture`: a key of ARCHITECTURES, a name by STAGES, or 'module:function' for one of the user's own,
    called with `input_shape` and `outputs` and returning a keras.Model. `shape`: (height, width, channels);
    `outputs`: 1 for two labels, K for more. Raises ConfigError.
    """
    keras = import_keras()
    staged = STAGES.fullmatch(architecture)
    if staged or architecture in ARCHITECTURES:
        try:
            if staged:
                return _stages(keras, shape, outputs, staged.groups())
            return ARCHITECTURES[architecture](keras, shape, outputs)
        except ValueError as error:
            raise ConfigError(
                f"Images of {shape[0]} x {shape[1]} are too small for {architecture}: "
                f"{str(error).splitlines()[0]}"
            ) from error
    model = _find_function(architecture)(shape, outputs)
    _check_network(model, architecture, shape, outputs)
    return model


def _model_1(keras: Any, shape: Shape, outputs: int) -> keras.Model:
    """The paper's first: 13,121 parameters at 64 x 64 x 1."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(3),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(outputs),
        ],
        name="model_1",
    )


def _model_2(keras: Any, shape: Shape, outputs: int) -> keras.Model:
    """The paper's second: 34,659 parameters at 64 x 64 x 1.

    Its first dense layer has one unit. It is linear: with a ReLU that unit can die, and the network then
    predicts only the majority class (docs/results/paper.md).
    """
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(32, 5, activation="relu"),
            layers.MaxPooling2D(3),
            layers.Conv2D(32, 5, activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(outputs),
            layers.Dense(outputs),
        ],
        name="model_2",
    )


def _model_3(keras: Any, shape: Shape, outputs: int) -> keras.Model:
    """The paper's third: 98,017 parameters at 64 x 64 x 1."""
    layers = keras.layers
    body = []
    for filters, dropout in ((32, 0.0), (32, 0.25), (64, 0.25), (64, 0.25)):
        body += [layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D(2)]
        body += [layers.Dropout(dropout)] if dropout else []
    head = [
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(128, activation="relu"),
        layers.Dense(outputs),
    ]
    return keras.Sequential([keras.Input(shape), *body, *head], name="model_3")


def _edge(keras: Any, shape: Shape, outputs: int) -> keras.Model:
    """wetread's own: 3 x 3 convolutions, each with a batch norm that can be folded, and global pooling."""
    layers = keras.layers
    body: list[Any] = []
    for filters, stride in EDGE_LAYERS:
        body += [
            layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
        ]
    head = [layers.GlobalAveragePooling2D(), layers.Dropout(0.3), layers.Dense(outputs)]
    return keras.Sequential([keras.Input(shape), *body, *head], name="edge")


# Filters and stride of each convolution; docs/results/experiments.md lists what else was tried.
EDGE_LAYERS = ((16, 2), (32, 1), (32, 2), (48, 1), (64, 2), (64, 1))


def _photo(keras: Any, shape: Shape, outputs: int) -> keras.Model:
    """For photographs: few wide convolutions, each after max pooling; the first sees every pixel.

    Where the image has 48 pixels or more the first takes every second place: it costs no more than at 32.
    """
    layers = keras.layers
    strides = 2 if min(shape[:2]) >= _LARGE else 1
    body: list[Any] = []
    for filters in PHOTO_FILTERS:
        body += [layers.MaxPooling2D(2)] if body else []
        body += [
            layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
        ]
        strides = 1
    head = [layers.GlobalAveragePooling2D(), layers.Dropout(0.3), layers.Dense(outputs)]
    return keras.Sequential([keras.Input(shape), *body, *head], name="photo")


PHOTO_FILTERS = (32, 64, 96)
_LARGE = 48  # pixels

# Filters of the first stage, stages, convolutions in each, dropout: what `wetread tune` searches over.
STAGES = re.compile(r"stages-([1-9]\d{0,2})-([1-6])-([1-9])-(0(?:\.\d+)?)")


def _stages(keras: Any, shape: Shape, outputs: int, form: tuple[str | Any, ...]) -> keras.Model:
    """Like `edge`, of any width and depth: each stage halves the image and doubles the filters."""
    layers = keras.layers
    width, stages, convolutions = (int(number) for number in form[:3])
    body: list[Any] = []
    for stage in range(stages):
        for convolution in range(convolutions):
            strides = 1 if convolution else 2
            body += [
                layers.Conv2D(width << stage, 3, strides=strides, padding="same", use_bias=False),
                layers.BatchNormalization(momentum=0.9),
                layers.ReLU(),
            ]
    head = [layers.GlobalAveragePooling2D(), layers.Dropout(float(form[3])), layers.Dense(outputs)]
    return keras.Sequential([keras.Input(shape), *body, *head], name="stages")


ARCHITECTURES: dict[str, Callable[[Any, Shape, int], Any]] = {
    "edge": _edge,
    "model-1": _model_1,
    "model-2": _model_2,
    "model-3": _model_3,
    "photo": _photo,
}


def _find_function(text: str) -> Callable[[Shape, int], Any]:
    """Import 'module:function', also from the current folder, as `python -m` would."""
    check_architecture(text)
    module_name, _, function_name = text.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        function = getattr(import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(_explain_missing(text, error)) from error
    finally:
        sys.path.remove(os.getcwd())
    _check_function(function, text)
    return lambda shape, outputs: function(input_shape=shape, outputs=outputs)


def _explain_missing(text: str, error: Exception) -> str:
    """Say where a function was looked for, and what went wrong there."""
    module_name, _, function_name = text.partition(":")
    where = f"the current folder, {os.getcwd()}, and then in Python's own path"
    module = sys.modules.get(module_name)
    if isinstance(error, AttributeError) and module is not None:
        where = str(getattr(module, "__file__", None) or where)
    return (
        f"The function {text!r} was not found: {error}. It was looked for in {where}. Check the names "
        f"{module_name!r} and {function_name!r}, or start wetread in the folder that holds the module."
    )


def _check_function(function: Any, text: str) -> None:
    """Check that a user's function accepts the arguments it is called with. Raises ConfigError."""
    try:
        inspect.signature(function).bind(input_shape=(1, 1, 1), outputs=1)
    except TypeError as error:
        taken = f"{text}{inspect.signature(function)}" if callable(function) else f"{function!r}"
        raise ConfigError(
            f"wetread calls {text}(input_shape=..., outputs=...), which {taken} does not accept: {error}. "
            "Give it these two arguments."
        ) from error
    except ValueError:  # a function in C has no signature to inspect: the call itself will show
        return


def _check_network(model: Any, architecture: str, shape: Shape, outputs: int) -> None:
    """Check that a user's network is what the rest of wetread relies on. Raises ConfigError."""
    keras = import_keras()
    if not isinstance(model, keras.Model):
        raise ConfigError(f"{architecture} must return a keras.Model, and returned {type(model)}.")
    if not model.built:
        model.build((None, *shape))
    if tuple(model.input_shape) != (None, *shape) or tuple(model.output_shape) != (None, outputs):
        raise ConfigError(
            f"{architecture} must map {(None, *shape)} to {(None, outputs)}. "
            f"Its network maps {model.input_shape} to {model.output_shape}."
        )
    for layer in (model, *walk_layers(model)):
        if not type(layer).__module__.startswith("keras.") or type(layer).__name__ == "Lambda":
            raise ConfigError(
                f"The layer {layer.name!r} is a {type(layer).__module__}.{type(layer).__name__}, with which "
                "model.keras would not load elsewhere. Build the network of Keras' own layers and keras.ops."
            )


def walk_layers(model: Any) -> Iterator[Any]:
    """List a network's layers, those of networks and wrappers inside it too."""
    for layer in [*getattr(model, "layers", ()), *filter(None, [getattr(model, "layer", None)])]:
        yield layer
        yield from walk_layers(layer)


def find_head(model: Any) -> str:
    """Find out what a network ends in: 'logits', 'sigmoid' or 'softmax'.

    Raises ConfigError for another, and if neither the graph nor its outputs for noise show it.
    """
    units, name = model.output_shape[-1], trace_activation(model)
    head = _probe_head(model, units) if name is None else "logits" if name == "linear" else name
    if head == "softmax" and units == 1:
        advice = "A softmax over one unit is always 1: it cannot learn."
    elif head == "sigmoid" and units > 1:
        advice = "Labels here exclude one another: end it in a softmax."
    elif head in ("logits", "sigmoid", "softmax"):
        return head
    else:
        advice = "End it in keras.layers.Dense."
    raise ConfigError(
        f"The network ends in {head!r} on {units} units. It must end in logits, in one sigmoid for two "
        f"labels, or in a softmax. {advice}"
    )


def _probe_head(model: Any, units: int) -> str:
    """Find the head from outputs for noise, if the graph does not show it: logits leave the range 0 to 1."""
    noise = np.random.default_rng(0).normal(size=(16, *model.input_shape[1:])).astype(np.float32)
    outputs = np.concatenate([model.predict_on_batch(noise * scale) for scale in (1, 1e2, 1e4)])
    if (outputs < 0).any() or (outputs > 1).any():
        return "logits"
    sums_to_one = units > 1 and np.allclose(outputs.sum(axis=1), 1, atol=1e-4)
    return "softmax" if sums_to_one else "something between 0 and 1"
