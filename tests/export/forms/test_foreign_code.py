"""Code in a description is found by name, whatever it hides in, and nothing of it runs."""

from __future__ import annotations

import pytest

from wetread.errors import ExportError
from wetread.export.forms.foreign_code import list_foreign, need_own_layers


def layer(kind: str, **rest: object) -> dict[str, object]:
    return {"class_name": kind, "config": {"name": "x"}, **rest}


def nest(inner: object) -> dict[str, object]:
    return {"class_name": "Sequential", "config": {"layers": [layer("Dense"), inner]}}


def call(function: str) -> dict[str, object]:
    return {"class_name": "TFOpLambda", "config": {"name": "call", "function": function}}


def node(operation: str) -> dict[str, object]:
    return {"class_name": "TensorFlowOpLayer", "config": {"name": "n", "node_def": {"op": operation}}}


FOREIGN = {
    "lambda": (layer("Lambda"), "the Lambda layer 'x'"),
    "inside": (nest(nest(layer("Lambda"))), "the Lambda layer 'x'"),
    "python": (
        layer("Dense", activation={"class_name": "__lambda__", "config": {"value": "4wE="}}),
        "lambda",
    ),
    "module": (layer("system", module="os"), "'system' of the module 'os'"),
    "package": (layer("Mine", module="my.layers"), "my.layers"),
    "registered": (layer("Mine>Layer"), r"the layer 'x' \(Mine>Layer\)"),
    "write": (call("io.write_file"), "tf.io.write_file"),
    "python-function": (call("py_function"), "tf.py_function"),
    "raw": (call("raw_ops.WriteFile"), "tf.raw_ops"),
    "node": (node("WriteFile"), "the operation WriteFile"),
    "no-node": ({"class_name": "TensorFlowOpLayer", "config": {"name": "n", "node_def": "{"}}, "operation"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_code_is_named(name):
    description, words = FOREIGN[name]
    with pytest.raises(ExportError, match=f"net.h5.*{words}.*--custom"):
        need_own_layers("net.h5", nest(description))


@pytest.mark.parametrize(
    "own",
    [
        layer("Dense", module="keras.layers"),
        layer("Conv2D", module="tf_keras.src.layers"),
        call("math.truediv"),
        call("__operators__.getitem"),
        call("compat.v1.transpose"),
        call("concat"),
        node("RealDiv"),
        {"module": "builtins", "class_name": "function", "config": "relu"},
        {"class_name": "__tuple__", "items": [1, 2]},
    ],
)
def test_what_is_keras_own_is_not(own):
    assert list_foreign(nest(own)) == []


def test_what_the_owner_gives_is_not():
    description = nest(layer("Lambda"))
    assert list_foreign(description) == ["the Lambda layer 'x'"]
    assert list_foreign(description, known=frozenset({"x"})) == []


def test_what_only_trained_it_is_not_read():
    assert list_foreign({**nest(layer("Dense")), "training_config": layer("Custom>Adam")}) == []
    assert list_foreign({**nest(layer("Dense")), "compile_config": layer("mine", module="my.losses")}) == []
