"""Augmentation of whole batches, on their device: speed, shift, room echo, noise, gain, fades, SpecAugment.

Drawing the random parameters is separate from applying them. Waveform parameters come from a generator that is passed
in; the SpecAugment masks are torchaudio's and take torch's global generator, like dropout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torchaudio.functional as audio_functional
from torch import Tensor, nn

from kws.config import AugmentConfig, exact_samples

SILENT = 1e-6  # RMS below which a sound counts as digital silence


@dataclass
class WaveformParameters:
    """What was drawn for a batch; each float32 or int64 `[B]`."""

    speed: Tensor  # factor by which the clip is played faster
    shift: Tensor  # samples to the right
    gain: Tensor  # linear
    snr: Tensor  # linear amplitude ratio of clip to noise; infinite where no noise is added
    noise_start: Tensor  # sample of the noise recording
    response: Tensor  # number of the room's impulse response, -1 for none

    def of(self, rows: slice) -> WaveformParameters:
        """Those of some clips of the batch."""
        return WaveformParameters(*(value[rows] for value in vars(self).values()))


class WaveformAugmenter:
    """Speed, shift, room echo, background noise and gain for batches of clips."""

    def __init__(self, config: AugmentConfig, sample_rate: int, noise: Tensor, responses: Tensor | None = None) -> None:
        """`noise`: float32 `[N]`, recorded background noise of the training split; empty for none.

        `responses`: float32 `[R, L]`, impulse responses of rooms; None for none.
        """
        self.config, self.noise = config, noise
        self.responses = noise.new_zeros(0, 1) if responses is None else responses
        self.max_shift = exact_samples(config.shift_ms, sample_rate, "augment.shift_ms")
        fade_length = exact_samples(config.fade_ms, sample_rate, "augment.fade_ms")
        phase = (torch.arange(fade_length, device=noise.device) + 0.5) / max(fade_length, 1)
        self.fade = 0.5 - 0.5 * torch.cos(math.pi * phase)

    def draw(self, batch_size: int, clip_length: int, generator: torch.Generator) -> WaveformParameters:
        """Parameters for `batch_size` clips of `clip_length` samples, from a CPU generator."""
        config = self.config

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(batch_size, generator=generator)

        snr = 10 ** (uniform(config.snr_db_min, config.snr_db_max) / 20)
        noisy = uniform(0, 1) < config.noise_probability
        if len(self.noise) < clip_length:
            noisy = torch.zeros_like(noisy)
        starts = torch.randint(max(1, len(self.noise) - clip_length + 1), (batch_size,), generator=generator)
        response = torch.full((batch_size,), -1)
        if len(self.responses):
            echoed = uniform(0, 1) < config.rir_probability
            rooms = torch.randint(len(self.responses), (batch_size,), generator=generator)
            response = torch.where(echoed, rooms, response)
        drawn = WaveformParameters(
            speed=1 + uniform(-config.speed, config.speed),
            shift=uniform(-self.max_shift, self.max_shift).round(),
            gain=10 ** (uniform(-config.gain_db, config.gain_db) / 20),
            snr=torch.where(noisy, snr, torch.inf),
            noise_start=starts,
            response=response,
        )
        return WaveformParameters(*(value.to(self.noise.device) for value in vars(drawn).values()))

    def apply(self, waveform: Tensor, parameters: WaveformParameters, running: Tensor | None = None) -> Tensor:
        """Augmented copy of `waveform`, float32 `[B, S]`, clipped to [-1, 1] and faded at both ends.

        Lanes that are `running`, bool `[B]`, hear one clip of a longer recording after another: they get room echo and
        noise alone, so that their clips go on joining.
        """
        single = torch.ones(len(waveform), dtype=torch.bool, device=waveform.device) if running is None else ~running
        clips = self._fade_ends(waveform[single])
        if self.config.speed or self.max_shift:
            clips = resample_and_shift(clips, parameters.speed[single], parameters.shift[single])
        waveform = waveform.index_put((single,), clips)
        echoed = parameters.response >= 0
        if echoed.any():
            responses = self.responses[parameters.response[echoed]]
            waveform = waveform.index_put((echoed,), echo(waveform[echoed], responses))
        if len(self.noise) >= waveform.shape[1]:
            noise = self.noise.unfold(0, waveform.shape[1], 1)[parameters.noise_start]
            scale = _rms(waveform) / (_rms(noise).clamp_min(SILENT) * parameters.snr[:, None])
            waveform = torch.addcmul(waveform, noise, scale)
        gain = torch.where(single, parameters.gain, torch.ones_like(parameters.gain))
        waveform = (waveform * gain[:, None]).clamp_(-1, 1)
        return waveform.index_put((single,), self._fade_ends(waveform[single]))

    def __call__(self, waveform: Tensor, generator: torch.Generator, running: Tensor | None = None) -> Tensor:
        """Draw and apply."""
        batch_size, clip_length = waveform.shape
        return self.apply(waveform, self.draw(batch_size, clip_length, generator), running)

    def _fade_ends(self, waveform: Tensor) -> Tensor:
        n = len(self.fade)
        if n:
            waveform = waveform.clone()
            waveform[:, :n] *= self.fade
            waveform[:, -n:] *= self.fade.flip(0)
        return waveform


def echo(waveform: Tensor, responses: Tensor) -> Tensor:
    """Each clip float32 `[B, S]` heard in a room `[B, L]`: their convolution, cut to `[B, S]`, at the clip's RMS."""
    length = waveform.shape[1]
    n = fast_length(length + responses.shape[1] - 1)
    spectrum = torch.fft.rfft(waveform, n) * torch.fft.rfft(responses, n)
    heard = torch.fft.irfft(spectrum, n)[:, :length]
    return heard * (_rms(waveform) / _rms(heard).clamp_min(SILENT))


def fast_length(length: int) -> int:
    """The shortest length from `length` on that is a product of 2, 3 and 5, which a Fourier transform takes fast."""
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


def _rms(waveform: Tensor) -> Tensor:
    return waveform.square().mean(1, keepdim=True).sqrt()


def resample_and_shift(waveform: Tensor, speed: Tensor, shift: Tensor) -> Tensor:
    """Play each clip `speed` times faster about its middle, then move it `shift` samples to the right.

    Linear interpolation between samples; zeros outside. `waveform` float32 `[B, S]`, `speed` and `shift` `[B]`.
    """
    n = waveform.shape[1]
    centre = (n - 1) / 2
    position = torch.arange(n, device=waveform.device) - centre - shift[:, None]
    position = position * speed[:, None] + centre
    # grid_sample reads an image of one row; its coordinates run from -1 to 1 over the row's outer edges.
    x = (2 * position + 1) / n - 1
    grid = torch.stack([x, torch.zeros_like(x)], dim=-1)[:, None]
    image = waveform[:, None, None]
    return nn.functional.grid_sample(image, grid, "bilinear", padding_mode="zeros", align_corners=False)[:, 0, 0]


class FeatureMasker:
    """SpecAugment (Park et al., 2019): bands and frames of normalised features set to 0, their mean."""

    def __init__(self, config: AugmentConfig) -> None:
        """Keep the numbers and widths of the masks."""
        self.masks = [(3, config.freq_mask_width)] * config.freq_masks
        self.masks += [(2, config.time_mask_width)] * config.time_masks

    def __call__(self, features: Tensor) -> Tensor:
        """Features float32 `[B, T, n_features]` with fresh masks for each item."""
        masked = features.unsqueeze(1)
        for axis, width in self.masks:
            if width:
                masked = audio_functional.mask_along_axis_iid(masked, width, 0.0, axis)
        return masked.squeeze(1)
