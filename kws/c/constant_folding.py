"""What a graph's nodes give that depend on its constants alone: the tables that an export stores as a recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kws.errors import KwsError
from kws.runtime.onnx_reader import DTYPES, Array, Graph, Node

MAX_NUMBERS = 1 << 24  # in one constant


def fold_constants(graph: Graph) -> dict[str, Array]:
    """Every constant of `graph` by name, those that its nodes compute from constants too.

    Raises `KwsError` for a constant of more than `MAX_NUMBERS` and for a recipe that cannot be followed.
    """
    known = dict(graph.constants)
    for node in graph.nodes:
        operation = OPERATIONS.get(node.op)
        if operation is None or not node.inputs or not all(name in known for name in node.inputs):
            continue
        try:
            result = np.asarray(operation(node, [known[name] for name in node.inputs]))
        except (TypeError, IndexError, OverflowError, KeyError) as error:
            raise KwsError(f"its node {node.op} for {node.outputs} cannot be computed ({error})") from error
        if result.size > MAX_NUMBERS:
            raise KwsError(f"its node {node.op} gives {result.size} numbers")
        known[node.outputs[0]] = result
    return known


def _range(node: Node, values: Sequence[Array]) -> Array:
    start, stop, step = (value.item() for value in values)
    if abs(stop - start) > MAX_NUMBERS * abs(step):
        raise KwsError(f"its node Range counts from {start} to {stop}")
    return np.arange(start, stop, step, dtype=values[0].dtype)


def _full(node: Node, values: Sequence[Array]) -> Array:
    shape = [int(size) for size in values[0]]
    if any(size < 0 for size in shape) or np.prod(shape, dtype=float) > MAX_NUMBERS:
        raise KwsError(f"its node ConstantOfShape has shape {shape}")
    value = node.attributes.get("value")
    return np.full(shape, 0.0 if value is None else value.item(), np.float32 if value is None else value.dtype)


def _scatter(node: Node, values: Sequence[Array]) -> Array:
    result = values[0].copy()
    result[tuple(np.moveaxis(values[1], -1, 0))] = values[2]
    return result


def _mul(node: Node, values: Sequence[Array]) -> Array:
    if np.prod(np.broadcast_shapes(values[0].shape, values[1].shape), dtype=float) > MAX_NUMBERS:
        raise KwsError(f"its node {node.op} multiplies {values[0].shape} with {values[1].shape}")
    return np.asarray(np.multiply(values[0], values[1]))


OPERATIONS: dict[str, Callable[[Node, Sequence[Array]], Array]] = {
    "Range": _range,
    "Reshape": lambda node, v: v[0].reshape([int(size) for size in v[1]]),
    "Mul": _mul,
    "Mod": lambda node, v: np.mod(v[0], v[1]),
    "Cast": lambda node, v: v[0].astype(DTYPES[node.attributes["to"]]),
    "Cos": lambda node, v: np.cos(v[0]),
    "Sin": lambda node, v: np.sin(v[0]),
    "Concat": lambda node, v: np.concatenate(v, axis=node.attributes["axis"]),
    "ConstantOfShape": _full,
    "ScatterND": _scatter,
}
