"""Weights -> the flat, versioned, checksummed block that `kws_model_init` of kws.c takes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kws.c.layers import Conv, Layer, Weights
from kws.config import RecurrentConfig
from kws.errors import KwsError

MAGIC, VERSION, HEADER_WORDS = 0x4253574B, 2, 32
CELLS = {"rnn": 1, "gru": 3, "lstm": 4}
LANES, MAX_CONVS, MAX_LAYERS = 8, 24, 8
PRECISIONS = ("float32", "int8")

Words = NDArray[np.uint32]


def make_block(weights: Weights, precision: str = "") -> bytes:
    """The block of `weights` with layers in `precision`: `float32`, `int8`, or, empty, what the file has.

    int8: weights symmetric with a scale for each output; biases, scales, the front end and the first convolution stay
    float32. Raises
    `KwsError` for another precision and for what the engine does not have.
    """
    precision = precision or weights.metadata.get("precision", "float32")
    if precision not in PRECISIONS:
        raise KwsError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}")
    frontend, model, cells = weights.frontend, weights.model, weights.cells
    if frontend.n_fft & (frontend.n_fft - 1) or not 16 <= frontend.n_fft <= 8192:
        raise KwsError(f"frontend.n_fft is {frontend.n_fft}; the C engine has powers of two from 16 to 8192")
    if len(weights.convs) > MAX_CONVS or any(conv.bands > 15 for conv in weights.convs) or len(cells) > MAX_LAYERS:
        raise KwsError("the C engine has at most 24 convolutions, of 15 bands, and 8 recurrent layers")
    header = np.zeros(HEADER_WORDS, np.uint32)
    header[:3] = MAGIC, VERSION, 0
    header[5:13] = (
        PRECISIONS.index(precision),
        frontend.sample_rate,
        frontend.win_length,
        frontend.hop_length,
        frontend.n_fft,
        weights.bins,
        0 if weights.mel is None else frontend.n_mels,
        0 if weights.dct is None else frontend.n_mfcc,
    )
    header[13:14] = np.array([frontend.log_offset], np.float32).view(np.uint32)
    frames = weights.metadata["block_size"] // weights.metadata["frame_length"]
    behind = (0, CELLS["rnn"], 1)
    if isinstance(model, RecurrentConfig):
        behind = model.projection_size, CELLS[model.cell], model.hidden_size
    header[14:21] = len(weights.convs), *behind, len(cells), len(weights.metadata["labels"]), frames
    parts = [header, *map(_shape, weights.convs), _floats(weights.window), *_twiddles(frontend.n_fft, weights.bins)]
    parts += _mel(weights.mel) if weights.mel is not None else []
    parts += [_floats(weights.dct)] if weights.dct is not None else []
    parts += [_floats(weights.mean), _floats(1 / weights.std.astype(np.float64))]
    for i, layer in enumerate(layers_of(weights)):
        parts += _layer(layer, "float32" if is_first_conv(weights, i) else precision)
    words = np.concatenate(parts)
    words[2] = len(words) * 4
    sums = np.cumsum(words[5:], dtype=np.uint32)  # Fletcher's checksum, of words, modulo 2^32
    words[3], words[4] = sums[-1], sums.sum(dtype=np.uint32)
    return words.astype("<u4").tobytes()


def layers_of(weights: Weights) -> list[Layer]:
    """Every product in the order in which it is computed."""
    layers = [*(conv.layer for conv in weights.convs), *([weights.projection] if weights.projection else [])]
    return [*layers, *(layer for cell in weights.cells for layer in cell), *([weights.head] if weights.head else [])]


def is_first_conv(weights: Weights, i: int) -> bool:
    """Whether product i is the first convolution: it has few weights, and their rounding would cost most."""
    return i == 0 and bool(weights.convs)


def _floats(array: NDArray[np.floating]) -> Words:
    return np.ascontiguousarray(array, np.float32).ravel().view(np.uint32)


def _shape(conv: Conv) -> Words:
    """`kws_conv_shape` of kws.h."""
    sizes = [conv.channels, conv.frames, conv.bands, conv.padding, conv.band_stride, conv.frame_stride]
    floats = _floats(np.array([conv.slope, conv.least]))
    return np.concatenate([np.array([*sizes, conv.pool_frames, conv.pool_bands], np.uint32), floats])


def _twiddles(n_fft: int, bins: int) -> list[Words]:
    """For each pass of radix 4 but the last the cosine and the sine of one, two and three turns; then of each bin."""
    angles, points = [], n_fft // 2
    while points > 4:
        turn = np.arange(points // 4) * (2 * math.pi / points)
        angles += [turn, 2 * turn, 3 * turn]
        points //= 4
    angles.append(np.arange(bins) * (2 * math.pi / n_fft))
    return [_floats(function(angle)) for angle in angles for function in (np.cos, np.sin)]


def _mel(filters: NDArray[np.float32]) -> list[Words]:
    """For each band its first bin and how many follow (one word), then the numbers from there."""
    ranges, numbers = [], []
    for band in filters.T:
        bins = np.flatnonzero(band)
        first, end = (int(bins[0]), int(bins[-1]) + 1) if len(bins) else (0, 0)
        ranges.append(first | (end - first) << 16)
        numbers.append(band[first:end])
    return [np.array(ranges, np.uint32), _floats(np.concatenate(numbers))]


def _layer(layer: Layer, precision: str) -> list[Words]:
    """Bias, int8: scales, then weights, all in blocks of eight outputs; zeros fill the last."""
    outputs, rows, length = layer.weights.shape
    blocks = -(-outputs // LANES)
    bias = np.zeros(blocks * LANES, np.float32)
    bias[:outputs] = layer.bias
    weights = np.zeros((blocks * LANES, rows, length + length % 2), np.float32)
    weights[:outputs, :, :length] = layer.weights
    if precision == "float32":
        lanes = weights[:, :, :length].reshape(blocks, LANES, rows, length).transpose(0, 2, 3, 1)
        return [_floats(bias), _floats(lanes)]
    scale = np.maximum(np.abs(weights).max(axis=(1, 2)) / 127, np.finfo(np.float32).tiny).astype(np.float32)
    quantised = np.clip(np.round(weights / scale[:, None, None]), -127, 127).astype(np.int8)
    # [blocks, 4 pairs of outputs, 2 outputs, rows, pairs of inputs, 2 inputs] -> as kws.c takes them apart
    pairs = quantised.reshape(blocks, LANES // 2, 2, rows, -1, 2).transpose(0, 3, 4, 1, 5, 2)
    return [_floats(bias), _floats(scale), np.ascontiguousarray(pairs).ravel().view(np.uint32)]
