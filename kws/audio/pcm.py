"""Raw PCM of any rate, width and channels, in chunks -> mono samples at a model's rate."""

from __future__ import annotations

import numpy as np

from kws.audio.resample import Resampler
from kws.config import RATES
from kws.errors import KwsError, between
from kws.system.arrays import Float32

WIDTHS, CHANNELS = (1, 4), (1, 1024)  # bytes of a sample; channels


class Pcm:
    """One stream of little-endian PCM: unsigned of one byte, signed of two, three or four; channels are averaged.

    The package wyoming converts too, by `audioop`: it adds two channels up, which clips, takes four for two, and folds
    what lies above half the new rate back into it.
    """

    def __init__(self, rate: int, width: int, channels: int, sample_rate: int) -> None:
        """Chunks at `rate` Hz of `width` bytes a sample -> samples at `sample_rate`. Raises `KwsError`."""
        for name, value, bounds in (("rate", rate, RATES), ("width", width, WIDTHS), ("channels", channels, CHANNELS)):
            if type(value) is not int:
                raise KwsError(f"{name} is {value!r}, not a whole number")
            between(name, value, *bounds)
        self.format = (rate, width, channels)
        self._width, self._channels = width, channels
        self.rest = b""  # the beginning of a sample, whose end is still to come
        self._resampler = Resampler(rate, sample_rate)

    def process(self, audio: bytes) -> Float32:
        """The next bytes, any number -> the samples float32 `[n]` in [-1, 1] that they complete."""
        audio = self.rest + audio if self.rest else audio
        cut = len(audio) - len(audio) % (self._width * self._channels)
        self.rest = audio[cut:]
        samples = _decoded(audio[:cut], self._width).reshape(-1, self._channels)
        mono = samples[:, 0] if self._channels == 1 else samples.mean(axis=1)
        return self._resampler.process(np.ascontiguousarray(mono, np.float32))

    def flush(self) -> Float32:
        """The end of the stream: the samples that the resampler held back."""
        self.rest = b""
        return self._resampler.flush()


def _decoded(audio: bytes, width: int) -> Float32:
    if width == 1:
        return (np.frombuffer(audio, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if width == 3:  # the upper three bytes of four
        wide = np.zeros((len(audio) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(audio, np.uint8).reshape(-1, 3)
        audio, width = wide.tobytes(), 4
    return np.frombuffer(audio, f"<i{width}").astype(np.float32) * np.float32(2.0 ** (1 - 8 * width))
