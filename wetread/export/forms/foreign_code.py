"""Code in a network's description: Lambda layers, and layers of somebody's own. Found by name, never run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from wetread.errors import ExportError
from wetread.export.forms.frozen_function import is_reaching

# What TFOpLambda may call: functions of TensorFlow that compute. Others read and write files, or run code.
_ROOMS = (
    "math.",
    "nn.",
    "image.",
    "linalg.",
    "signal.",
    "__operators__.",
    "compat.v1.math.",
    "compat.v1.nn.",
)
_FUNCTIONS = frozenset(
    [
        "abs",
        "add",
        "add_n",
        "argmax",
        "argmin",
        "broadcast_to",
        "cast",
        "clip_by_value",
        "concat",
        "constant",
        "convert_to_tensor",
        "cumsum",
        "divide",
        "einsum",
        "equal",
        "exp",
        "expand_dims",
        "eye",
        "fill",
        "gather",
        "gather_nd",
        "greater",
        "greater_equal",
        "identity",
        "less",
        "less_equal",
        "logical_and",
        "logical_not",
        "logical_or",
        "matmul",
        "maximum",
        "meshgrid",
        "minimum",
        "multiply",
        "negative",
        "norm",
        "not_equal",
        "one_hot",
        "ones",
        "ones_like",
        "pad",
        "pow",
        "range",
        "rank",
        "repeat",
        "reshape",
        "reverse",
        "roll",
        "round",
        "shape",
        "sigmoid",
        "sign",
        "size",
        "slice",
        "split",
        "sqrt",
        "square",
        "squeeze",
        "stack",
        "stop_gradient",
        "strided_slice",
        "subtract",
        "tanh",
        "tensordot",
        "tile",
        "transpose",
        "truediv",
        "unstack",
        "where",
        "zeros",
        "zeros_like",
        "reduce_all",
        "reduce_any",
        "reduce_max",
        "reduce_mean",
        "reduce_min",
        "reduce_prod",
        "reduce_sum",
    ]
)
_KERAS = ("keras", "tf_keras")
# Optimizers, losses and metrics: a network is opened without them.
_UNREAD = ("compile_config", "training_config")


def list_foreign(config: Any, *, known: frozenset[str] = frozenset()) -> list[str]:
    """What in a description is not Keras' own, in words: "Lambda layer 'lambda_1'", "layer 'a' (Mine)".

    `known`: names that the owner's own module supplies. Only what can be told from the text: an unknown class
    without a module is left to who builds it.
    """
    found = [words for node in _walk(config) if (words := _judge(node, known)) is not None]
    return list(dict.fromkeys(found))


def need_own_layers(path: object, config: Any, *, known: frozenset[str] = frozenset()) -> None:
    """Raise ExportError where a description holds code, naming it and the way round."""
    found = list_foreign(config, known=known)
    if found:
        raise refuse_code(path, found)


def refuse_code(path: object, found: list[str]) -> ExportError:
    """The error of a network that needs somebody's own code."""
    shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    lambdas = any("Lambda" in words for words in found)
    advice = (
        "Code that is in a file is never run. Give a function of each Lambda layer's name with --custom "
        "my_module, which is run"
        if lambdas
        else "Give the code with --custom my_module, which is run"
    )
    return ExportError(
        f"{path}: the network has {shown}, which is its author's own code. {advice}; or put Keras' own "
        "layers in its place and save it again."
    )


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a description, layers before what is in them; a Lambda layer is judged as a whole."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        if value.get("class_name") == "Lambda":
            return
        for key, one in value.items():
            if key not in _UNREAD:
                yield from _walk(one)
    elif isinstance(value, list):
        for one in value:
            yield from _walk(one)


def _judge(node: dict[str, Any], known: frozenset[str]) -> str | None:
    kind, config = str(node["class_name"]), node.get("config")
    name = find_name(node)
    if kind == "Lambda":
        return None if name in known else f"the Lambda layer '{name}'"
    if kind == "__lambda__":
        return "a Python lambda"
    if kind in ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty"):
        return _judge_function(name, config)
    if kind == "TensorFlowOpLayer":
        return _judge_node(name, config)
    module = node.get("module")
    if module and str(module).partition(".")[0] not in _KERAS and kind not in known:
        if module == "builtins" and (kind == "function" or kind.startswith("__")):
            return None
        return f"'{kind}' of the module '{module}'"
    if kind.partition(">")[2] and kind not in known and kind.partition(">")[2] not in known:
        return f"the layer '{name}' ({kind})"
    return None


def _judge_function(name: str, config: Any) -> str | None:
    function = str(config.get("function") or config.get("symbol") or "") if isinstance(config, dict) else ""
    bare = function.removeprefix("compat.v1.")
    if function.startswith(_ROOMS) or bare in _FUNCTIONS:
        return None
    return f"a call of tf.{function} in layer '{name}'"


def _judge_node(name: str, config: Any) -> str | None:
    node = config.get("node_def") if isinstance(config, dict) else None
    try:
        node = json.loads(node) if isinstance(node, str) else node
    except ValueError:
        node = None
    operation = str(node.get("op")) if isinstance(node, dict) else "?"
    return None if node and not is_reaching(operation) else f"the operation {operation} in layer '{name}'"


def find_name(node: Mapping[str, Any]) -> str:
    """The name of a layer that a description describes."""
    config = node.get("config")
    inside = config.get("name") if isinstance(config, dict) else None
    return str(node.get("name") or inside or "?")
