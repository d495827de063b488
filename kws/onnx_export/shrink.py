"""An exported graph made small and quick: the same arithmetic in fewer nodes and fewer bytes.

A step of a small model is short, so the roughly 1 us that onnxruntime spends on each node decides its cost; and a file
is short, so constants that a few nodes can make when the model is loaded (onnxruntime folds them once) are stored so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes import common

from kws.onnx_export.device_frontend import DeviceFrontend

FOLD_LIMIT = 1 << 24  # bytes of a constant to be computed at export
LAYOUT_OPS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Identity")


def shrink(model: ir.Model, frontend: DeviceFrontend | None) -> None:
    """Rewrite `model` in place, a graph traced from torch; `frontend` is the one inside it, if any.

    With a free batch dimension the layout nodes stay, since whether they move numbers is not known.
    """
    onnxscript.optimizer.optimize_ir(model, input_size_limit=FOLD_LIMIT, output_size_limit=FOLD_LIMIT)
    graph = model.graph
    _merge_layout(graph)
    _merge_splits(graph)
    _merge_concats(graph)
    common.RemoveUnusedNodesPass()(model)
    if frontend is not None:
        _make_at_load(graph, frontend)
    common.CommonSubexpressionEliminationPass()(model)
    common.DeduplicateInitializersPass()(model)
    common.RemoveUnusedNodesPass()(model)
    common.TopologicalSortPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    rename(graph)


def add_constant(graph: ir.Graph, array: np.ndarray[Any, Any]) -> ir.Value:
    """A new initializer."""
    name = next(name for i in itertools.count() if (name := f"made_{i}") not in graph.initializers)
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value


def add_node(graph: ir.Graph, before: ir.Node, op: str, inputs: Sequence[ir.Value], **attributes: Any) -> ir.Value:
    """A new node before another; its first output."""
    node = ir.node(op, inputs, attributes)
    graph.insert_before(before, node)
    return node.outputs[0]


def _source(node: ir.Node) -> ir.Value:
    """A node's first input."""
    value = node.inputs[0]
    assert value is not None
    return value


def _like(value: ir.Value, model: ir.Value) -> None:
    """Give `value` the shape and type of `model`."""
    value.shape, value.type = model.shape, model.type


def _shape(value: ir.Value) -> tuple[int, ...] | None:
    if value.shape is None or not all(isinstance(size, int) for size in value.shape):
        return None
    return tuple(int(size) for size in value.shape)  # type: ignore[arg-type]


def _only_relabels(node: ir.Node) -> bool:
    """Whether a node keeps every number in its place, so that it is a reshape."""
    if node.op_type not in LAYOUT_OPS:
        return False
    source, result = _shape(_source(node)), _shape(node.outputs[0])
    if source is None or result is None or math.prod(source) != math.prod(result):
        return False
    if node.op_type != "Transpose":
        return node.op_type != "Slice" or source == result
    order = [axis for axis in node.attributes["perm"].as_ints() if source[axis] != 1]
    return order == sorted(order)


def _merge_layout(graph: ir.Graph) -> None:
    """Every chain of nodes that move nothing becomes one Reshape, or none."""
    for node in list(graph):
        if not _only_relabels(node):
            continue
        result = node.outputs[0]
        root = _source(node)
        while (producer := root.producer()) is not None and _only_relabels(producer):
            root = _source(producer)
        if result.is_graph_output():
            node.replace_input_with(0, root) if node.op_type == "Reshape" else None
        elif _shape(root) == _shape(result):
            result.replace_all_uses_with(root)
        elif node.op_type != "Reshape" or root is not node.inputs[0]:
            shape = add_constant(graph, np.array(_shape(result), np.int64))
            reshaped = add_node(graph, node, "Reshape", [root, shape])
            _like(reshaped, result)
            result.replace_all_uses_with(reshaped)


def _merge_splits(graph: ir.Graph) -> None:
    """A Split of a part of a Split becomes one Split."""
    for inner in [node for node in graph if node.op_type == "Split"]:
        between = _source(inner)
        outer = between.producer()
        if outer is None or outer.op_type != "Split" or len(between.uses()) != 1:
            continue
        if outer.attributes["axis"].as_int() != inner.attributes["axis"].as_int():
            continue
        axis = outer.attributes["axis"].as_int()
        parts: list[ir.Value] = []
        for value in outer.outputs:
            parts += inner.outputs if value is between else [value]
        sizes = np.array([part.shape[axis] for part in parts], np.int64)  # type: ignore[index]
        merged = ir.node("Split", [outer.inputs[0], add_constant(graph, sizes)], {"axis": axis}, num_outputs=len(parts))
        graph.insert_before(outer, merged)
        for old, new in zip(parts, merged.outputs, strict=True):
            _like(new, old)
            old.replace_all_uses_with(new)


def _merge_concats(graph: ir.Graph) -> None:
    """A Concat of Concats along one axis becomes one Concat."""
    for node in [node for node in graph if node.op_type == "Concat"]:
        axis = node.attributes["axis"].as_int()
        inputs: list[ir.Value | None] = []
        for value in node.inputs:
            inner = value.producer() if value is not None else None
            same = inner is not None and inner.op_type == "Concat" and inner.attributes["axis"].as_int() == axis
            inputs += inner.inputs if inner is not None and same else [value]
        if len(inputs) > len(node.inputs):
            merged = ir.node("Concat", inputs, {"axis": axis})
            graph.insert_before(node, merged)
            old, new = node.outputs[0], merged.outputs[0]
            new.name = old.name
            _like(new, old)
            old.replace_all_uses_with(new, replace_graph_outputs=True)


def _make_at_load(graph: ir.Graph, frontend: DeviceFrontend) -> None:
    """The DFT matrix becomes cosines and sines of a product of ranges, the mel filters their few numbers above 0."""
    if (dft := graph.initializers.get("frontend.dft")) is not None:
        first, config = next(iter(dft.consumers())), frontend.config

        def integers(stop: int, *shape: int) -> ir.Value:
            limits = [add_constant(graph, np.array(x, np.int32)) for x in (0, stop, 1)]
            numbers = add_node(graph, first, "Range", limits)
            return add_node(graph, first, "Reshape", [numbers, add_constant(graph, np.array(shape, np.int64))])

        turns = add_node(graph, first, "Mul", [integers(config.win_length, -1, 1), integers(frontend.dft_bins, 1, -1)])
        turns = add_node(graph, first, "Mod", [turns, add_constant(graph, np.array(config.n_fft, np.int32))])
        turns = add_node(graph, first, "Cast", [turns], to=ir.DataType.FLOAT)
        step = add_constant(graph, np.array(2 * math.pi / config.n_fft, np.float32))
        angle = add_node(graph, first, "Mul", [turns, step])
        waves = [add_node(graph, first, op, [angle]) for op in ("Cos", "Sin")]
        window = add_constant(graph, frontend.window.numpy()[:, None])
        made = add_node(graph, first, "Mul", [add_node(graph, first, "Concat", waves, axis=1), window])
        dft.replace_all_uses_with(made)
        del graph.initializers["frontend.dft"]
    if (mel := graph.initializers.get("frontend.mel_filters")) is not None:
        first = next(iter(mel.consumers()))
        filters = frontend.mel_filters.numpy()[: frontend.dft_bins]
        bins, bands = np.nonzero(filters)
        shape = add_constant(graph, np.array(filters.shape, np.int64))
        empty = add_node(graph, first, "ConstantOfShape", [shape])
        places = np.stack([bins, bands], 1).astype(np.uint8 if max(filters.shape) <= 256 else np.uint16)
        where = add_node(graph, first, "Cast", [add_constant(graph, places)], to=7)
        numbers = add_constant(graph, filters[bins, bands])
        one = add_node(graph, first, "ScatterND", [empty, where, numbers])
        mel.replace_all_uses_with(add_node(graph, first, "Concat", [one, one], axis=0))
        del graph.initializers["frontend.mel_filters"]


def rename(graph: ir.Graph) -> None:
    """Short names: those of torch's modules take more room than the small constants that bear them."""
    for i, (name, value) in enumerate(list(graph.initializers.items())):
        del graph.initializers[name]
        value.name = f"c{i}"
        if value.const_value is not None:
            value.const_value.name = f"c{i}"
        graph.initializers[f"c{i}"] = value
    count = 0
    for i, node in enumerate(graph):
        node.name = f"n{i}"
        for output in node.outputs:
            if not output.is_graph_output():
                output.name, count = f"v{count}", count + 1
                output.shape, output.type = None, None  # onnxruntime infers them
