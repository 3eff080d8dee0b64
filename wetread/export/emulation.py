"""What another CPU computes: a quantized graph run with one integer arithmetic or the other.

With VNNI (and on ARM) products of 8-bit integers add up exactly in 32 bits. Without it, x86 adds them in
pairs to 16 bits that saturate (VPMADDUBSW), before it adds the pairs up. The layers that multiply are
worked out here in numpy, either way; every other node runs in onnxruntime, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from wetread.errors import ExportError
from wetread.export.graph import open_plain, optimize_graph

Array = NDArray[Any]
Product = Callable[[Array, Array], Array]


def multiply_exactly(left: Array, right: Array) -> Array:
    """(M, K) by (K, N) whole numbers of 8 bits, added up exactly. int64 (M, N)."""
    # float64 holds every sum of fewer than 2**37 such products.
    return np.rint(left.astype(np.float64) @ right.astype(np.float64)).astype(np.int64)


class Emulator:
    """A quantized model (its file's bytes) on a CPU with the given integer product.

    Takes the graph as onnxruntime fuses it, so that what it multiplies in integers is what is emulated.
    """

    def __init__(self, model: bytes, *, product: Product = multiply_exactly) -> None:
        optimized = optimize_graph(onnx.load_from_string(model), "ORT_ENABLE_EXTENDED")
        self._nodes = list(optimized.graph.node)
        self._opsets = list(optimized.opset_import)
        self._constants = {t.name: numpy_helper.to_array(t) for t in optimized.graph.initializer}
        self._sessions: dict[str, Any] = {}
        self._product = product

    def classify(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, float32 (N, K), of uint8 images (N, height, width, channels)."""
        return self.compute(images, "probabilities")

    def compute(self, images: NDArray[np.uint8], output: str) -> NDArray[np.float32]:
        """One output of uint8 images (N, height, width, channels), float32 (N, ...)."""
        parts = [self._run(images[start : start + 16], output) for start in range(0, len(images), 16)]
        return np.concatenate(parts)

    def _run(self, images: NDArray[np.uint8], output: str) -> NDArray[np.float32]:
        values: dict[str, Array] = {**self._constants, "image": images}
        for node in self._nodes:
            inputs = [values[name] if name else None for name in node.input]
            if node.op_type in _INTEGER_LAYERS:
                values[node.output[0]] = _INTEGER_LAYERS[node.op_type](node, inputs, self._product)
            else:
                values.update(zip(node.output, self._run_node(node, values), strict=True))
        return values[output]

    def _run_node(self, node: onnx.NodeProto, values: dict[str, Array]) -> list[Array]:
        names = list(dict.fromkeys(name for name in node.input if name))
        if node.name not in self._sessions:
            self._sessions[node.name] = self._make_session(node, {name: values[name] for name in names})
        feeds = {name: values[name] for name in names}
        return self._sessions[node.name].run(list(node.output), feeds)  # type: ignore[no-any-return]

    def _make_session(self, node: onnx.NodeProto, values: dict[str, Array]) -> Any:
        def describe(name: str, array: Array | None) -> onnx.ValueInfoProto:
            if array is None:
                return onnx.ValueInfoProto(name=name)
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            return helper.make_tensor_value_info(name, kind, [None] * array.ndim)

        inputs = [describe(name, values[name]) for name in values if name not in self._constants]
        constants = [
            numpy_helper.from_array(self._constants[name], name) for name in values if name in self._constants
        ]
        outputs = [describe(name, None) for name in node.output]
        graph = helper.make_graph([node], "one", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=self._opsets, ir_version=8)
        return _FeedOnly(open_plain(model.SerializeToString()))


class _FeedOnly:
    """A session that ignores what is fed beyond its inputs."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = {entry.name for entry in session.get_inputs()}

    def run(self, outputs: list[str], feeds: dict[str, Array]) -> list[Array]:
        found: list[Array] = self._session.run(outputs, {k: v for k, v in feeds.items() if k in self._names})
        return found


def _requantize(sums: Array, factor: Array, scale: Array, zero: Array) -> Array:
    """As MLAS does: the 32-bit sum in float32, times the factor, to the nearest even step, held to 8 bits."""
    limits = np.iinfo(zero.dtype)
    steps = np.rint(sums.astype(np.float32) * factor.astype(np.float32)) + np.float32(zero)
    result: Array = np.clip(steps, limits.min, limits.max).astype(zero.dtype)
    return result


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def _convolve(node: onnx.NodeProto, inputs: list[Any], product: Product) -> Array:
    """QLinearConv: rows of pixels in the order (row, column, channel), as onnxruntime lays them out."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *rest = inputs
    groups = _attribute(node, "group", 1)
    columns, height, width = _unfold(node, x, w.shape[2:], x_zero)
    batch, filters, share = x.shape[0], w.shape[0], x.shape[1] // groups
    sums = np.empty((batch * height * width, filters), np.int64)
    multiply = multiply_exactly if share == 1 and groups > 1 else product  # depthwise kernels widen first
    each = filters // groups
    for group in range(groups):
        rows = columns[..., group * share : (group + 1) * share].reshape(len(sums), -1)
        kernel = w[group * each : (group + 1) * each].transpose(2, 3, 1, 0).reshape(-1, each)
        zeros = np.broadcast_to(w_zero, (filters,))[group * each : (group + 1) * each]
        sums[:, group * each : (group + 1) * each] = _centred(rows, x_zero, kernel, zeros, multiply)
    if rest and rest[0] is not None:
        sums += rest[0]
    factor = (x_scale * w_scale / y_scale).astype(np.float32)
    result = _requantize(sums, factor, y_scale, y_zero)
    return result.reshape(batch, height, width, filters).transpose(0, 3, 1, 2)


def _centred(left: Array, left_zero: Array, right: Array, right_zero: Array, product: Product) -> Array:
    """(left - its zero) times (right - its zero), through the products of the stored integers."""
    sums: Array = product(left, right)
    sums = sums - np.int64(left_zero) * right.sum(axis=0, dtype=np.int64)
    if np.any(right_zero):
        kept = left.sum(axis=1, dtype=np.int64)[:, None] - left.shape[1] * np.int64(left_zero)
        sums = sums - kept * np.asarray(right_zero, np.int64)
    return sums


def _unfold(node: onnx.NodeProto, x: Array, kernel: tuple[int, ...], zero: Array) -> tuple[Array, int, int]:
    """All windows of x (N, C, H, W): (N, out, out, kernel, kernel, C), padded with the zero point."""
    strides, dilations = _attribute(node, "strides", [1, 1]), _attribute(node, "dilations", [1, 1])
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = _find_pads(node, x.shape[2:], reach, strides)
    around = [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])]
    padded = np.pad(x, around, constant_values=zero.item())
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    return windows.transpose(0, 2, 3, 4, 5, 1), windows.shape[2], windows.shape[3]


def _find_pads(
    node: onnx.NodeProto, sides: tuple[int, ...], reach: list[int], strides: list[int]
) -> list[int]:
    automatic = _attribute(node, "auto_pad", b"NOTSET")
    if automatic in (b"NOTSET", b"VALID"):
        return list(_attribute(node, "pads", [0, 0, 0, 0])) if automatic == b"NOTSET" else [0] * 4
    totals = [max((-(-s // t) - 1) * t + r - s, 0) for s, r, t in zip(sides, reach, strides, strict=True)]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return small + large if automatic == b"SAME_UPPER" else large + small


def _multiply(node: onnx.NodeProto, inputs: list[Any], product: Product) -> Array:
    """QLinearMatMul with a weight (K, N) on the right."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs
    _need_matrix(node, b)
    sums = _centred(a.reshape(-1, a.shape[-1]), a_zero, b, b_zero, product)
    result = _requantize(sums, np.asarray(a_scale * b_scale / y_scale, np.float32), y_scale, y_zero)
    return result.reshape(*a.shape[:-1], b.shape[1])


def _multiply_dense(node: onnx.NodeProto, inputs: list[Any], product: Product) -> Array:
    """QGemm: with a bias; to float where it has no output scale."""
    a, a_scale, a_zero, b, b_scale, b_zero, *rest = inputs
    bias, y_scale, y_zero = (rest + [None] * 3)[:3]
    b = b.T if _attribute(node, "transB", 0) else b
    sums = _centred(a, a_zero, b, b_zero, product)
    if bias is not None:
        sums = sums + bias
    factor = np.asarray(a_scale * b_scale, np.float32)
    if y_scale is None:
        return sums.astype(np.float32) * factor
    return _requantize(sums, np.asarray(factor / y_scale, np.float32), y_scale, y_zero)


def _multiply_to_float(node: onnx.NodeProto, inputs: list[Any], product: Product) -> Array:
    """MatMulIntegerToFloat: a weight (K, N) on the right, the sums scaled to float, a float bias added."""
    a, b, a_scale, b_scale, a_zero, b_zero, bias = [*inputs, None, None, None][:7]
    _need_matrix(node, b)
    a_zero = np.zeros((), a.dtype) if a_zero is None else a_zero
    b_zero = np.zeros((), b.dtype) if b_zero is None else b_zero
    sums = _centred(a.reshape(-1, a.shape[-1]), a_zero, b, b_zero, product)
    result = sums.astype(np.float32) * np.asarray(a_scale * b_scale, np.float32)
    if bias is not None:
        result = result + bias
    return result.astype(np.float32).reshape(*a.shape[:-1], b.shape[1])


def _need_matrix(node: onnx.NodeProto, weight: Array) -> None:
    if weight.ndim != 2:
        raise ExportError(
            f"The weight of {node.name} must have two axes; its shape is {weight.shape}: leave it in float."
        )


_INTEGER_LAYERS: dict[str, Callable[[onnx.NodeProto, list[Any], Product], Array]] = {
    "QLinearConv": _convolve,
    "QLinearMatMul": _multiply,
    "QGemm": _multiply_dense,
    "MatMulIntegerToFloat": _multiply_to_float,
}
