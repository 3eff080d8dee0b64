"""Int8: write a float graph with integer products, so that no CPU can saturate in them.

The form is QDQ with uint8 activations: onnxruntime fuses DequantizeLinear, a layer and QuantizeLinear into
one integer layer. On a CPU without VNNI a product of uint8 and int8 is added in pairs to 16 bits
(VPMADDUBSW), which saturates; so weights are scaled until the two largest of an output channel sum to at
most 128: 255 x 128 < 32,768 whatever the pairing, and every CPU computes the same integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from wetread.errors import ExportError
from wetread.export.graph import (
    INPUT,
    LOGITS,
    add_array,
    copy_model,
    name_nodes,
    producer,
    prune,
    sort_nodes,
)
from wetread.export.ranges import Histogram, choose_range
from wetread.export.weights import Floats, Integers, output_axis, quantize_weight

_WEIGHTED = ("Conv", "Gemm", "MatMul")
# Layers that onnxruntime runs on quantized values: those that keep the input's scale, and the others.
_PASSING = ("MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Pad")
_COMPUTING = ("Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid")
_CLAMPS = ("Relu", "Clip")
_REQUANTIZED = ("Conv", "ConvTranspose", "Gemm")
_HEAD = ("wide", "probabilities")


@dataclass(frozen=True)
class Settings:
    """One way to quantize: the weights' type, how ranges are chosen, and the nodes that stay in float.

    `weights`: 's8' (int8 whose pairs cannot saturate) or 'u8' (uint8 around 128, full range: slower, and
    multiplied in 16 bits on every CPU).
    """

    weights: str = "s8"
    method: str = "percentile"
    excluded: tuple[str, ...] = ()

    def describe(self) -> str:
        """A short name, as in tables: u8s8 mse, conv2d/Conv in float."""
        name = f"u8{self.weights} {self.method}"
        if not self.excluded:
            return name
        few = " and ".join(self.excluded) if len(self.excluded) < 3 else f"{len(self.excluded)} layers"
        return f"{name}, {few} in float"


def weighted_nodes(model: onnx.ModelProto) -> list[str]:
    """The names of the layers whose products can be integers, in graph order."""
    arrays = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if _is_weighted(node, arrays)]


def _is_weighted(node: onnx.NodeProto, arrays: Set[str]) -> bool:
    return node.op_type in _WEIGHTED and node.input[1] in arrays and node.input[0] not in arrays


def activation_names(model: onnx.ModelProto) -> list[str]:
    """The float tensors that quantization may want the ranges of."""
    arrays = {tensor.name for tensor in model.graph.initializer}
    names = ["pixels"] if producer(model, "pixels") else []
    for node in model.graph.node:
        if node.op_type in (*_PASSING, *_COMPUTING, *_CLAMPS) or _is_weighted(node, arrays):
            names += [name for name in node.input[:1] if name not in arrays and producer(model, name)]
            names.append(node.output[0])
    return [name for name in dict.fromkeys(names) if name not in (LOGITS, *_HEAD, "shuffled", INPUT)]


def quantize_graph(
    model: onnx.ModelProto, histograms: Mapping[str, Histogram], settings: Settings
) -> onnx.ModelProto:
    """Return a copy of a float graph in which the layers that `settings` does not exclude are int8.

    Raises ExportError when nothing is left to quantize.
    """
    copy = copy_model(model)
    writer = _Writer(copy, histograms, settings)
    chosen = writer.choose_nodes()
    if not any(node.op_type in _WEIGHTED for node in chosen):
        raise ExportError(
            "No layer of the network can be quantized: all stay in float. Use --precision float32."
        )
    writer.feed_pixels(chosen)
    for node in chosen:
        writer.quantize_node(node)
    writer.finish()
    return copy


class _Writer:
    """Write QuantizeLinear and DequantizeLinear around the chosen nodes of one graph, tensor by tensor.

    A dequantized tensor keeps the float tensor's name, so that its readers need no change and a layer can
    be compared with the same layer in float.
    """

    def __init__(
        self, model: onnx.ModelProto, histograms: Mapping[str, Histogram], settings: Settings
    ) -> None:
        self.model, self.histograms, self.settings = model, histograms, settings
        self.arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self.scales: dict[str, tuple[np.float32, int]] = {}
        self.added: list[onnx.NodeProto] = []
        self.removed: list[onnx.NodeProto] = []

    def choose_nodes(self) -> list[onnx.NodeProto]:
        """The nodes to run on integers: the weighted ones, and what carries integers between them."""
        integers = {"pixels"}
        chosen = []
        for node in self.model.graph.node:
            inputs = [name for name in node.input if name and name not in self.arrays]
            if node.name in self.settings.excluded or node.output[0] in (*_HEAD, "pixels", "shuffled"):
                continue
            if _is_weighted(node, self.arrays.keys()):
                integers.update((node.input[0], node.output[0]))
            elif not self._carries(node) or not inputs or not integers.issuperset(inputs):
                continue
            integers.add(node.output[0])
            chosen.append(node)
        return chosen

    def _carries(self, node: onnx.NodeProto) -> bool:
        """Whether onnxruntime runs a layer without weights on integers, as written here."""
        constants = [self.arrays[name] for name in node.input if name in self.arrays]
        if node.output[0] == LOGITS:
            return False
        if node.op_type == "Clip":
            return len(constants) == 2 and constants[0] == 0
        if node.op_type in _COMPUTING:
            return not constants
        return node.op_type in _PASSING or node.op_type == "Relu"

    def feed_pixels(self, chosen: list[onnx.NodeProto]) -> None:
        """Read the image's own bytes as integers where `pixels` is their cast: no rounding at all."""
        cast = self.makers.get("pixels")
        if (
            cast is not None
            and cast.op_type == "Cast"
            and any(node in chosen for node in self.readers.get("pixels", ()))
        ):
            self.scales["pixels"] = (np.float32(1), 0)
            self.removed.append(cast)
            self._dequantize(cast.input[0], "pixels", self.scales["pixels"])

    def quantize_node(self, node: onnx.NodeProto) -> None:
        """Let one chosen node read and write integers."""
        dynamic = [name for name in node.input if name and name not in self.arrays]
        clamped = node.op_type in _CLAMPS and self._absorb(node)
        if not clamped:
            for name in dynamic:
                self._quantize_tensor(name, self._choose_scale(name))
        if _is_weighted(node, self.arrays.keys()):
            self._quantize_weight(node)
        if node.output[0] == LOGITS or self._is_clamped_later(node):
            return
        passing = node.op_type in _PASSING
        scale = self.scales[node.input[0]] if passing else self._choose_scale(node.output[0])
        self._quantize_tensor(node.output[0], scale)

    def _is_clamped_later(self, node: onnx.NodeProto) -> bool:
        """Whether the node's only reader is a Relu or Clip that the quantization itself can do."""
        readers = self.readers.get(node.output[0], [])
        return len(readers) == 1 and readers[0].op_type in _CLAMPS and self._absorbs(readers[0])

    def _absorbs(self, clamp: onnx.NodeProto) -> bool:
        maker = self.makers.get(clamp.input[0])
        return (
            clamp.name not in self.settings.excluded
            and maker is not None
            and maker.op_type in (*_WEIGHTED, *_COMPUTING)
            and maker.name not in self.settings.excluded
            and len(self.readers[clamp.input[0]]) == 1
            and self._carries(clamp)
        )

    def _absorb(self, clamp: onnx.NodeProto) -> bool:
        """Take away a clamp whose work the zero point and the top of the range do; False if they do not."""
        if not self._absorbs(clamp) or clamp.input[0] in self.scales:
            return False
        maker = self.makers[clamp.input[0]]
        self.removed.append(clamp)
        maker.output[0] = clamp.output[0]
        self.makers[clamp.output[0]] = maker
        return True

    def _choose_scale(self, name: str) -> tuple[np.float32, int]:
        """Scale and zero point of an activation, from its histogram; uint8 holds zero exactly."""
        if name in self.scales:
            return self.scales[name]
        low, high = choose_range(self.histograms[name], self.settings.method)
        scale = np.float32(max((high - low) / 255, 1e-12))
        return (scale, int(np.clip(np.rint(-low / scale), 0, 255)))

    def _quantize_tensor(self, name: str, scale: tuple[np.float32, int]) -> None:
        """Let what makes a tensor hand it over quantized; what reads it finds it dequantized."""
        if name in self.scales:
            return
        self.scales[name] = scale
        maker = self.makers[name]
        index = list(maker.output).index(name)
        maker.output[index] = f"{name}/float"
        inputs = [f"{name}/float", *self._scale_arrays(name, *scale)]
        if channels := self._float_channels(maker):
            inputs[1:] = self._channel_arrays(f"{name}/entry", *scale, channels)
        self.added.append(helper.make_node("QuantizeLinear", inputs, [f"{name}/int8"], axis=1))
        self._dequantize(f"{name}/int8", name, scale)

    def _dequantize(self, source: str, name: str, scale: tuple[np.float32, int]) -> None:
        inputs = [source, *self._scale_arrays(name, *scale)]
        self.added.append(helper.make_node("DequantizeLinear", inputs, [name]))

    def _float_channels(self, node: onnx.NodeProto) -> int:
        """The channels of a pooling layer that stays in float after a float convolution; 0 for any other.

        A scale for each channel keeps onnxruntime from quantizing before the pooling, which its float
        kernels do faster.
        """
        if node.op_type not in ("MaxPool", "AveragePool"):
            return 0
        above: onnx.NodeProto | None = node
        while above is not None and above.op_type in (*_CLAMPS, "MaxPool", "AveragePool"):
            if above.input[0] in self.scales:
                return 0
            above = self.makers.get(above.input[0])
        weight = self.arrays.get(above.input[1]) if above is not None and above.op_type == "Conv" else None
        return 0 if weight is None else weight.shape[0]

    def _channel_arrays(self, name: str, scale: np.float32, zero: int, channels: int) -> list[str]:
        """One scale and zero point repeated for each channel."""
        return [
            add_array(self.model, f"{name}/scale", np.full(channels, scale, np.float32)),
            add_array(self.model, f"{name}/zero", np.full(channels, zero, np.uint8)),
        ]

    def _scale_arrays(self, name: str, scale: np.float32, zero: int) -> list[str]:
        names = [f"{name}/scale", f"{name}/zero"]
        if names[0] not in self.arrays:
            for one, array in zip(names, (np.float32(scale), np.uint8(zero)), strict=True):
                self.arrays[one] = np.asarray(array)
                add_array(self.model, one, np.asarray(array))
        return names

    def _quantize_weight(self, node: onnx.NodeProto) -> None:
        """Write a node's weight as 8-bit integers and its bias as 32-bit ones."""
        weight = self.arrays[node.input[1]]
        axis = output_axis(node, weight.ndim)
        bias = self.arrays.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        source, _ = self.scales[node.input[0]]
        integers, scales = quantize_weight(weight, axis, self.settings.weights)
        if bias is not None:
            # A bias must fit 32 bits at the products' scale, and a channel of zeros has none of its own.
            floor = np.abs(bias.astype(np.float64)) / (float(source) * 2.0**30)
            integers, scales = quantize_weight(weight, axis, self.settings.weights, floor=floor)
        zeros = np.full(len(scales), 128 if integers.dtype == np.uint8 else 0, integers.dtype)
        node.input[1] = self._constant(f"{node.name}/weight", integers, scales, zeros, axis)
        if bias is not None:
            steps = (np.float32(source) * scales).astype(np.float32)
            whole = np.rint(bias.astype(np.float64) / steps).astype(np.int32)
            node.input[2] = self._constant(
                f"{node.name}/bias", whole, steps, np.zeros(len(steps), np.int32), 0
            )

    def _constant(self, name: str, integers: Integers, scales: Floats, zeros: Integers, axis: int) -> str:
        """Add integers with one scale for each channel and what dequantizes them; returns its output."""
        inputs = [
            add_array(self.model, f"{name}/{part}", array)
            for part, array in (("int", integers), ("scale", scales), ("zero", zeros))
        ]
        self.added.append(helper.make_node("DequantizeLinear", inputs, [name], axis=axis))
        return name

    def _shield(self, node: onnx.NodeProto) -> None:
        """Keep a float layer in float between quantized ones.

        Left as it is, onnxruntime's WeightBiasQuantization would quantize its weights at load, to the full
        range of int8 and out of this file's sight. It does not where the input has a scale for each channel,
        so that is what the input gets, all of them alike.
        """
        name = node.input[0]
        scale, zero = self.scales[name]
        weight = self.arrays[node.input[1]]
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        channels = weight.shape[1] * groups if node.op_type == "Conv" else weight.shape[0]
        plain = next(n for n in self.added if n.output[0] == name)
        inputs = [plain.input[0], *self._channel_arrays(node.name, scale, zero, channels)]
        output = name if len(self.readers[name]) == 1 else f"{node.name}/input"
        if output == name:
            self.added.remove(plain)
        self.added.append(helper.make_node("DequantizeLinear", inputs, [output], axis=1))
        node.input[0] = output

    def finish(self) -> None:
        """Put the new nodes in, in an order in which each follows what it reads."""
        graph = self.model.graph
        for node in self.removed:
            graph.node.remove(node)
        for node in graph.node:
            if node.op_type in _REQUANTIZED and node.input[1] in self.arrays and node.input[0] in self.scales:
                self._shield(node)
        graph.node.extend(self.added)
        sort_nodes(self.model)
        prune(self.model, [output.name for output in graph.output])
        name_nodes(self.model)
