"""A float32 graph -> int8: dynamic quantisation of LSTM and dense layers, int8 storage of what remains large."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from kws.errors import KwsError
from kws.onnx_export.shrink import add_constant, add_node, rename

QUANTIZED_OPS = ("DynamicQuantizeLSTM", "MatMulInteger", "DynamicQuantizeMatMul", "QLinearConv", "DequantizeLinear")


def quantize(model: onnx.ModelProto) -> onnx.ModelProto:
    """The int8 twin of an exported graph.

    LSTM and dense layers: `onnxruntime.quantization.quantize_dynamic`, weights per channel as uint8 (int8 saturates on
    x86 without VNNI, and would give other results there), activations to 8 bits with a scale for each step. An LSTM
    becomes DynamicQuantizeLSTM, an operator that onnxruntime holds, but hardly another runtime. Convolutions, and cells
    other than LSTM, compute in float32 from weights stored as int8 per channel: their dynamic quantisation
    (ConvInteger) makes the file no smaller and the step slower. The front end stays exact.

    Raises:
        ValueError: for a model that is quantised already.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic  # kws.runtime.onnx_model loads onnxruntime first

    if found := sorted({node.op_type for node in model.graph.node} & set(QUANTIZED_OPS)):
        raise KwsError(f"the model is quantised already ({', '.join(found)}); quantise the float32 one")
    with tempfile.TemporaryDirectory() as folder, _without_advice():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["LSTM", "MatMul"],
            per_channel=True,
            weight_type=QuantType.QUInt8,
            nodes_to_exclude=_frontend_products(model.graph),
        )
        graph = ir.load(path)
    for node in list(graph.graph):
        if node.op_type in ("Conv", "GRU", "RNN"):
            for i in (1,) if node.op_type == "Conv" else (1, 2):
                _store_as_int8(graph.graph, node, i)
    rename(graph.graph)
    graph.ir_version = model.ir_version
    quantized = ir.serde.serialize_model(graph)
    del quantized.graph.value_info[:]
    return quantized


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """onnxruntime advises a preparation that `kws.onnx_export.shrink` has done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _frontend_products(graph: onnx.GraphProto) -> list[str]:
    """The products before the normalisation, which is the first subtraction."""
    nodes = list(graph.node)
    first = next(i for i, node in enumerate(nodes) if node.op_type == "Sub")
    return [node.name for node in nodes[:first] if node.op_type == "MatMul"]


def _store_as_int8(graph: ir.Graph, node: ir.Node, index: int) -> None:
    """An input `[channels, ...]` (cells: `[1, channels, ...]`) of a node becomes Cast(int8) * scale, folded at load."""
    weight = node.inputs[index]
    assert weight is not None
    assert weight.const_value is not None
    values = weight.const_value.numpy()
    first = 0 if node.op_type == "Conv" else 1
    scale = np.abs(values).max(axis=tuple(range(first + 1, values.ndim)), keepdims=True) / 127
    scale = np.maximum(scale, np.finfo(np.float32).tiny).astype(np.float32)
    stored = add_constant(graph, np.round(values / scale).astype(np.int8))
    numbers = add_node(graph, node, "Cast", [stored], to=ir.DataType.FLOAT)
    node.replace_input_with(index, add_node(graph, node, "Mul", [numbers, add_constant(graph, scale)]))
    if not weight.uses() and weight.name is not None:
        del graph.initializers[weight.name]
