"""One layer of Keras 2 as layers of Keras 3 that compute the same.

    {"class_name": "LeakyReLU", "config": {"name": "a", "alpha": 0.3}}  ->  [LeakyReLU(negative_slope=0.3)]

What only training uses (initializers, regularizers, constraints) is left out. An option that Keras 3 lacks is
left out where it changes nothing, and refused otherwise: a network that is rebuilt without it would be
another.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from wetread.keras_backend import import_keras

Step = Callable[..., Any]


class RebuildError(Exception):
    """A network of Keras 2 has something that Keras 3's layers do not say; the words say what."""


# Layers that compute the same in both where their options are the same: tests hold each to tf_keras.
SAME = frozenset(
    [
        "Activation",
        "ActivityRegularization",
        "Add",
        "AlphaDropout",
        "Average",
        "AveragePooling1D",
        "AveragePooling2D",
        "BatchNormalization",
        "CenterCrop",
        "Concatenate",
        "Conv1D",
        "Conv2D",
        "Conv2DTranspose",
        "Cropping2D",
        "Dense",
        "DepthwiseConv2D",
        "Dot",
        "Dropout",
        "ELU",
        "Flatten",
        "GaussianDropout",
        "GaussianNoise",
        "GlobalAveragePooling1D",
        "GlobalAveragePooling2D",
        "GlobalMaxPooling1D",
        "GlobalMaxPooling2D",
        "GroupNormalization",
        "Identity",
        "LayerNormalization",
        "LeakyReLU",
        "MaxPooling1D",
        "MaxPooling2D",
        "Maximum",
        "Minimum",
        "Multiply",
        "Normalization",
        "PReLU",
        "Permute",
        "ReLU",
        "RepeatVector",
        "Rescaling",
        "Reshape",
        "Resizing",
        "SeparableConv2D",
        "Softmax",
        "SpatialDropout2D",
        "Subtract",
        "UnitNormalization",
        "UpSampling2D",
        "ZeroPadding2D",
    ]
)
# Rebuilt as well, but only beside tf_keras, whose answers then judge.
COMPARED = frozenset(
    [
        "AdditiveAttention",
        "Attention",
        "Bidirectional",
        "EinsumDense",
        "GRU",
        "LSTM",
        "MultiHeadAttention",
        "SimpleRNN",
        "SpectralNormalization",
        "TimeDistributed",
    ]
)
# They pass on what they get where nothing is trained.
_RANDOM = frozenset(
    [
        "RandomBrightness",
        "RandomContrast",
        "RandomFlip",
        "RandomHeight",
        "RandomRotation",
        "RandomTranslation",
        "RandomWidth",
        "RandomZoom",
    ]
)
SPECIAL = frozenset({"ThresholdedReLU", "SyncBatchNormalization"}) | _RANDOM
_ACTIVATIONS = frozenset(
    [
        "elu",
        "exponential",
        "gelu",
        "hard_sigmoid",
        "linear",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "softmax",
        "softplus",
        "softsign",
        "swish",
        "tanh",
    ]
)
# Options that say nothing of what is computed at inference.
_TRAINING = ("_initializer", "_regularizer", "_constraint")
_IDLE = frozenset(
    [
        "activity_regularizer",
        "batch_input_shape",
        "batch_shape",
        "build_input_shape",
        "dynamic",
        "experimental_autocast",
        "fused",
        "implementation",
        "input_dim",
        "input_dtype",
        "input_length",
        "input_shape",
        "ragged",
        "renorm_clipping",
        "renorm_momentum",
        "sparse",
        "unroll",
        "use_cudnn",
        "trainable",
        "query_shape",
        "key_shape",
        "value_shape",
        "softmax_robust_masking",
        "zero_output_for_mask",
    ]
)


def make_steps(kind: str, config: dict[str, Any]) -> list[Step]:
    """The layers, or functions of keras.ops, that together compute what one layer of Keras 2 does.

    The first carries its name and its weights. Raises RebuildError.
    """
    keras = import_keras()
    name = safe_name(config.get("name"))
    if kind in _RANDOM:
        return [keras.layers.Identity(name=name)]
    if kind == "ThresholdedReLU":
        return [_threshold(float(config.get("theta", 1.0)))]
    kind = "BatchNormalization" if kind == "SyncBatchNormalization" else kind
    if kind not in SAME and kind not in COMPARED:
        raise RebuildError(f"the layer '{name}' ({kind})")
    options = _translate_options(kind, dict(config))
    after = _split_activation(kind, options)
    return [_make_layer(kind, {**options, "name": name}), *after]


def safe_name(name: Any) -> str:
    """A layer's name as Keras 3 takes it: without '/'."""
    return str(name).replace("/", "_")


def _make_layer(kind: str, options: dict[str, Any]) -> Any:
    keras = import_keras()
    cls = getattr(keras.layers, kind)
    if kind in ("Bidirectional", "TimeDistributed"):
        inner = options.pop("layer")
        options["layer"] = make_steps(inner["class_name"], inner["config"])[0]
        backward = options.pop("backward_layer", None)
        if backward is not None:
            options["backward_layer"] = make_steps(backward["class_name"], backward["config"])[0]
    options = _drop_idle(cls, options)
    try:
        return cls(**options)
    except (TypeError, ValueError) as error:
        raise RebuildError(f"the layer '{options['name']}' ({kind}: {str(error).splitlines()[0]})") from error


def _drop_idle(cls: type, options: dict[str, Any]) -> dict[str, Any]:
    """Leave out what Keras 3 does not take, where it says nothing. Raises RebuildError where it does."""
    known: set[str] = set()
    for one in (each for each in cls.__mro__ if "__init__" in vars(each)):
        parameters = inspect.signature(one.__init__).parameters  # type: ignore[misc]
        known |= set(parameters)
        if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            break  # what it does not name itself it does not pass on
    kept = {}
    for key, value in options.items():
        if key in known - {"self", "args", "kwargs"}:
            kept[key] = value
        elif value not in (None, False, {}, []) and not (key == "groups" and value == 1):
            raise RebuildError(f"the option {key}={value!r} of layer '{options['name']}' ({cls.__name__})")
    return kept


def _translate_options(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    options = {
        key: value for key, value in options.items() if key not in _IDLE and not key.endswith(_TRAINING)
    }
    if "dtype" in options:
        options["dtype"] = _name_dtype(options["dtype"])
    if kind == "LeakyReLU" and "alpha" in options:
        options["negative_slope"] = options.pop("alpha")
    if kind == "BatchNormalization" and isinstance(options.get("axis"), list):
        options["axis"] = options["axis"][0]
    if kind == "GRU":
        options.setdefault("reset_after", False)  # as it was when files did not say
    if kind == "Normalization" and options.get("mean") is None:
        options.pop("mean", None), options.pop("variance", None)
    if kind == "Dropout" and options.get("noise_shape") is not None:
        options["noise_shape"] = None
    return options


def _name_dtype(dtype: Any) -> Any:
    """A layer's type by its name: Keras 2 writes a policy as an object."""
    if isinstance(dtype, dict):
        return (dtype.get("config") or {}).get("name", "float32")
    return dtype


def _split_activation(kind: str, options: dict[str, Any]) -> list[Step]:
    """Name a layer's activation as Keras 3 does; one that it computes otherwise comes out as steps "
    "after it."""
    for key in ("activation", "recurrent_activation"):
        if options.get(key) is None:
            continue
        value = options[key]
        after: list[Step] | None = None
        if _is_layer(value):
            after = make_steps(value["class_name"], value["config"])
        elif (name := _name_activation(value)) == "hard_sigmoid":
            after = _hard_sigmoid()
        if after is None:
            options[key] = name
            continue
        if kind in COMPARED:
            raise RebuildError(f"the {key} of layer '{options.get('name')}' ({kind})")
        options[key] = "linear"
        return after
    return []


def _is_layer(value: Any) -> bool:
    return isinstance(value, dict) and value.get("class_name") in SAME | {"ThresholdedReLU"}


def _name_activation(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("config") if value.get("class_name") == "function" else value.get("class_name")
    name = str(value)
    if name not in _ACTIVATIONS:
        raise RebuildError(f"the activation '{name}'")
    return name


def _hard_sigmoid() -> list[Step]:
    """Keras 2's: 0.2 x + 0.5 between 0 and 1. Keras 3's is x / 6 + 0.5."""
    layers = import_keras().layers
    return [layers.Rescaling(0.2, offset=0.5), layers.ReLU(max_value=1.0)]


def _threshold(theta: float) -> Step:
    ops = import_keras().ops
    return lambda x: ops.multiply(x, ops.cast(ops.greater(x, theta), "float32"))
