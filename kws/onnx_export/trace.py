"""torch -> ONNX graph: a spotter, or what follows its front end, traced for one block size and shrunk."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from typing import Any

import numpy as np
import onnx
import onnx_ir
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from kws.model.layer import Serial
from kws.model.recurrent import Recurrent
from kws.model.spotter import KeywordSpotter
from kws.onnx_export.device_frontend import DeviceFrontend
from kws.onnx_export.shrink import shrink

OPSET, IR_VERSION = 18, 8  # onnxruntime 1.14 and later run them
STAND_IN = 8191  # the batch while tracing for any: no layer's size, so it is found again in the graph


def after_frontend(spotter: KeywordSpotter) -> Serial:
    """What follows the front end: `logits, state = layer(features, state)`; normalisation is inside."""
    return Serial(spotter.normalize, spotter.classifier)


class _Cell(nn.Module):
    """A recurrent cell whose last state has the shape of its first: torch 2.11 traces an LSTM's with one more axis."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, state: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
        """As the cell's own."""
        y, last = self.cell(x, state)
        if isinstance(state, Tensor):
            return y, last.reshape(state.shape)
        return y, tuple(part.reshape(first.shape) for part, first in zip(last, state, strict=True))


def trace(spotter: KeywordSpotter, variant: str, hops: int, batch_size: int) -> onnx.ModelProto:
    """The graph of one step of `hops` hops for `batch_size` streams (0: any number), without metadata.

    variant: `waveform`, or `features` for what follows the front end.
    """
    spotter = copy.deepcopy(spotter)
    for module in spotter.modules():
        if isinstance(module, Recurrent):
            module.cell = _Cell(module.cell)
    traced: Serial = spotter
    frontend: DeviceFrontend | None = None
    if variant == "waveform":
        spotter.frontend = frontend = DeviceFrontend(spotter.frontend_config)
        shape = [hops * spotter.frontend_config.hop_length]
    else:
        traced = after_frontend(spotter)
        shape = [hops, spotter.frontend_config.n_features]
    streams = batch_size or STAND_IN
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            traced,
            (torch.zeros(streams, *shape), torch.zeros(streams, traced.state_size)),
            dynamo=True,
            opset_version=OPSET,
            input_names=[variant, "state"],
            output_names=["logits", "next_state"],
            verbose=False,
        )
    assert program is not None
    shrink(program.model, frontend)
    program.model.ir_version = IR_VERSION
    graph = onnx_ir.serde.serialize_model(program.model)
    del graph.functions[:]
    del graph.graph.value_info[:]
    if batch_size == 0:
        _free_batch(graph.graph)
    return graph


def _free_batch(graph: onnx.GraphProto) -> None:
    """Any number of streams instead of `STAND_IN`: in inputs, outputs and the shapes that nodes are given."""
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for constant in graph.initializer:
        if constant.data_type == onnx.TensorProto.INT64:
            numbers = numpy_helper.to_array(constant)
            if STAND_IN in numbers:
                freed = numpy_helper.from_array(np.where(numbers == STAND_IN, -1, numbers), constant.name)
                constant.CopyFrom(freed)
