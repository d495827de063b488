"""The compact recurrent classifier: causal convolutions, projection, recurrent cell, head; each a layer of a chain."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from kws.config import RecurrentConfig
from kws.model.batch_norm import BatchNorm
from kws.model.layer import Serial
from kws.model.speech_embedding import speech_convs


class CausalConv(nn.Module):
    """Convolution over frames and bands, causal in time, halving the bands; batch normalisation and ReLU.

    Its state is the last `kernel - time_stride` frames of its input.
    """

    def __init__(self, in_channels: int, out_channels: int, n_bands: int, kernel: int, time_stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride=(time_stride, 2), padding=(0, kernel // 2), bias=False
        )
        self.norm = BatchNorm(out_channels)
        self.history_shape = (in_channels, kernel - time_stride, n_bands)
        self.state_size = in_channels * (kernel - time_stride) * n_bands
        self.stride = time_stride
        self.out_bands = (n_bands + 2 * (kernel // 2) - kernel) // 2 + 1

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, in_channels, T, n_bands]` -> `[B, out_channels, T / time_stride, out_bands]`."""
        x = torch.cat([state.unflatten(1, self.history_shape), x], dim=2)
        history = x[:, :, x.shape[2] - self.history_shape[1] :]
        return torch.relu(self.norm(self.conv(x))), history.flatten(1)


class Recurrent(nn.Module):
    """Stacked LSTM, GRU or tanh cells. LSTM: i, f, g, o gates; c' = f * c + i * g; h' = o * tanh(c').

    The forget gate's bias starts at `forget_bias`, so that a fresh cell remembers (Jozefowicz et al., 2015).
    """

    stride = 1

    def __init__(self, input_size: int, config: RecurrentConfig) -> None:
        super().__init__()
        cell = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[config.cell]
        dropout = config.dropout if config.num_layers > 1 else 0.0
        self.cell = cell(input_size, config.hidden_size, config.num_layers, batch_first=True, dropout=dropout)
        self.layer_shape = (config.num_layers, config.hidden_size)
        self.has_memory = config.cell == "lstm"
        self.state_size = config.num_layers * config.hidden_size * (2 if self.has_memory else 1)
        if self.has_memory:
            forget_gate = slice(config.hidden_size, 2 * config.hidden_size)
            for layer in range(config.num_layers):
                with torch.no_grad():
                    getattr(self.cell, f"bias_ih_l{layer}")[forget_gate] = config.forget_bias
                    getattr(self.cell, f"bias_hh_l{layer}")[forget_gate] = 0.0

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, T, input_size]` -> `[B, T, hidden_size]`; the state is h, then c where the cell has one."""
        if not self.has_memory:
            y, h = self.cell(x, state.reshape(-1, *self.layer_shape).transpose(0, 1).contiguous())
            return y, h.transpose(0, 1).flatten(1)
        h, c = (part.reshape(-1, *self.layer_shape).transpose(0, 1).contiguous() for part in state.chunk(2, dim=1))
        y, (h, c) = self.cell(x, (h, c))
        return y, torch.cat([h.transpose(0, 1).flatten(1), c.transpose(0, 1).flatten(1)], dim=1)


class Image(nn.Module):
    """Features `[B, T, n_bands]` as an image of one channel, `[B, 1, T, n_bands]`."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x.unsqueeze(1)


class Frames(nn.Module):
    """An image `[B, channels, T, n_bands]` as frames `[B, T, channels * n_bands]`."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x.transpose(1, 2).flatten(2)


def recurrent_classifier(n_features: int, n_labels: int, config: RecurrentConfig) -> Serial:
    """Normalised features `[B, T, n_features]` -> logits `[B, T / time_stride, n_labels]`."""
    layers: dict[str, nn.Module] = {}
    size = n_features
    if config.speech_convs:
        convs, size = speech_convs(n_features, config.speech_convs)
        layers |= {"image": Image(), "convs": convs, "frames": Frames()}
    elif config.conv_channels:
        convs, channels, bands, stride = Serial(), 1, n_features, config.time_stride
        for out_channels in config.conv_channels:
            conv = CausalConv(channels, out_channels, bands, config.conv_kernel, stride)
            convs.append(conv)
            channels, bands, stride = out_channels, conv.out_bands, 1
        layers |= {"image": Image(), "convs": convs, "frames": Frames()}
        size = channels * bands
    if config.projection_size:
        layers["project"] = nn.Linear(size, config.projection_size)
        size = config.projection_size
    layers["input_dropout"] = nn.Dropout(config.dropout)
    layers["recurrent"] = Recurrent(size, config)
    layers["output_dropout"] = nn.Dropout(config.dropout)
    layers["head"] = nn.Linear(config.hidden_size, n_labels)
    return Serial(OrderedDict(layers))
