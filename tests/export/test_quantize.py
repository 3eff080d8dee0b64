"""Int8 graphs: fed with the image's own bytes, proven safe, and float where they say float."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.export.networks import SIDE, draw_lamp, toy_spec
from wetread.errors import ExportError
from wetread.export.contract import finish
from wetread.export.graph import copy_model, optimize_graph
from wetread.export.quantize import Settings, activation_names, quantize_graph, weighted_nodes
from wetread.export.ranges import METHODS, Histogram, choose_range, collect_histograms
from wetread.runtime.images.pixels import resize
from wetread.runtime.model.saturation import prove_layers
from wetread.runtime.scoring.classifier import Classifier


@pytest.fixture(scope="module")
def pixels():
    return np.stack([resize(draw_lamp(seed)[0][..., None], toy_spec().pixels) for seed in range(400, 440)])


@pytest.fixture(scope="module")
def graph(float32_model):
    return onnx.load(float32_model)


@pytest.fixture(scope="module")
def histograms(graph, pixels):
    return collect_histograms(graph, activation_names(graph), pixels)


def operations(model):
    return [node.op_type for node in optimize_graph(model, "ORT_ENABLE_EXTENDED").graph.node]


def classify(model, pixels):
    return Classifier(finish(copy_model(model), toy_spec()), device="cpu").classify(pixels)


@pytest.mark.parametrize("weights", ["s8", "u8"])
@pytest.mark.parametrize("method", METHODS)
def test_every_form_is_near_float32_and_proven(graph, histograms, pixels, weights, method):
    quantized = quantize_graph(graph, histograms, Settings(weights=weights, method=method))
    onnx.checker.check_model(quantized)
    difference = np.abs(classify(quantized, pixels) - classify(graph, pixels))
    assert 0 < difference.max() < 0.1
    proofs = prove_layers(finish(quantized, toy_spec()))
    assert [proof.layer for proof in proofs] == weighted_nodes(graph)
    assert {proof.kind for proof in proofs} == {"int8" if weights == "s8" else "uint8"}
    assert all(proof.holds for proof in proofs)


def test_all_layers_are_fused_to_integers_and_read_the_bytes_as_they_are(graph, histograms):
    quantized = quantize_graph(graph, histograms, Settings())
    assert operations(quantized) == [
        "Reshape",
        "QLinearConv",
        "MaxPool",
        "QLinearConv",
        "MaxPool",
        "Transpose",
        "Reshape",
        "QGemm",
        "QGemm",
        "Mul",
        "Softmax",
    ]
    (feed,) = [node for node in quantized.graph.node if node.output[0] == "pixels"]
    assert (feed.op_type, feed.input[0]) == ("DequantizeLinear", "shuffled")
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    assert (float(values["pixels/scale"]), int(values["pixels/zero"])) == (1.0, 0)


@pytest.mark.parametrize("index", range(4))
def test_a_layer_that_is_excluded_stays_float_in_the_runtime(graph, histograms, pixels, index):
    """onnxruntime quantizes a float layer between quantized ones by itself, unless it is shielded."""
    nodes = weighted_nodes(graph)
    quantized = quantize_graph(graph, histograms, Settings(excluded=(nodes[index],)))
    fused = operations(quantized)
    assert sum(name in ("QLinearConv", "QGemm") for name in fused) == 3
    assert sum(name in ("Conv", "FusedConv", "Gemm", "FusedGemm") for name in fused) == 1
    assert all(proof.holds for proof in prove_layers(finish(quantized, toy_spec())))
    assert np.abs(classify(quantized, pixels) - classify(graph, pixels)).max() < 0.1


def test_the_trap_that_the_shield_avoids_is_there(graph, histograms):
    """Without the shield onnxruntime gives the layer full-range int8 weights, and the proof says so."""
    node = weighted_nodes(graph)[1]
    quantized = quantize_graph(graph, histograms, Settings(excluded=(node,)))
    (layer,) = [n for n in quantized.graph.node if n.name == node]
    (shield,) = [n for n in quantized.graph.node if n.output[0] == layer.input[0]]
    for name, kind in zip(shield.input[1:], (np.float32, np.uint8), strict=True):
        (tensor,) = [t for t in quantized.graph.initializer if t.name == name]
        first = numpy_helper.to_array(tensor)[0]
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(first, kind), name))
    assert operations(quantized).count("QLinearConv") == 2
    (failing,) = [proof for proof in prove_layers(finish(quantized, toy_spec())) if not proof.holds]
    assert (failing.layer, failing.kind) == (node, "float32")
    fused = finish(optimize_graph(quantized, "ORT_ENABLE_EXTENDED"), toy_spec())
    assert max(proof.largest_pair or 0 for proof in prove_layers(fused)) > 128


def test_nothing_left_to_quantize_is_an_error(graph, histograms):
    with pytest.raises(ExportError, match="all stay in float"):
        quantize_graph(graph, histograms, Settings(excluded=tuple(weighted_nodes(graph))))


def test_histograms_need_images(graph):
    with pytest.raises(ExportError, match="--calibration"):
        collect_histograms(graph, ["pixels"], np.empty((0, SIDE, SIDE, 1), np.uint8))


def test_histograms_count_every_value(graph, histograms, pixels):
    assert histograms["pixels"].counts.sum() == pixels.size
    assert (histograms["pixels"].low, histograms["pixels"].high) == (0.0, float(pixels.max()))


def test_ranges_leave_out_what_is_rare():
    counts = np.zeros(2048, np.int64)
    counts[1024:1124] = 10_000
    counts[2047] = 1  # one value, far out
    histogram = Histogram(low=-1.0, high=1.0, counts=counts)
    assert choose_range(histogram, "minmax") == (-1.0, 1.0)
    low, high = choose_range(histogram, "percentile")
    assert (low, high) == (0.0, pytest.approx(100 / 1024, abs=2e-3))
    low, high = choose_range(histogram, "mse")
    assert high == pytest.approx(0.28)


def residual_graph() -> onnx.ModelProto:
    """A graph with what real networks have: a clip, an addition, padding, a shared input, a mean, a gate."""
    random = np.random.default_rng(3)

    def weight(*shape):
        return random.normal(0, 0.3, shape).astype(np.float32)

    arrays = {
        "w1": weight(8, 1, 3, 3) / 50,
        "b1": weight(8),
        "w2": weight(8, 8, 3, 3),
        "b2": weight(8),
        "w3": weight(8, 1, 3, 3),
        "w4": weight(8, 2),
        "b4": weight(2),
        "shape": np.array([0, 1, SIDE, SIDE]),
        "zero": np.float32(0),
        "six": np.float32(6),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "flat": np.array([0, 8]),
        "factor": np.ones((1, 1), np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["shuffled"]),
        helper.make_node("Cast", ["shuffled"], ["pixels"], to=1),
        helper.make_node("Conv", ["pixels", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c1", "zero", "six"], ["r1"]),
        helper.make_node("Pad", ["r1", "pads"], ["p1"]),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"]),
        helper.make_node("Add", ["c2", "r1"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3"], ["c3"], group=8, auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("Sigmoid", ["c3"], ["gate"]),
        helper.make_node("Mul", ["c3", "gate"], ["swish"]),
        helper.make_node("GlobalAveragePool", ["swish"], ["mean"]),
        helper.make_node("Reshape", ["mean", "flat"], ["features"]),
        helper.make_node("Gemm", ["features", "w4", "b4"], ["logits"]),
        helper.make_node("Mul", ["logits", "factor"], ["wide"]),
        helper.make_node("Softmax", ["wide"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("image", 2, ["N", SIDE, SIDE, 1])],
        [helper.make_tensor_value_info("probabilities", 1, ["N", 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    return model


def test_a_graph_of_many_kinds_of_layers(pixels):
    model = residual_graph()
    found = collect_histograms(model, activation_names(model), pixels)
    quantized = quantize_graph(model, found, Settings(method="minmax"))
    fused = operations(quantized)
    assert fused.count("QLinearConv") == 3
    for name in ("QLinearAdd", "QLinearSigmoid", "QLinearMul", "QLinearGlobalAveragePool", "QGemm"):
        assert name in fused
    assert not {"Conv", "Gemm", "Relu", "Clip"}.intersection(fused)
    assert np.abs(classify(quantized, pixels) - classify(model, pixels)).max() < 0.05
