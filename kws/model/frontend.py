"""The front end: waveform to normalised features, causal, with the audio that the next frame needs as its state.

Training, statistics, evaluation and the exported ONNX file all run this one module.
"""

from __future__ import annotations

import math

import torch
import torchaudio.functional as audio_functional
from torch import Tensor, nn

from kws.config import FrontendConfig
from kws.errors import KwsError


class Frontend(nn.Module):
    """STFT power spectrum, then its logarithm (`spectrogram`), log-mel bands (`log_mel`) or their DCT-II (`mfcc`).

    Frame t ends with sample `(t + 1) * hop_length - 1` of the block, so a block of S samples gives `S / hop_length`
    frames and nothing looks ahead. The window is a periodic Hann window; HTK's mel bands are not area-normalised.
    """

    window: Tensor
    mel_filters: Tensor
    dct: Tensor

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        self.config = config
        self.state_size, self.stride = config.context_length, config.hop_length
        self.register_buffer("window", torch.hann_window(config.win_length), persistent=False)
        if config.kind != "spectrogram":
            filters = audio_functional.melscale_fbanks(
                config.n_bins, config.f_min, config.f_max, config.n_mels, config.sample_rate,
                norm="slaney" if config.mel_scale == "slaney" else None, mel_scale=config.mel_scale,
            )  # fmt: skip
            # Bins above f_max weigh nothing: leave them out of the product, and of the exported file.
            self.register_buffer("mel_filters", filters[: int(filters.any(1).nonzero().max()) + 1], persistent=False)
        if config.kind == "mfcc":
            dct = audio_functional.create_dct(config.n_mfcc, config.n_mels, norm="ortho")
            self.register_buffer("dct", dct, persistent=False)

    def forward(self, waveform: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Features of a block.

        Args:
            waveform: float32 `[B, S]` in [-1, 1]; S is a multiple of `hop_length`.
            state: float32 `[B, context_length]`, the samples before the block; zeros at the start of a stream.

        Returns:
            features float32 `[B, S / hop_length, n_features]`, natural logarithm of power, and the next state.

        Raises:
            ValueError: if S is not a positive multiple of `hop_length`.
        """
        hop_length = self.config.hop_length
        if waveform.shape[-1] == 0 or waveform.shape[-1] % hop_length:
            raise KwsError(f"a block of {waveform.shape[-1]} samples is not a multiple of hop_length {hop_length}")
        samples = torch.cat([state, waveform], dim=-1)
        with torch.autocast(waveform.device.type, enabled=False):  # powers span more than half precision holds
            power = self.power_spectrum(self._frames(samples))
            if self.config.kind != "spectrogram":
                power = power[..., : len(self.mel_filters)] @ self.mel_filters
            features = torch.log(power + self.config.log_offset)
            if self.config.kind == "mfcc":
                features = features @ self.dct
        return features, samples[:, samples.shape[-1] - self.state_size :]

    def _frames(self, samples: Tensor) -> Tensor:
        """`[B, context_length + S]` -> overlapping frames `[B, S / hop_length, win_length]`.

        Cut from pieces that divide window and hop, so that an exported file lists a few pieces and not every sample.
        """
        win_length, hop_length = self.config.win_length, self.config.hop_length
        piece = math.gcd(win_length, hop_length)
        pieces = samples.unflatten(-1, (-1, piece)).unfold(1, win_length // piece, hop_length // piece)
        return pieces.transpose(-1, -2).flatten(-2)

    def power_spectrum(self, frames: Tensor) -> Tensor:
        """`[..., win_length]` -> squared magnitudes of the windowed DFT `[..., n_bins]`."""
        spectrum = torch.fft.rfft(frames * self.window, n=self.config.n_fft)
        return spectrum.real**2 + spectrum.imag**2


class Normalization(nn.Module):
    """Features with the mean and the standard deviation of the training split taken out, one number per feature."""

    mean: Tensor
    std: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))

    def forward(self, features: Tensor) -> Tensor:
        """`[..., n_features]`, the same shape."""
        return (features - self.mean) / self.std

    def fit(self, features: Tensor) -> None:
        """Take the statistics of `features` float32 `[N, n_features]`."""
        self.mean.copy_(features.mean(0))
        self.std.copy_(features.std(0).clamp_min(1e-3))
