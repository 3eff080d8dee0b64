"""The first convolution reads blocks of pixels: every integer behind it stays what it was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from wetread.export import first_convolution
from wetread.export.first_convolution import read_blocks, read_blocks_if_same
from wetread.export.graph import (
    add_outputs,
    copy_model,
    find_outputs,
    name_nodes,
    open_plain,
    optimize_graph,
)
from wetread.export.quantize import Settings, activation_names, quantize_graph
from wetread.export.ranges import collect_histograms

SECOND = "second"


@dataclass(frozen=True)
class Beginning:
    """A picture's size, and the convolution that reads it."""

    height: int = 24
    width: int = 24
    channels: int = 1
    kernel: int = 3
    stride: int = 1
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    pool: bool = False
    relu: bool = True
    bias: bool = True
    filters: int = 8
    sides: tuple[int, int] | None = None  # that the network gives a gray picture, if it does
    first: str = "first"

    def build(self) -> onnx.ModelProto:
        """A float graph: the convolution, a second one that reads its result, and a head."""
        rng = np.random.default_rng(7)
        size = (self.filters, self.channels, self.kernel, self.kernel)
        arrays = {
            "weight": rng.normal(size=size) / (128 * np.prod(size[1:])),
            "bias": rng.normal(size=self.filters) / 5,
            "other": rng.normal(size=(4, self.filters, 3, 3)),
        }
        if self.channels == 1:
            moved = helper.make_node("Reshape", ["image", "shape"], ["shuffled"])
        else:
            moved = helper.make_node("Transpose", ["image"], ["shuffled"], perm=[0, 3, 1, 2])
        window = {"kernel_shape": [self.kernel] * 2, "strides": [self.stride] * 2, "pads": list(self.pads)}
        inputs = ["pixels", "weight", *(["bias"] if self.bias else [])]
        nodes = [
            moved,
            helper.make_node("Cast", ["shuffled"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Conv", inputs, [self.first], **window),
        ]
        result = self.first
        if self.relu:
            nodes.append(helper.make_node("Relu", [result], [result := "positive"]))
        if self.pool:
            halved = {"kernel_shape": [2, 2], "strides": [2, 2]}
            nodes.append(helper.make_node("MaxPool", [result], [result := "pooled"], **halved))
        nodes += [
            helper.make_node("Conv", [result, "other"], [SECOND], kernel_shape=[3, 3], pads=[1] * 4),
            helper.make_node("GlobalAveragePool", [SECOND], ["means"]),
            helper.make_node("Flatten", ["means"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"]),
        ]
        tensors = [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()]
        shape = np.array([-1, 1, *(self.sides or (self.height, self.width))], np.int64)
        tensors.append(numpy_helper.from_array(shape, "shape"))
        sides = ["N", self.height, self.width, self.channels]
        entry = helper.make_tensor_value_info("image", TensorProto.UINT8, sides)
        answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 4])
        graph = helper.make_graph(nodes, "beginning", [entry], [answer], tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        name_nodes(model)
        return model

    def draw(self, count: int, seed: int) -> np.ndarray:
        images = np.random.default_rng(seed).integers(
            0, 256, (count, self.height, self.width, self.channels), np.uint8
        )
        return np.sort(images, axis=2)  # smooth along a row, as pictures are

    def quantize(self, excluded: tuple[str, ...] = (), *, weights: str = "s8") -> onnx.ModelProto:
        model = self.build()
        histograms = collect_histograms(model, activation_names(model), self.draw(8, 1))
        return quantize_graph(
            model, histograms, Settings(weights=weights, method="minmax", excluded=excluded)
        )


def run(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    """The second convolution's result, and the answer."""
    return open_plain(add_outputs(model, [SECOND]).SerializeToString()).run(None, {"image": images})


def hold(beginning: Beginning, weights: str = "s8") -> onnx.ModelProto:
    """Every value behind the first convolution is what it was; returns the graph that reads blocks."""
    plain = beginning.quantize(weights=weights)
    blocks = read_blocks(plain)
    images = beginning.draw(3, 2)
    for expected, found in zip(run(plain, images), run(blocks, images), strict=True):
        assert np.array_equal(expected, found)
    return blocks


@st.composite
def beginnings(draw):
    kernel = draw(st.integers(2, 7))
    pads = draw(st.tuples(*[st.integers(0, kernel - 1)] * 4))
    found = Beginning(
        height=draw(st.integers(10, 25)),
        width=draw(st.integers(10, 25)),
        channels=draw(st.sampled_from([1, 3])),
        kernel=kernel,
        stride=draw(st.integers(1, 2)),
        pads=pads,
        pool=draw(st.booleans()),
        relu=draw(st.booleans()),
        bias=draw(st.booleans()),
        filters=draw(st.sampled_from([3, 8, 16])),
    )
    assume(found.height + pads[0] + pads[2] >= kernel + 4)
    assume(found.width + pads[1] + pads[3] >= kernel + 4)
    return found


@given(beginnings(), st.sampled_from(["s8", "u8"]))
@settings(max_examples=60, deadline=None)
def test_any_first_convolution_keeps_every_value(beginning, weights):
    hold(beginning, weights)


def test_full_range_weights_are_surrounded_by_what_stands_for_zero():
    blocks = hold(Beginning(stride=2, pads=(0, 0, 1, 1)), "u8")
    array = next(t for t in blocks.graph.initializer if t.name.endswith("/weight/blocks/int"))
    weight = numpy_helper.to_array(array)  # 3 x 3 in 4 x 4: the last row and column are added
    assert weight.dtype == np.uint8 and (weight[:, 2:, 1, :] == 128).all() and not (weight == 0).all(0).any()


@pytest.mark.parametrize("name", ["blocks", "blocks/last", "blocks/pads"])
def test_a_layer_may_have_any_name(name):
    onnx.checker.check_model(hold(Beginning(pool=True, pads=(1, 1, 1, 1), first=name, relu=False)))


@pytest.mark.parametrize(
    ("beginning", "kernel", "pool"),
    [
        (Beginning(stride=2, pads=(0, 0, 1, 1)), [8, 4, 2, 2], None),  # "same" of stride 2
        (Beginning(pool=True), [4 * 8, 4, 2, 2], [1, 4]),
        (Beginning(pool=True, pads=(1, 1, 1, 1), channels=3), [4 * 8, 12, 2, 2], [1, 4]),
        (Beginning(pads=(1, 1, 1, 1)), [4 * 8, 4, 2, 2], None),
        (Beginning(stride=2, kernel=7, pads=(3, 3, 3, 3)), [8, 4, 4, 4], None),
        (Beginning(height=25, width=23, pool=True), [4 * 8, 4, 2, 2], [1, 4]),  # a row and a column are cut
    ],
)
def test_the_usual_beginnings_read_blocks(beginning, kernel, pool):
    fused = optimize_graph(hold(beginning), "ORT_ENABLE_EXTENDED")
    first = next(node for node in fused.graph.node if node.op_type == "QLinearConv")
    weight = next(t for t in fused.graph.initializer if t.name == first.input[3])
    assert list(weight.dims) == kernel
    pools = [node for node in fused.graph.node if node.op_type == "MaxPool"]
    assert [list(helper.get_node_attr_value(node, "kernel_shape")) for node in pools] == (
        [pool] if pool else []
    )


def change(model: onnx.ModelProto, **attributes: object) -> onnx.ModelProto:
    """A copy whose first convolution has other attributes."""
    copy = copy_model(model)
    first = next(node for node in copy.graph.node if node.op_type == "Conv")
    first.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    return copy


@pytest.mark.parametrize(
    "model",
    [
        Beginning().build(),  # float
        Beginning().quantize(excluded=("Conv_2",)),  # its first convolution in float
        Beginning(stride=3).quantize(),
        Beginning(stride=2, channels=3).quantize(),  # it would be slower
        Beginning(kernel=4, pads=(0, 0, 0, 0)).quantize(),  # 21 results a side, and no maximum behind
        change(Beginning().quantize(), dilations=[2, 2]),
        change(Beginning().quantize(), auto_pad="SAME_UPPER"),
        Beginning(sides=(48, 12)).quantize(),
        Beginning(width=1, kernel=7, stride=2, pads=(3, 7, 1, 0)).quantize(),  # its one column is not read
        add_outputs(Beginning().quantize(), ["pixels"]),
        add_outputs(Beginning(stride=2).quantize(), ["first/int8", "positive/int8"]),
    ],
    ids=[
        "float",
        "float-first",
        "stride-3",
        "stride-2-color",
        "odd",
        "dilated",
        "auto-pad",
        "other-sides",
        "nothing",
        "pixels",
        "result",
    ],
)
def test_any_other_graph_is_left_as_it_is(model):
    assert read_blocks(model) is model


def test_a_result_that_others_read_too_is_moved_back_for_them():
    plain = add_outputs(Beginning(pool=True).quantize(), ["positive"])
    blocks = read_blocks(plain)
    assert blocks is not plain
    images = Beginning().draw(2, 3)
    for expected, found in zip(run(plain, images), run(blocks, images), strict=True):
        assert np.array_equal(expected, found)


def test_what_has_a_layers_name_is_what_that_layer_gives():
    """The sets beside one another are none: `parity --by-layer` takes tensors by their names."""
    kept = [
        "positive" in find_outputs(read_blocks(Beginning(pool=pool).quantize())) for pool in (False, True)
    ]
    assert kept == [True, False]


def test_it_is_a_standard_graph():
    blocks = read_blocks(Beginning(pool=True, pads=(1, 1, 1, 1)).quantize())
    onnx.checker.check_model(blocks, full_check=True)
    assert {node.domain for node in blocks.graph.node} == {""}


def test_reading_blocks_twice_changes_nothing():
    blocks = read_blocks(Beginning(stride=2).quantize())
    assert read_blocks(blocks) is blocks


def test_a_file_whose_answers_would_change_keeps_its_graph(monkeypatch):
    beginning = Beginning(pool=True)
    plain, images = beginning.quantize(), beginning.draw(3, 2)
    assert read_blocks_if_same(plain, images) is not plain
    spread = first_convolution._Rewriting._spread
    monkeypatch.setattr(
        first_convolution._Rewriting, "_spread", lambda self, *arrays: spread(self, *arrays)[::-1]
    )
    assert read_blocks_if_same(plain, images) is plain
