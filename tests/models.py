"""Tiny models for tests, built with onnx alone: real files that the runtime accepts, in milliseconds."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.spec import METADATA_KEY, ModelSpec, stamp_digest

TWO_LABELS = ("NORMAL", "PNEUMONIA")


def build_model(spec: ModelSpec, *, seed: int = 0, weight: float | None = None) -> bytes:
    """A network that averages blocks of pixels and adds them up: softmax over random weights.

    `weight`: of all of them. With 1e37 and 64 blocks it overflows on bright images.
    """
    height, width, channels = spec.pixels.shape
    random, labels = np.random.default_rng(seed), len(spec.labels)
    block = next(size for size in (8, 4, 2, 1) if height % size == 0 and width % size == 0)
    features = (height // block) * (width // block) * channels
    weights = (random.normal(size=(features, labels)) / np.sqrt(features) * 4).astype(np.float32)
    if weight is not None:
        weights = np.full_like(weights, weight)
    constants = {
        "scale": np.float32(1 / 255),
        "weights": weights,
        "bias": random.normal(size=labels).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["means"], kernel_shape=[block] * 2, strides=[block] * 2),
        helper.make_node("Flatten", ["means"], ["features"]),
        helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", height, width, channels])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", labels])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(model)
    return stamp_digest(model.SerializeToString())


def toy_spec(*, labels: tuple[str, ...] = TWO_LABELS, size: int = 64, color: str = "gray") -> ModelSpec:
    """A spec for `build_model`."""
    return ModelSpec(labels=labels, pixels=PixelRecipe(height=size, width=size, color=color))
