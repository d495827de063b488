"""The front end as onnxruntime computes it fastest: its DFT as one matrix product. Used by the export alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kws.config import FrontendConfig
from kws.model.frontend import Frontend


class DeviceFrontend(Frontend):
    """A `Frontend` whose power spectrum is the square of `frames @ dft`, window and DFT in one matrix.

    onnxruntime's DFT costs 10 us a frame of 512 points on a core that multiplies this matrix in 3, and it needs eleven
    more nodes around it, which cost more than their arithmetic in a short step. The export asserts that both agree.
    The matrix is not in the file: `kws.onnx_export.shrink` stores the nodes that make it when the model is loaded.
    """

    dft: Tensor

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__(config)
        self.dft_bins = config.n_bins if config.kind == "spectrogram" else len(self.mel_filters)
        turns = torch.outer(torch.arange(config.win_length), torch.arange(self.dft_bins)) % config.n_fft
        angle = turns.double() * (2 * math.pi / config.n_fft)
        dft = torch.cat([angle.cos(), angle.sin()], dim=1) * self.window.double()[:, None]
        self.register_buffer("dft", dft.float(), persistent=False)
        if config.kind != "spectrogram":  # cosine and sine parts are added by the product with the filters
            self.register_buffer("mel_filters", self.mel_filters.repeat(2, 1), persistent=False)

    def power_spectrum(self, frames: Tensor) -> Tensor:
        """`[..., win_length]` -> `[..., n_bins]`, or the squared parts `[..., 2 * bins]` where mel filters follow."""
        parts = frames @ self.dft
        squares = parts * parts
        if self.config.kind != "spectrogram":
            return squares
        return squares[..., : self.dft_bins] + squares[..., self.dft_bins :]
