"""Multiplications of one step of an ONNX graph, counted node by node, and of a model in a second of audio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import onnx
from onnx import numpy_helper

from kws.model.spotter import KeywordSpotter
from kws.onnx_export.trace import trace

Shape = Sequence[int]


def multiplications_per_second(spotter: KeywordSpotter, variant: str = "waveform") -> float:
    """Multiplications that a second of audio costs, counted as by `multiplications`.

    variant: `waveform`, front end included (its DFT as the matrix product that is exported); `features`: without it.

    `spotter`, in evaluation mode, hears a second (or the whole frames of logits in it) at once: a recurrent model with
    a decision at each frame, bcresnet with one.
    """
    frontend = spotter.frontend_config
    hops = frontend.sample_rate // spotter.frame_length * spotter.frame_length // frontend.hop_length
    return per_second(multiplications(trace(spotter, variant, hops, batch_size=1)), spotter, hops)


def per_second(count: int, spotter: KeywordSpotter, hops: int) -> float:
    """What a second of audio costs if a step of `hops` hops costs `count`."""
    return count * spotter.frontend_config.sample_rate / (hops * spotter.frontend_config.hop_length)


def multiplications(model: onnx.ModelProto) -> int:
    """Multiplications of one step of one stream, of a float32 graph of `kws.onnx_export.trace`.

    Counted: a product of `[M, K]` and `[K, N]`: M K N, less what a constant's zeros would cost (a depthwise convolution
    may be stored as banded matrices); a convolution: outputs times inputs of one output; an LSTM of H
    units over I inputs: 4 H (I + H) + 3 H a frame (GRU: 3 H (I + H) + 3 H, RNN: H (I + H)); Mul, Div and Pow: one for
    each result; a DFT of N points: N log2 N for each frame. Additions, comparisons, functions (log, exp) and what is
    computed once when the model is loaded do not count.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    graph = inferred.graph
    shapes: dict[str, Shape] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]  # a free batch is 1
    density: dict[str, Fraction] = {}
    for constant in graph.initializer:
        shapes[constant.name] = constant.dims
        numbers = numpy_helper.to_array(constant)
        density[constant.name] = Fraction(int(np.count_nonzero(numbers)), max(1, numbers.size))
    at_load = set(density)
    total = 0
    for node in graph.node:
        if all(name in at_load for name in node.input if name):
            at_load.update(node.output)
        else:
            total += int(_count(node, shapes) * _density(node, density))
    return total


def _density(node: onnx.NodeProto, density: dict[str, Fraction]) -> Fraction:
    """The share of a matrix product that is no multiplication by a constant's zero."""
    if node.op_type not in ("MatMul", "Gemm"):
        return Fraction(1)
    return min(density.get(name, Fraction(1)) for name in node.input[:2])


def _count(node: onnx.NodeProto, shapes: dict[str, Shape]) -> int:
    if node.op_type in ("Mul", "Div", "Pow"):
        return math.prod(shapes[node.output[0]])
    if node.op_type in ("MatMul", "Gemm"):
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    if node.op_type == "Conv":
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type in ("LSTM", "GRU", "RNN"):
        frames, batch, inputs = shapes[node.input[0]]
        hidden = shapes[node.input[2]][-1]
        gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[node.op_type]
        return frames * batch * (gates * hidden * (inputs + hidden) + (3 * hidden if gates > 1 else 0))
    if node.op_type == "DFT":
        points = max(shapes[node.input[0]])
        return math.prod(shapes[node.input[0]]) * round(math.log2(points))
    return 0
