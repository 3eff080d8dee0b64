"""A second output, `activation`: what each place of the last feature maps says for each label.

Where a network ends in global average pooling and one dense layer, its logits are the mean over the places of
what the dense layer makes of each place alone (class activation maps, Zhou et al., CVPR 2016). So the map is
exact: its mean is the logits that the probabilities are made of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from wetread.errors import ExportError
from wetread.export.contract import finish
from wetread.export.graph import (
    INPUT,
    LOGITS,
    OUTPUT,
    add_array,
    clear_name,
    copy_model,
    find_array,
    find_outputs,
    name_nodes,
    open_plain,
    producer,
)
from wetread.runtime.model.session import ACTIVATION
from wetread.runtime.model.spec import ModelSpec

Floats = NDArray[np.float32]

_RESHAPING = ("Squeeze", "Reshape", "Flatten", "Identity")
_SPATIAL = [2, 3]
# Of the largest logit: float16 and int8 pool and multiply in their own steps.
_TOLERANCE = {"float32": 1e-3, "float16": 2e-2, "int8": 0.15}


def attach_activation(
    model: onnx.ModelProto, spec: ModelSpec, *, source: onnx.ModelProto, images: NDArray[np.uint8]
) -> onnx.ModelProto:
    """Return a copy of a graph with `activation`, float32 (N, K, h, w), as its second output.

    `source`: the float32 graph that the model, float32, float16 or int8, was made from; its tensors' names
    are the model's. Raises ExportError for a network that does not end in global average pooling and one
    dense layer, or whose map does not give its probabilities on `images`, uint8 (N, H, W, C).
    """
    features, weight, bias = _find_end(source)
    factor = np.array([-0.5, 0.5] if weight.shape[1] == 1 else [1.0]) / spec.temperature
    weight, bias = (weight * factor).astype(np.float32), (bias * factor).astype(np.float32)
    copy = copy_model(model)
    if features not in find_outputs(copy):
        raise ExportError(f"The exported graph lacks the features {features!r}.")
    cleared = clear_name(copy, ACTIVATION)
    features = cleared if features == ACTIVATION else features
    copy.graph.node.extend(_make_nodes(copy, features, weight, bias))
    copy.graph.output.append(
        helper.make_tensor_value_info(ACTIVATION, TensorProto.FLOAT, ["N", len(spec.labels), "h", "w"])
    )
    name_nodes(copy)
    _check_mean(copy, spec, images)
    return copy


def _make_nodes(model: onnx.ModelProto, features: str, weight: Floats, bias: Floats) -> list[onnx.NodeProto]:
    """Features (N, C, h, w) times weight (C, K), added up over C, as operations that nothing quantizes."""
    shape = (weight.shape[1], weight.shape[0], 1, 1)
    names = {
        "axis": add_array(model, f"{ACTIVATION}/axis", np.array([1], np.int64)),
        "weight": add_array(model, f"{ACTIVATION}/weight", weight.T.reshape(shape)),
        "channels": add_array(model, f"{ACTIVATION}/channels", np.array([2], np.int64)),
        "bias": add_array(model, f"{ACTIVATION}/bias", bias.reshape(-1, 1, 1)),
    }
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Cast", [features], "features", {"to": TensorProto.FLOAT}),
        ("Unsqueeze", [f"{ACTIVATION}/features", names["axis"]], "places", {}),
        ("Mul", [f"{ACTIVATION}/places", names["weight"]], "products", {}),
        ("ReduceSum", [f"{ACTIVATION}/products", names["channels"]], "sums", {"keepdims": 0}),
    ]
    nodes = [helper.make_node(op, inputs, [f"{ACTIVATION}/{to}"], **more) for op, inputs, to, more in steps]
    nodes.append(helper.make_node("Add", [f"{ACTIVATION}/sums", names["bias"]], [ACTIVATION]))
    for node in nodes:
        node.name = f"{ACTIVATION}/{node.op_type}"
    return nodes


def _find_end(model: onnx.ModelProto) -> tuple[str, Floats, Floats]:
    """The features that are pooled, and the dense layer behind: weight (C, K), bias (K,). ExportError."""
    node = producer(model, LOGITS)
    bias: NDArray[np.floating] | None = None
    if node is not None and node.op_type == "Add":
        arrays = [find_array(model, name) for name in node.input]
        bias = next((array for array in arrays if array is not None), None)
        inner = next((name for name, array in zip(node.input, arrays, strict=True) if array is None), "")
        node = producer(model, inner)
    if node is None or node.op_type not in ("Gemm", "MatMul"):
        raise _refuse(node)
    weight = find_array(model, node.input[1])
    if weight is None:
        raise _refuse(node)
    if node.op_type == "Gemm":
        weight, own = _read_gemm(model, node, weight)
        bias = own if bias is None else bias + own
    pooled = producer(model, node.input[0])
    while pooled is not None and pooled.op_type in _RESHAPING:
        pooled = producer(model, pooled.input[0])
    if pooled is None or not _pools(pooled):
        raise _refuse(pooled)
    none = np.zeros(weight.shape[1], np.float32)
    return pooled.input[0], weight, none if bias is None else np.broadcast_to(bias.ravel(), none.shape)


def _read_gemm(model: onnx.ModelProto, node: onnx.NodeProto, weight: Floats) -> tuple[Floats, Floats]:
    """A Gemm's weight as (C, K), and its bias."""
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if values.get("transB", 0):
        weight = weight.T
    own = find_array(model, node.input[2]) if len(node.input) > 2 else None
    none = np.zeros(weight.shape[1], np.float32)
    return weight * values.get("alpha", 1.0), none if own is None else own.ravel() * values.get("beta", 1.0)


def _pools(node: onnx.NodeProto) -> bool:
    """Whether a node is the mean over height and width, channels first."""
    if node.op_type == "GlobalAveragePool":
        return True
    axes = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "axes"), [])
    return node.op_type == "ReduceMean" and sorted(axes) in (_SPATIAL, [-2, -1])


def _refuse(node: onnx.NodeProto | None) -> ExportError:
    found = "its input" if node is None else f"{node.op_type} ({node.name})"
    return ExportError(
        "A class activation needs a network that ends in global average pooling and one dense layer; this "
        "one "
        f"has {found} there. Leave --with-activation out; `wetread explain` works by "
        "occlusion with any network."
    )


def _check_mean(model: onnx.ModelProto, spec: ModelSpec, images: NDArray[np.uint8]) -> None:
    """Hold the map's mean over the places to the probabilities beside it. Raises ExportError."""
    session = open_plain(finish(model, spec))
    probabilities, activation = session.run([OUTPUT, ACTIVATION], {INPUT: images})
    logits = activation.mean(axis=(2, 3), dtype=np.float64)
    said = np.exp(logits - logits.max(axis=1, keepdims=True))
    said /= said.sum(axis=1, keepdims=True)
    difference = float(np.abs(said - probabilities).max())
    if not difference <= _TOLERANCE[spec.precision]:
        raise ExportError(
            f"The mean of the class activation does not give the probabilities: it is off by "
            f"{difference:.2g}. Leave --with-activation out."
        )
