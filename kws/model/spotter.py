"""The keyword spotter: front end, causal convolutions, recurrent cell, head; one step function with explicit state.

Every stateful layer here has `state_size` and `forward(x, state) -> (y, next_state)` with a flat state
float32 `[B, state_size]` whose zeros are the start of a stream; any cut of the input into blocks gives the same output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kws.config import FrontendConfig, ModelConfig
from kws.model.bcresnet import BroadcastedClassifier
from kws.model.frontend import Frontend


class CausalConv(nn.Module):
    """Convolution over frames and bands, causal in time, halving the bands; batch normalisation and ReLU.

    Its state is the last `kernel - time_stride` frames of its input.
    """

    def __init__(self, in_channels: int, out_channels: int, n_bands: int, kernel: int, time_stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride=(time_stride, 2), padding=(0, kernel // 2), bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.history_shape = (in_channels, kernel - time_stride, n_bands)
        self.state_size = in_channels * (kernel - time_stride) * n_bands
        self.out_bands = (n_bands + 2 * (kernel // 2) - kernel) // 2 + 1

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, in_channels, T, n_bands]` -> `[B, out_channels, T / time_stride, out_bands]`."""
        x = torch.cat([state.reshape(-1, *self.history_shape), x], dim=2)
        history = x[:, :, x.shape[2] - self.history_shape[1] :]
        return torch.relu(self.norm(self.conv(x))), history.flatten(1)


class Recurrent(nn.Module):
    """Stacked LSTM, GRU or tanh cells. LSTM: i, f, g, o gates; c' = f * c + i * g; h' = o * tanh(c').

    The forget gate's bias starts at `forget_bias`, so that a fresh cell remembers (Jozefowicz et al., 2015).
    """

    def __init__(self, input_size: int, config: ModelConfig) -> None:
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


class Classifier(nn.Module):
    """Features to logits: optional causal convolutions, optional projection, recurrent cell, linear head."""

    def __init__(self, n_features: int, n_labels: int, config: ModelConfig) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        channels, bands = 1, n_features
        for i, out_channels in enumerate(config.conv_channels):
            conv = CausalConv(channels, out_channels, bands, config.conv_kernel, config.time_stride if i == 0 else 1)
            self.convs.append(conv)
            channels, bands = out_channels, conv.out_bands
        size = channels * bands
        self.project: nn.Module = nn.Identity()
        if config.projection_size:
            self.project = nn.Linear(size, config.projection_size)
            size = config.projection_size
        self.dropout = nn.Dropout(config.dropout)
        self.recurrent = Recurrent(size, config)
        self.head = nn.Linear(config.hidden_size, n_labels)
        self.stateful: list[CausalConv | Recurrent] = [*self.convs, self.recurrent]  # type: ignore[list-item]
        self.state_sizes = [layer.state_size for layer in self.stateful]
        self.state_size = sum(self.state_sizes)

    def forward(self, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised features `[B, T, n_features]` -> logits `[B, T / time_stride, n_labels]`."""
        *conv_states, cell_state = state.split(self.state_sizes, dim=1)
        x = features.unsqueeze(1)
        next_states = []
        for conv, conv_state in zip(self.convs, conv_states, strict=True):
            x, next_state = conv(x, conv_state)
            next_states.append(next_state)
        x = self.dropout(self.project(x.transpose(1, 2).flatten(2)))
        x, next_state = self.recurrent(x, cell_state)
        return self.head(self.dropout(x)), torch.cat([*next_states, next_state], dim=1)


class KeywordSpotter(nn.Module):
    """Front end and classifier: `logits, state = spotter(waveform, state)`."""

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, frontend: FrontendConfig, model: ModelConfig, labels: Sequence[str]) -> None:
        """Build a spotter for `labels`, in the order of its logits."""
        super().__init__()
        self.frontend_config, self.model_config, self.labels = frontend, model, tuple(labels)
        self.frontend = Frontend(frontend)
        sizes = frontend.n_features, len(self.labels)
        self.classifier: Classifier | BroadcastedClassifier = (
            Classifier(*sizes, model) if model.is_streamed else BroadcastedClassifier(*sizes, model)
        )
        self.state_size = self.frontend.state_size + self.classifier.state_size
        self.frame_length = frontend.hop_length * model.time_stride
        # Statistics of the training split, one number per feature.
        self.register_buffer("feature_mean", torch.zeros(frontend.n_features))
        self.register_buffer("feature_std", torch.ones(frontend.n_features))

    def initial_state(self, batch_size: int) -> Tensor:
        """The start of `batch_size` streams: zeros float32 `[batch_size, state_size]`."""
        return self.feature_mean.new_zeros(batch_size, self.state_size)

    def forward(
        self, waveform: Tensor, state: Tensor, mask: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step of any length.

        Args:
            waveform: float32 `[B, S]` in [-1, 1]; S is a multiple of `frame_length`.
            state: float32 `[B, state_size]`.
            mask: changes the normalised features `[B, S / hop_length, n_features]` (training only).

        Returns:
            logits float32 `[B, S / frame_length, n_labels]` (bcresnet: `[B, 1, n_labels]`, S a whole clip) and the
            next state.

        Raises:
            ValueError: if S is not a positive multiple of `frame_length`.
        """
        if waveform.shape[-1] % self.frame_length:
            raise ValueError(f"a block of {waveform.shape[-1]} samples is not a multiple of {self.frame_length}")
        context, classifier_state = state.split([self.frontend.state_size, self.classifier.state_size], dim=1)
        features, context = self.frontend(waveform, context)
        features = (features - self.feature_mean) / self.feature_std
        if mask is not None:
            features = mask(features)
        logits, classifier_state = self.classifier(features, classifier_state)
        return logits, torch.cat([context, classifier_state], dim=1)

    def pool(self, logits: Tensor) -> Tensor:
        """Per-frame logits `[B, T, K]` of a clip -> log-probabilities `[B, K]` over its last `pool_ms`.

        `sum`: a softmax over labels and frames together, summed over frames, so frames weigh as their evidence.
        `mean`: the mean of the frames' softmaxes. The numpy twin is `kws.runtime.detector.pool_posteriors`.
        """
        logits = logits[:, -self.pool_frames :]
        if self.model_config.pooling == "sum":
            return logits.logsumexp(dim=1).log_softmax(dim=-1)
        return logits.log_softmax(dim=-1).logsumexp(dim=1) - torch.tensor(float(logits.shape[1])).log()

    @property
    def pool_frames(self) -> int:
        """Frames that a clip score is pooled from, at most."""
        return max(1, round(self.model_config.pool_ms * self.frontend_config.sample_rate / 1000 / self.frame_length))

    @property
    def n_parameters(self) -> int:
        """Trained parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    @torch.no_grad()
    def fit_normalization(self, batches: Sequence[Tensor]) -> None:
        """Set the feature statistics from waveforms, each float32 `[B, S]`."""
        features = torch.cat(
            [self.frontend(w, w.new_zeros(len(w), self.frontend.state_size))[0].flatten(0, 1) for w in batches]
        )
        self.feature_mean.copy_(features.mean(0))
        self.feature_std.copy_(features.std(0).clamp_min(1e-3))
