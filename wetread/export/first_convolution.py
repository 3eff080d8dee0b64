"""Let the first convolution of an int8 graph read blocks of 2 x 2 pixels instead of single ones.

For example: 3 x 3 of stride 2 on (224, 224, 1) becomes 2 x 2 of stride 1 on (112, 112, 4). With stride 1 it
becomes 2 x 2 with four times the filters, one set for each pixel of a block: a 2 x 2 maximum behind it takes
the largest of the sets, anything else finds them moved back to where the pixels were. The weights that are
added are 0, so every integer stays what it was.

onnxruntime has direct integer kernels from 4 input channels on. For 1 or 3 it copies the pixels of each
window into a matrix first, which took 30% of the packaged model's time and 61% of model-3's at 224 x 224 on
an Intel Xeon with VNNI: docs/guides/int8.md has what this gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from wetread.export.graph import (
    INPUT,
    add_array,
    consumers,
    copy_model,
    find_array,
    find_free_name,
    name_nodes,
    open_plain,
    producer,
    prune,
    sort_nodes,
)

_BLOCK = 2
_PARTS = ("int", "scale", "zero")  # of an array as DequantizeLinear reads it, in its order


def read_blocks(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an int8 graph whose first convolution reads blocks; `model` itself where that does not apply."""
    copy = copy_model(model)
    start = _find_start(copy)
    if start is None:
        return model
    _Rewriting(copy, start).write()
    sort_nodes(copy)
    prune(copy, [output.name for output in copy.graph.output])
    name_nodes(copy)
    return copy


def read_blocks_if_same(model: onnx.ModelProto, images: NDArray[np.uint8]) -> onnx.ModelProto:
    """As `read_blocks`, but `model` itself unless every output is the same to the bit.

    `images`: uint8 (N, H, W, C), drawn and real ones, to compare on.
    """
    blocks = read_blocks(model)
    if blocks is model:
        return model
    pairs = zip(_run(model, images), _run(blocks, images), strict=True)
    return blocks if all(np.array_equal(one, other) for one, other in pairs) else model


def _run(model: onnx.ModelProto, images: NDArray[np.uint8]) -> list[NDArray[Any]]:
    found: list[NDArray[Any]] = open_plain(model.SerializeToString()).run(None, {INPUT: images})
    return found


@dataclass(frozen=True)
class _Side:
    """One side of the picture, in pixels and blocks.

    `before` and `after`: pixels to add to the image (below 0: to cut). `leading` and `trailing`: blocks that
    the convolution pads. `offset`: where the old kernel begins in its first block. `kernel`, `made`: blocks.
    """

    size: int
    before: int
    after: int
    leading: int
    trailing: int
    offset: int
    kernel: int
    made: int

    @property
    def blocks(self) -> int:
        return (self.before + self.size + self.after) // _BLOCK


def _measure_side(size: int, kernel: int, stride: int, pads: tuple[int, int]) -> _Side:
    """How a side of `size` pixels is cut into blocks; with stride 1 a block has two results."""
    steps = size + sum(pads) - kernel
    made = (steps + 1) // _BLOCK if stride == 1 else steps // _BLOCK + 1
    before = pads[0] % _BLOCK if stride == 1 else 0  # one pixel more costs less than a wider kernel
    leading = -(-(pads[0] - before) // _BLOCK)
    offset = leading * _BLOCK - (pads[0] - before)
    reach = offset + kernel + (1 if stride == 1 else 0)
    blocks = -(-reach // _BLOCK)
    after = (made + blocks - 1 - leading) * _BLOCK - (before + size)
    trailing = max(after, 0) // _BLOCK
    return _Side(size, before, after - trailing * _BLOCK, leading, trailing, offset, blocks, made)


@dataclass(frozen=True)
class _Start:
    """The nodes at the beginning of a graph that blocks can replace.

    `entry`: the DequantizeLinear that makes the pixels. `written`, `read`: QuantizeLinear and
    DequantizeLinear behind the convolution. `pool`: the maximum that alone reads its result, if there is one.
    `sets`: 4 where each pixel of a block has filters of its own.
    """

    entry: onnx.NodeProto
    conv: onnx.NodeProto
    written: onnx.NodeProto
    read: onnx.NodeProto
    pool: onnx.NodeProto | None
    sets: int
    filters: int
    channels: int
    sides: tuple[_Side, _Side]


def _find_start(model: onnx.ModelProto) -> _Start | None:
    shape = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    entry = producer(model, "pixels")
    if entry is None or entry.op_type != "DequantizeLinear" or len(shape) != 3:
        return None
    mover, zero = producer(model, entry.input[0]), find_array(model, entry.input[2])
    conv = _only_reader(model, "pixels", "Conv")
    if mover is None or zero is None or zero.any() or conv is None:
        return None
    weight = _stored_weight(model, conv)
    if weight is None or not _moves_channels(model, mover, shape):
        return None
    written = _only_reader(model, conv.output[0], "QuantizeLinear")
    read = written and _only_reader(model, written.output[0], "DequantizeLinear")
    kernel, stride, pads = _plain_attributes(conv)
    if written is None or read is None or stride not in (1, _BLOCK) or kernel < 2:
        return None
    pool = _find_pool(model, written, read) if stride == 1 else None
    outputs = [shape[at] + pads[at] + pads[at + 2] - kernel + 1 for at in (0, 1)]
    if stride == 1 and pool is None and any(output % _BLOCK for output in outputs):
        return None
    sides = [_measure_side(shape[at], kernel, stride, (pads[at], pads[at + 2])) for at in (0, 1)]
    if any(side.made < 1 or side.blocks < 1 for side in sides):
        return None
    if not _pays(shape[2], stride):
        return None
    sets = _BLOCK**2 if stride == 1 else 1
    return _Start(entry, conv, written, read, pool, sets, len(weight), shape[2], (sides[0], sides[1]))


def _pays(channels: int, stride: int) -> bool:
    """Whether blocks are faster: of colours with stride 2 they are not (benchmarks/blocks.py)."""
    return channels == 1 or stride == 1


def _find_pool(
    model: onnx.ModelProto, written: onnx.NodeProto, read: onnx.NodeProto
) -> onnx.NodeProto | None:
    """The 2 x 2 maximum that alone reads a result and keeps its scale."""
    pool = _only_reader(model, read.output[0], "MaxPool")
    pooled = pool and _only_reader(model, pool.output[0], "QuantizeLinear")
    if pool is None or pooled is None or not _halves(pool) or not _same_scale(model, written, pooled):
        return None
    return pool


def _only_reader(model: onnx.ModelProto, name: str, operation: str) -> onnx.NodeProto | None:
    readers = consumers(model, name)
    wanted = any(output.name == name for output in model.graph.output)
    return readers[0] if len(readers) == 1 and readers[0].op_type == operation and not wanted else None


def _moves_channels(model: onnx.ModelProto, mover: onnx.NodeProto, shape: list[int]) -> bool:
    """Whether a node only brings the channels of images of `shape`, (H, W, C), to the front."""
    if list(mover.input[:1]) != [INPUT]:
        return False
    if mover.op_type == "Transpose":
        return list(helper.get_node_attr_value(mover, "perm")) == [0, 3, 1, 2]
    if mover.op_type != "Reshape" or shape[2] != 1:
        return False
    target = find_array(model, mover.input[1])  # a Reshape layer may give the picture other sides
    return target is not None and target.tolist()[1:] == [1, *shape[:2]]


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _plain_attributes(conv: onnx.NodeProto) -> tuple[int, int, list[int]]:
    """Kernel, stride and pads of a square convolution; a stride of 0 for any other."""
    found = _attributes(conv)
    kernel, strides = found.get("kernel_shape", [0, 1]), found.get("strides", [1, 1])
    plain = (
        kernel[0] == kernel[1]
        and strides[0] == strides[1]
        and found.get("group", 1) == 1
        and set(found.get("dilations", [1])) == {1}
        and found.get("auto_pad", b"NOTSET") == b"NOTSET"
    )
    return kernel[0], strides[0] if plain else 0, list(found.get("pads", [0, 0, 0, 0]))


def _halves(pool: onnx.NodeProto) -> bool:
    """Whether a maximum is one of 2 x 2 of stride 2, without padding."""
    found = _attributes(pool)
    return (
        list(found["kernel_shape"]) == list(found.get("strides", [1, 1])) == [_BLOCK, _BLOCK]
        and not any(found.get("pads", [0]))
        and not found.get("ceil_mode", 0)
        and set(found.get("dilations", [1])) == {1}
        and found.get("auto_pad", b"NOTSET") == b"NOTSET"
        and len(pool.output) == 1
    )


def _same_scale(model: onnx.ModelProto, one: onnx.NodeProto, other: onnx.NodeProto) -> bool:
    for first, second in zip(one.input[1:], other.input[1:], strict=True):
        a, b = find_array(model, first), find_array(model, second)
        if a is None or b is None or not np.array_equal(a, b):
            return False
    return True


def _stored_weight(model: onnx.ModelProto, conv: onnx.NodeProto) -> NDArray[Any] | None:
    """The integers of a convolution's weight; None where it, or the bias, is not stored as integers."""
    found = []
    for name in conv.input[1:]:
        maker = producer(model, name)
        stored = maker is not None and maker.op_type == "DequantizeLinear"
        found.append(find_array(model, maker.input[0]) if maker is not None and stored else None)
    return None if any(array is None for array in found) else found[0]


class _Rewriting:
    """Write the start of one graph anew."""

    def __init__(self, model: onnx.ModelProto, start: _Start) -> None:
        self.model, self.start = model, start

    def write(self) -> None:
        self._feed_blocks()
        self._replace_weights()
        high, wide = self.start.sides
        attributes = {
            "kernel_shape": [high.kernel, wide.kernel],
            "strides": [1, 1],
            "pads": [high.leading, wide.leading, high.trailing, wide.trailing],
        }
        conv = self.start.conv
        for old in [one for one in conv.attribute if one.name in attributes]:
            conv.attribute.remove(old)
        conv.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        if self.start.pool is not None:
            self._pool_sets(self.start.pool)
        elif self.start.sets > 1:
            self._part_sets()

    def _add(self, operation: str, inputs: list[str], output: str, **more: Any) -> str:
        output = find_free_name(self.model, output)
        self.model.graph.node.append(helper.make_node(operation, inputs, [output], name=output, **more))
        return output

    def _whole(self, name: str, values: list[int]) -> str:
        return add_array(self.model, find_free_name(self.model, name), np.array(values, np.int64))

    def _feed_blocks(self) -> None:
        """From the image (N, H, W, C) to (N, 4 C, H / 2, W / 2): row in the block, column, channel."""
        (high, wide), channels, source = self.start.sides, self.start.channels, INPUT
        if any((high.before, high.after, wide.before, wide.after)):
            pads = [0, high.before, wide.before, 0, 0, high.after, wide.after, 0]
            source = self._add("Pad", [source, self._whole("blocks/pads", pads)], "blocks/padded")
        cut = [-1, high.blocks, _BLOCK, wide.blocks, _BLOCK, channels]
        source = self._add("Reshape", [source, self._whole("blocks/cut", cut)], "blocks/rows")
        source = self._add("Transpose", [source], "blocks/squares", perm=[0, 1, 3, 2, 4, 5])
        joined = [-1, high.blocks, wide.blocks, _BLOCK**2 * channels]
        source = self._add("Reshape", [source, self._whole("blocks/join", joined)], "blocks/last")
        self.start.entry.input[0] = self._add("Transpose", [source], "blocks", perm=[0, 3, 1, 2])

    def _replace_weights(self) -> None:
        """Give the convolution the weight for blocks, and scales, zeros and bias once for each set."""
        for at, name in enumerate(self.start.conv.input[1:]):
            maker = producer(self.model, name)
            assert maker is not None
            integers, scale, zero = (find_array(self.model, part) for part in maker.input)
            assert integers is not None and scale is not None and zero is not None
            sets = self.start.sets
            spread = self._spread(integers, zero) if at == 0 else np.tile(integers, sets)
            for index, array in enumerate((spread, np.tile(scale, sets), np.tile(zero, sets))):
                maker.input[index] = add_array(self.model, f"{name}/blocks/{_PARTS[index]}", array)

    def _spread(self, weight: NDArray[Any], zero: NDArray[Any]) -> NDArray[Any]:
        """The weight (F, C, k, k) as (sets F, 4 C, blocks, blocks), with `zero` (F,) around it."""
        filters, channels, rows, columns = weight.shape
        high, wide = self.start.sides
        size = (high.kernel * _BLOCK, wide.kernel * _BLOCK)
        steps = _BLOCK if self.start.sets > 1 else 1
        spread = np.empty((steps, steps, filters, channels, *size), weight.dtype)
        spread[:] = zero.reshape(-1, 1, 1, 1)  # 128 of full-range weights, which are uint8
        for down in range(steps):
            for right in range(steps):
                top, left = high.offset + down, wide.offset + right
                spread[down, right, :, :, top : top + rows, left : left + columns] = weight
        parts = spread.reshape(-1, channels, high.kernel, _BLOCK, wide.kernel, _BLOCK)
        return parts.transpose(0, 3, 5, 1, 2, 4).reshape(len(parts), -1, high.kernel, wide.kernel)

    def _pool_sets(self, pool: onnx.NodeProto) -> None:
        """Take the maximum over the sets, side by side: (N, 4 F, h, w) to (N, F, h, 4 w) to (N, F, h, w)."""
        high, wide = self.start.sides
        sets, name = self.start.sets, f"{self.start.read.output[0]}/blocks"
        source = self._add("Transpose", [self.start.written.output[0]], f"{name}/last", perm=[0, 2, 3, 1])
        shape = [-1, high.made, wide.made * sets, self.start.filters]
        source = self._add("Reshape", [source, self._whole(f"{name}/shape", shape)], f"{name}/side")
        # Channels are last in between, as integer kernels have them, so that nothing moves.
        read = self.start.read
        read.input[0] = self._add("Transpose", [source], f"{name}/first", perm=[0, 3, 1, 2])
        # What has a layer's name is its output, and this is none.
        read.output[0] = pool.input[0] = find_free_name(self.model, name)
        for old in [one for one in pool.attribute if one.name in ("kernel_shape", "strides")]:
            pool.attribute.remove(old)
        for which in ("kernel_shape", "strides"):
            pool.attribute.append(helper.make_attribute(which, [1, sets]))

    def _part_sets(self) -> None:
        """Move the sets to where the pixels were: (N, 4 F, h, w) to (N, F, 2 h, 2 w)."""
        (high, wide), filters = self.start.sides, self.start.filters
        name = f"{self.start.read.output[0]}/blocks"
        source = self._add("Transpose", [self.start.written.output[0]], f"{name}/last", perm=[0, 2, 3, 1])
        cut = [-1, high.made, wide.made, _BLOCK, _BLOCK, filters]
        source = self._add("Reshape", [source, self._whole(f"{name}/cut", cut)], f"{name}/squares")
        source = self._add("Transpose", [source], f"{name}/rows", perm=[0, 1, 3, 2, 4, 5])
        joined = [-1, high.made * _BLOCK, wide.made * _BLOCK, filters]
        source = self._add("Reshape", [source, self._whole(f"{name}/join", joined)], f"{name}/whole")
        self.start.read.input[0] = self._add("Transpose", [source], f"{name}/first", perm=[0, 3, 1, 2])
