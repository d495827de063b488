"""What a model costs on a device: bytes of weights, bytes of memory for a stream, multiplications a second."""

from __future__ import annotations

import math

from kws.c.block import LANES, is_first_conv, layers_of
from kws.c.layers import Layer, Weights
from kws.config import RecurrentConfig


def memory_size(weights: Weights, precision: str) -> int:
    """Bytes of memory of one stream, as `kws_memory_size` of kws.c."""
    frontend = weights.frontend
    numbers = [
        frontend.win_length,
        0 if weights.convs else frontend.n_features,
        _cells(weights) * (2 if is_lstm(weights) else 1),
        max(2 * frontend.n_fft + 2 * LANES, _scratch(weights, precision)),
    ]
    into = 1
    for i, (bands, conv) in enumerate(zip(weights.bands, weights.convs, strict=False)):
        row = ((bands + 2 * conv.padding) * into + 2) // 2 * 2
        is_narrow = precision == "int8" and not is_first_conv(weights, i)
        numbers.append(conv.frames * row // 2 + conv.frames if is_narrow else conv.frames * row)
        into = conv.channels
        if conv.pool_frames > 1:
            numbers.append(conv.made_bands(bands) // conv.pool_bands * into)
    return 4 * sum(numbers)


def is_lstm(weights: Weights) -> bool:
    """Whether its cells carry a second state."""
    return isinstance(weights.model, RecurrentConfig) and weights.model.cell == "lstm"


def _cells(weights: Weights) -> int:
    return weights.model.num_layers * weights.model.hidden_size if isinstance(weights.model, RecurrentConfig) else 0


def _scratch(weights: Weights, precision: str) -> int:
    """Numbers that the network needs while it runs."""
    model = weights.model
    made = [conv.made_bands(bands) for bands, conv in zip(weights.bands, weights.convs, strict=False)]
    widest = max((bands * _outputs(conv.layer) for bands, conv in zip(made, weights.convs, strict=True)), default=0)
    longest, behind = weights.bands[-1] * (weights.convs[-1].channels if weights.convs else 1), 0
    if isinstance(model, RecurrentConfig):
        longest = max(longest, model.hidden_size, model.projection_size)
        behind += _outputs(weights.projection) if weights.projection else 0
        behind += _outputs(weights.cells[0][0]) * (2 if model.cell == "gru" else 1)
        behind += _outputs(weights.head) if weights.head else 0
    return widest + behind + (max(longest, 1) // 2 + 1 if precision == "int8" else 0)


def _outputs(layer: Layer) -> int:
    return -(-len(layer.bias) // LANES) * LANES


def multiplications_per_second(weights: Weights) -> int:
    """Multiplications that a second of audio costs: every product, and a real DFT as half a complex one."""
    frontend = weights.frontend
    hop = frontend.win_length + frontend.n_fft // 2 * int(math.log2(frontend.n_fft)) + 6 * weights.bins
    hop += sum(int((table != 0).sum()) for table in (weights.mel, weights.dct) if table is not None)
    total, hops = float(hop + frontend.n_features), 1
    for bands, conv in zip(weights.bands, weights.convs, strict=False):
        hops *= conv.frame_stride
        total += conv.made_bands(bands) * conv.layer.weights.size / hops
        hops *= conv.pool_frames
    products = sum(layer.weights.size for layer in layers_of(weights)[len(weights.convs) :]) + 3 * _cells(weights)
    return round((total + products / hops) * frontend.sample_rate / frontend.hop_length)
