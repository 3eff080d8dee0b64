"""Read the nodes and initializers of an ONNX file from its bytes.

The runtime has no onnx package, and onnxruntime does not give access to a model's weights. The format is
Protocol Buffers (protobuf.dev/programming-guides/encoding), the field numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ModelError

# TensorProto.DataType to numpy, for the types that weights have.
_KINDS = {1: "<f4", 2: "|u1", 3: "|i1", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An initializer: its name, numpy dtype ('' for one that is not read here), shape and values.

    `array` is None if the values are not in the file's `raw_data`.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    array: NDArray[Any] | None


@dataclass(frozen=True, slots=True)
class Node:
    """An operation: its name, kind, names of inputs and outputs, and integer attributes."""

    name: str
    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    integers: dict[str, int]


@dataclass(frozen=True)
class Graph:
    """The main graph of a model."""

    nodes: tuple[Node, ...]
    tensors: dict[str, Tensor]


def read_graph(model: bytes) -> Graph:
    """Read the graph of a model's bytes. Raises ModelError if they are not an ONNX model."""
    try:
        graph = next(value for number, value in _fields(memoryview(model)) if number == 7)
        nodes, tensors = [], {}
        for number, value in _fields(graph):
            if number == 1:
                nodes.append(_read_node(value))
            elif number == 5:
                tensor = _read_tensor(value)
                tensors[tensor.name] = tensor
    except (StopIteration, IndexError, ValueError, TypeError) as error:
        raise ModelError("The bytes are not an ONNX model.") from error
    return Graph(tuple(nodes), tensors)


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Walk (field number, value): an int, or the bytes of a string, message or packed list."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        value: Any
        if key & 7 == 0:
            value, at = _read_varint(data, at)
        elif key & 7 == 2:
            size, at = _read_varint(data, at)
            if at + size > len(data):
                raise ValueError("a field ends beyond its message")
            value, at = data[at : at + size], at + size
        elif key & 7 in (1, 5):
            size = 8 if key & 7 == 1 else 4
            value, at = data[at : at + size], at + size
        else:
            raise ValueError("an unknown wire type")
        yield key >> 3, value


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _read_node(data: memoryview) -> Node:
    texts: dict[int, list[str]] = {1: [], 2: [], 3: [], 4: []}
    integers: dict[str, int] = {}
    for number, value in _fields(data):
        if number in texts:
            texts[number].append(bytes(value).decode())
        elif number == 5:
            attribute = dict(_fields(value))
            if 3 in attribute:
                integers[bytes(attribute[1]).decode()] = _signed(attribute[3])
    return Node(
        name="".join(texts[3]),
        operation="".join(texts[4]),
        inputs=tuple(texts[1]),
        outputs=tuple(texts[2]),
        integers=integers,
    )


def _read_tensor(data: memoryview) -> Tensor:
    shape: list[int] = []
    name, kind, raw = "", "", None
    for number, value in _fields(data):
        if number == 1:
            shape += [value] if isinstance(value, int) else _unpack(value)
        elif number == 2:
            kind = _KINDS.get(value, "")
        elif number == 8:
            name = bytes(value).decode()
        elif number == 9:
            raw = value
    array = np.frombuffer(raw, kind).reshape(shape) if raw is not None and kind else None
    return Tensor(name, kind, tuple(shape), array)


def _unpack(data: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = _read_varint(data, at)
        values.append(_signed(value))
    return values
