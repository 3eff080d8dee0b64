"""What tf2onnx does not know, in terms of what it does: operations, and layers that Keras writes oddly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np


@lru_cache(maxsize=1)
def register() -> None:
    """Teach tf2onnx Erfc, in which Keras writes its exact GELU, and Expm1, in which it writes CELU."""
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, context: Any, node: Any, **_: Any) -> None:
            _replace(context, node, "Erf", one_first=True)

    @tf_op("Expm1")
    class Expm1:
        @classmethod
        def version_9(cls, context: Any, node: Any, **_: Any) -> None:
            _replace(context, node, "Exp", one_first=False)


def _replace(context: Any, node: Any, operation: str, *, one_first: bool) -> None:
    """Write a node as 1 - operation(x), or as operation(x) - 1."""
    one = context.make_const(f"{node.name}_one", np.float32(1)).output[0]
    shape, kind = context.get_shape(node.output[0]), context.get_dtype(node.output[0])
    inputs, outputs = list(node.input), list(node.output)
    context.remove_node(node.name)
    inner = context.make_node(operation, inputs, dtypes=[kind], shapes=[shape]).output[0]
    terms = [one, inner] if one_first else [inner, one]
    context.make_node("Sub", terms, outputs=outputs, dtypes=[kind], shapes=[shape])


@contextlib.contextmanager
def convertible(model: Any) -> Iterator[None]:
    """While a network is traced, let layers that Keras writes in a way tf2onnx cannot follow say the same
    in one that it can; afterwards they are as before.

    Normalization holds its mean as a tensor, and an operation of keras.ops (as in `preprocess_input` of
    Keras' applications) its constants: each would become an input of the graph. A grouped convolution is
    wrapped in a compiled function, which would stay one operation.
    """
    import keras

    changed: list[tuple[Any, str, Any]] = []
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization) and getattr(layer, "mean", None) is not None:
            for name in ("mean", "variance"):
                changed.append((layer, name, getattr(layer, name)))
                object.__setattr__(layer, name, np.asarray(getattr(layer, name)))
        if getattr(layer, "groups", 1) > 1 and hasattr(layer, "convolution_op"):
            changed.append((layer, "convolution_op", None))
            object.__setattr__(layer, "convolution_op", partial(_convolve, layer))
    for arguments in _list_arguments(model):
        for name in ("args", "kwargs"):
            changed.append((arguments, name, getattr(arguments, name)))
            fixed = keras.tree.map_structure(_fix_tensor, getattr(arguments, name))
            object.__setattr__(arguments, name, fixed)
    try:
        yield
    finally:
        for layer, name, value in changed:
            object.__delattr__(layer, name) if value is None else object.__setattr__(layer, name, value)


def _list_arguments(model: Any) -> Iterator[Any]:
    """What the operations of a network, and of those inside it, are called with."""
    for network in model._flatten_layers():
        for nodes in getattr(network, "_nodes_by_depth", {}).values():
            yield from (node.arguments for node in nodes)


def _fix_tensor(argument: Any) -> Any:
    """A tensor that holds numbers as an array, which tracing writes as a constant; others as they are."""
    import tensorflow

    return argument.numpy() if isinstance(argument, tensorflow.Tensor) else argument


def _convolve(layer: Any, inputs: Any, kernel: Any) -> Any:
    import tensorflow

    return tensorflow.nn.convolution(
        inputs,
        kernel,
        strides=list(layer.strides),
        padding=layer.padding.upper(),
        dilations=list(layer.dilation_rate),
    )
