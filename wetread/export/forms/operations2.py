"""Calls of TensorFlow's functions inside a network of Keras 2 (`x / 127.5 - 1`), said with keras.ops."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from wetread.export.forms.layers2 import RebuildError
from wetread.keras_backend import import_keras

# TensorFlow's function, keras.ops' own, and how TensorFlow calls its arguments after the first.
_FUNCTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "math.add": ("add", ("y",)),
    "__operators__.add": ("add", ("y",)),
    "math.subtract": ("subtract", ("y",)),
    "math.multiply": ("multiply", ("y",)),
    "math.truediv": ("divide", ("y",)),
    "math.divide": ("divide", ("y",)),
    "math.divide_no_nan": ("divide_no_nan", ("y",)),
    "math.maximum": ("maximum", ("y",)),
    "math.minimum": ("minimum", ("y",)),
    "math.pow": ("power", ("y",)),
    "math.abs": ("absolute", ()),
    "math.negative": ("negative", ()),
    "math.exp": ("exp", ()),
    "math.log": ("log", ()),
    "math.square": ("square", ()),
    "math.sqrt": ("sqrt", ()),
    "math.rsqrt": ("rsqrt", ()),
    "math.sigmoid": ("sigmoid", ()),
    "math.tanh": ("tanh", ()),
    "math.reduce_mean": ("mean", ("axis", "keepdims")),
    "math.reduce_sum": ("sum", ("axis", "keepdims")),
    "math.reduce_max": ("max", ("axis", "keepdims")),
    "math.reduce_min": ("min", ("axis", "keepdims")),
    "nn.relu": ("relu", ()),
    "nn.relu6": ("relu6", ()),
    "nn.silu": ("silu", ()),
    "nn.swish": ("silu", ()),
    "nn.sigmoid": ("sigmoid", ()),
    "nn.tanh": ("tanh", ()),
    "nn.softplus": ("softplus", ()),
    "nn.elu": ("elu", ()),
    "nn.selu": ("selu", ()),
    "nn.softmax": ("softmax", ("axis",)),
    "nn.bias_add": ("add", ("bias",)),
    "nn.gelu": ("gelu", ("approximate",)),
    "nn.leaky_relu": ("leaky_relu", ("alpha",)),
    "cast": ("cast", ("dtype",)),
    "concat": ("concatenate", ("axis",)),
    "stack": ("stack", ("axis",)),
    "transpose": ("transpose", ("perm",)),
    "reshape": ("reshape", ("shape",)),
    "expand_dims": ("expand_dims", ("axis",)),
    "squeeze": ("squeeze", ("axis",)),
    "clip_by_value": ("clip", ("clip_value_min", "clip_value_max")),
    "identity": ("copy", ()),
    "stop_gradient": ("stop_gradient", ()),
    "matmul": ("matmul", ("b",)),
    "linalg.matmul": ("matmul", ("b",)),
}
# What TensorFlow takes where an argument is left out, and keras.ops does not.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "nn.gelu": {"approximate": False},
    "nn.leaky_relu": {"alpha": 0.2},
    "stack": {"axis": 0},
}
# Operations of TensorFlow's graphs, as Keras 2 in TensorFlow 2.0 to 2.3 kept them, and the function of the
# above.
_NODES = {
    "Add": "math.add",
    "AddV2": "math.add",
    "BiasAdd": "nn.bias_add",
    "Sub": "math.subtract",
    "Mul": "math.multiply",
    "RealDiv": "math.truediv",
    "Maximum": "math.maximum",
    "Minimum": "math.minimum",
    "Pow": "math.pow",
    "Neg": "math.negative",
    "Exp": "math.exp",
    "Square": "math.square",
    "Sqrt": "math.sqrt",
    "Sigmoid": "math.sigmoid",
    "Tanh": "math.tanh",
    "Relu": "nn.relu",
    "Relu6": "nn.relu6",
    "Softplus": "nn.softplus",
    "Identity": "identity",
}


def make_function(kind: str, config: dict[str, Any]) -> Callable[..., Any]:
    """What a layer that stands for a call of TensorFlow's does, as a function of Keras tensors.

    `kind`: TFOpLambda, SlicingOpLambda or TensorFlowOpLayer. Raises RebuildError for a function not in the
    list.
    """
    if kind == "TensorFlowOpLayer":
        return _make_node(config)
    name = str(config.get("function", "")).removeprefix("compat.v1.")
    if name == "__operators__.getitem":
        return _slice
    return _find(name, layer=str(config.get("name")))


def _find(name: str, *, layer: str) -> Callable[..., Any]:
    if name not in _FUNCTIONS:
        raise RebuildError(f"a call of tf.{name} (layer '{layer}')")
    ours, order = _FUNCTIONS[name]
    function = getattr(import_keras().ops, ours)

    def call(first: Any, *rest: Any, **options: Any) -> Any:
        options.pop("name", None)
        options = {**_DEFAULTS.get(name, {}), **options}
        values = [*rest, *(options.pop(key) for key in order[len(rest) :] if key in options)]
        if left := {key: value for key, value in options.items() if value not in (None, False)}:
            raise RebuildError(f"a call of tf.{name} with {', '.join(left)} (layer '{layer}')")
        return function(first, *map(_fix, values))

    return call


def _fix(value: Any) -> Any:
    """Lists of numbers as the tuples that keras.ops takes for axes and shapes."""
    return tuple(value) if isinstance(value, list) and all(isinstance(one, int) for one in value) else value


def _slice(tensor: Any, *, slice_spec: Any, **_: Any) -> Any:
    """x[...] as Keras 2 writes it: slices as dicts, Ellipsis as a class."""
    parts = slice_spec if isinstance(slice_spec, list) else [slice_spec]
    return tensor[tuple(map(_read_index, parts))]


def _read_index(part: Any) -> Any:
    if part is None or isinstance(part, int):
        return part
    if isinstance(part, dict) and part.get("class_name") == "__ellipsis__":
        return Ellipsis
    if isinstance(part, dict) and {"start", "stop", "step"} <= set(part):
        return slice(part["start"], part["stop"], part["step"])
    raise RebuildError(f"a slice by {part!r}")


def _make_node(config: dict[str, Any]) -> Callable[..., Any]:
    """An operation that TensorFlow 2.0 to 2.3 kept as a node of its graph, with constants beside it."""
    node = config.get("node_def")
    node = json.loads(node) if isinstance(node, str) else node or {}
    operation, layer = str(node.get("op")), str(config.get("name"))
    constants = {
        int(at): np.asarray(value, np.float32) for at, value in (config.get("constants") or {}).items()
    }
    if operation == "StridedSlice":
        index = _read_strided(node, config.get("constants") or {}, layer)
        return lambda inputs: (inputs[0] if isinstance(inputs, list) else inputs)[index]
    if operation not in _NODES:
        raise RebuildError(f"the operation {operation} (layer '{layer}')")
    function = _find(_NODES[operation], layer=layer)

    def call(inputs: Any) -> Any:
        values = list(inputs) if isinstance(inputs, list) else [inputs]
        for at in sorted(constants):
            values.insert(at, constants[at])
        return function(*values)

    return call


def _read_strided(node: dict[str, Any], constants: dict[str, Any], layer: str) -> tuple[Any, ...]:
    """The index of a StridedSlice: what its masks say, bit by bit, of begins, ends and strides."""
    if not {"1", "2", "3"} <= set(constants):
        raise RebuildError(f"a slice that is computed (layer '{layer}')")
    masks = {
        name: int((node.get("attr") or {}).get(f"{name}_mask", {}).get("i", 0))
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    index: list[Any] = []
    for place, (begin, end, stride) in enumerate(zip(*(constants[key] for key in "123"), strict=True)):
        bits = {name for name, mask in masks.items() if mask >> place & 1}
        if "ellipsis" in bits:
            index.append(Ellipsis)
        elif "new_axis" in bits:
            index.append(None)
        elif "shrink_axis" in bits:
            index.append(int(begin))
        else:
            index.append(slice(None if "begin" in bits else begin, None if "end" in bits else end, stride))
    return tuple(index)
