"""What a model costs on a device: bytes of weights, bytes of memory for a stream, multiplications a second."""

from __future__ import annotations

import math

from kws.c.block import LANES, is_first_conv, layers_of
from kws.c.weights import Layer, Weights


def memory_size(weights: Weights, precision: str) -> int:
    """Bytes of memory of one stream, as `kws_memory_size` of kws.c."""
    frontend, model = weights.frontend, weights.model
    cells = model.num_layers * model.hidden_size
    numbers = [
        frontend.win_length,
        0 if weights.convs else frontend.n_features,
        cells * (2 if model.cell == "lstm" else 1),
        len(weights.convs) * model.conv_kernel,
        max(2 * frontend.n_fft + 2 * LANES, _scratch(weights, precision)),
    ]
    for i, (bands, channels) in enumerate(zip(weights.bands, (1, *model.conv_channels), strict=False)):
        if i < len(weights.convs):
            row = ((bands + model.conv_kernel // 2 * 2) * channels + 2) // 2 * 2
            narrow = precision == "int8" and not is_first_conv(weights, i)
            numbers.append(model.conv_kernel * row // (2 if narrow else 1))
    return 4 * sum(numbers)


def _scratch(weights: Weights, precision: str) -> int:
    """Numbers that the network needs while it runs."""
    model = weights.model
    size = weights.bands[-1] * (model.conv_channels[-1] if weights.convs else 1)
    widest = max((b * _outputs(conv) for b, conv in zip(weights.bands[1:], weights.convs, strict=False)), default=0)
    projected = _outputs(weights.projection) if weights.projection else 0
    gates = _outputs(weights.cells[0][0]) * (2 if model.cell == "gru" else 1)
    room = max(model.hidden_size, model.projection_size, size) // 2 + 1 if precision == "int8" else 0
    return widest + projected + gates + _outputs(weights.head) + room


def _outputs(layer: Layer) -> int:
    return -(-len(layer.bias) // LANES) * LANES


def multiplications_per_second(weights: Weights) -> int:
    """Multiplications that a second of audio costs: every product, and a real DFT as half a complex one."""
    frontend, model = weights.frontend, weights.model
    positions = [*weights.bands[1:], *[1] * len(layers_of(weights))]
    products = sum(n * layer.weights.size for n, layer in zip(positions, layers_of(weights), strict=False))
    products += model.num_layers * model.hidden_size * 3
    hop = frontend.win_length + frontend.n_fft // 2 * int(math.log2(frontend.n_fft)) + 6 * weights.bins
    hop += sum(int((table != 0).sum()) for table in (weights.mel, weights.dct) if table is not None)
    hop += frontend.n_features
    return round((hop + products / model.time_stride) * frontend.sample_rate / frontend.hop_length)
