"""The parts of an ONNX file that decide what it does, read with numpy alone: nodes, constants, inputs, metadata.

An ONNX file is a protocol buffer: fields, each a number and a value. Whatever a file claims, no more is read than it
holds, and what is not understood is an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError, ModelError

Array = NDArray[Any]
Value = int | memoryview

# TensorProto.DataType
DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 6: np.int32, 7: np.int64, 11: np.float64}
MAX_RANK = 8
MOST_BYTES = 1 << 28  # of a file


@dataclass
class Node:
    """One operation: names of what it takes and gives ("" where an input is left out), and its attributes.

    domain: empty for ONNX's own operators.
    """

    op: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """What a file holds: nodes in the order in which they run, constants by name, metadata as JSON values.

    inputs: shapes by name; 0 where a dimension is free. content: the file, whole.
    """

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    content: bytes = b""


def read_onnx(path: Path) -> Graph:
    """The graph of `path`. Raises `ModelError`, naming the file, if it is missing or no ONNX file."""
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise ModelError(f"{path} has {size} bytes; a model has at most {MOST_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); give an ONNX model made by kws export") from error
    try:
        return _model(content)
    except (ValueError, OverflowError) as error:
        raise ModelError(f"{path} cannot be loaded as an ONNX model ({error}); export it again") from error


def _model(content: bytes) -> Graph:
    graph = Graph(content=content)
    for number, value in _fields(memoryview(content)):
        if number == 7:
            for inner, part in _fields(_bytes(value)):
                if inner == 1:
                    graph.nodes.append(_node(_bytes(part)))
                elif inner == 5:
                    name, array = _tensor(_bytes(part))
                    if name in graph.constants:
                        raise KwsError(f"it has two constants {name}")
                    graph.constants[name] = array
                elif inner == 11:
                    name, shape = _input(_bytes(part))
                    graph.inputs[name] = shape
                elif inner == 15:
                    raise KwsError("it holds a sparse constant")
        elif number == 25:
            raise KwsError("it defines operators of its own")
        elif number == 14:
            entry = {inner: _text(part) for inner, part in _fields(_bytes(value))}
            try:
                graph.metadata[entry.get(1, "")] = json.loads(entry.get(2, ""))
            except (json.JSONDecodeError, RecursionError):
                graph.metadata[entry.get(1, "")] = entry.get(2, "")
    if not graph.nodes:
        raise KwsError("it holds no graph")
    return graph


def _node(content: memoryview) -> Node:
    node = Node()
    for number, value in _fields(content):
        if number == 1:
            node.inputs.append(_text(value))
        elif number == 2:
            node.outputs.append(_text(value))
        elif number == 4:
            node.op = _text(value)
        elif number == 5:
            name, attribute = _attribute(_bytes(value))
            node.attributes[name] = attribute
        elif number == 7:
            node.domain = _text(value)
    return node


def _input(content: memoryview) -> tuple[str, tuple[int, ...]]:
    """A ValueInfoProto: its name and, by type, tensor type, shape and dimensions, its sizes."""
    name, parts = "", [content]
    for path in (2, 1, 2, 1):
        inner = []
        for part in parts:
            for number, value in _fields(part):
                if number == path:
                    inner.append(_bytes(value))
                elif number == 1 and part is content:
                    name = _text(value)
        parts = inner
    sizes = [[_signed(value) for number, value in _fields(part) if number == 1] for part in parts]
    return name, tuple(size[-1] if size else 0 for size in sizes)


def _attribute(content: memoryview) -> tuple[str, Any]:
    name, numbers = "", []
    result: Any = None
    for number, value in _fields(content):
        if number == 1:
            name = _text(value)
        elif number == 2:
            result = float(np.array(_signed(value) & 0xFFFFFFFF, np.uint32).view(np.float32))
        elif number == 3:
            result = _signed(value)
        elif number == 4:
            result = bytes(_bytes(value))
        elif number == 5:
            result = _tensor(_bytes(value))[1]
        elif number == 8:
            numbers += _integers(value)
    return name, result if result is not None else numbers


def _tensor(content: memoryview) -> tuple[str, Array]:
    name, kind, raw = "", 0, b""
    dims: list[int] = []
    integers: list[int] = []
    for number, value in _fields(content):
        if number == 1:
            dims += _integers(value)
        elif number == 2:
            kind = _signed(value)
        elif number == 4:
            raw += bytes(_bytes(value)) if isinstance(value, memoryview) else value.to_bytes(4, "little")
        elif number in (5, 7):
            integers += _integers(value)
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = bytes(_bytes(value))
        elif number == 14 and value != 0:
            raise KwsError(f"constant {name} lies in another file")
    if kind not in DTYPES:
        raise KwsError(f"constant {name} has data type {kind}")
    dtype = np.dtype(DTYPES[kind]).newbyteorder("<")
    array = np.frombuffer(raw, dtype) if raw else np.array(integers, np.int64).astype(dtype)
    if len(dims) > MAX_RANK or any(size < 0 for size in dims) or array.size != math.prod(dims):
        raise KwsError(f"constant {name} has {array.size} numbers, not {dims}")
    return name, array.reshape(dims)


def _fields(content: memoryview) -> Iterator[tuple[int, Value]]:
    """The fields of a message: (number, integer or bytes)."""
    at, end = 0, len(content)
    while at < end:
        key, at = _varint(content, at)
        wire = key & 7
        value: Value
        if wire == 0:
            value, at = _varint(content, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = int.from_bytes(content[at : at + size], "little"), at + size
        elif wire == 2:
            size, at = _varint(content, at)
            value, at = content[at : at + size], at + size
        else:
            raise KwsError(f"field {key >> 3} is of an unknown kind")
        if at > end:
            raise KwsError("the file is cut off")
        yield key >> 3, value


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            raise KwsError("the file is cut off")
        byte = content[at]
        result, at = result | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
    raise KwsError("a number has more than ten bytes")


def _bytes(value: Value) -> memoryview:
    if not isinstance(value, memoryview):
        raise KwsError("a number stands where bytes belong")
    return value


def _text(value: Value) -> str:
    return bytes(_bytes(value)).decode()


def _signed(value: Value) -> int:
    if not isinstance(value, int):
        raise KwsError("bytes stand where a number belongs")
    return value - (1 << 64) if value >= 1 << 63 else value


def _integers(value: Value) -> list[int]:
    """A repeated integer: one of them, or several packed into bytes."""
    if isinstance(value, int):
        return [_signed(value)]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(_signed(number))
    return found
