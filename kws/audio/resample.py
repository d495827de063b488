"""Sample-rate conversion of a stream: polyphase windowed sinc, aligned with its input, free of drift. numpy only."""

from __future__ import annotations

import math

import numpy as np

from kws.system.arrays import Float32

PASSBAND = 0.9  # of the lower Nyquist frequency: flat up to here, silent from the lower Nyquist frequency on
ATTENUATION = 90.0  # dB
TILE = 64  # output samples made by one product


class Resampler:
    """One stream from `rate_in` to `rate_out` Hz.

    Output sample n is the input, band-limited, at the time n / rate_out: `process` holds back what needs later input
    and `flush` gives it, ceil(S * rate_out / rate_in) samples in all. Positions are whole numbers, so hours do not
    drift; a sample is always made by the same product at the same place of the same tile, so calls may be cut anyhow,
    bit for bit. The filter is an ideal low-pass under a Kaiser window (J. F. Kaiser, 1974).
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        """Raises `ValueError` unless both rates are whole numbers of at least 1 Hz."""
        for rate in (rate_in, rate_out):
            if int(rate) != rate or rate < 1:
                raise ValueError(f"a sample rate of {rate} Hz cannot be converted; give a whole number above 0")
        self.rate_in, self.rate_out = int(rate_in), int(rate_out)
        divisor = math.gcd(self.rate_in, self.rate_out)
        self._up, self._down = self.rate_out // divisor, self.rate_in // divisor
        # Frequencies in cycles per input sample; the window's length follows from the width of its transition band.
        nyquist = 0.5 * min(1.0, self._up / self._down)
        self._cutoff = nyquist * (1 + PASSBAND) / 2
        self._half = math.ceil((ATTENUATION - 7.95) / (14.36 * nyquist * (1 - PASSBAND)) / 2)
        self._span = (
            (TILE - 1) * self._down // self._up + 1 + 2 * self._half
        )  # input samples that a tile needs, at most
        self._tiles: dict[int, Float32] = {}  # by the phase of the tile's first sample: [span, TILE]
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self._received = self._made = 0  # samples of the stream
        self._buffer: Float32 = np.zeros(self._half, np.float32)  # input from the next tile's first sample on
        self._work: Float32 = np.zeros(self._span, np.float32)

    def process(self, samples: Float32) -> Float32:
        """The next input float32 `[n]` -> the output that it completes, float32 `[m]`."""
        if self.rate_in == self.rate_out:
            return samples.copy()
        self._received += len(samples)
        self._buffer = np.concatenate([self._buffer, samples])
        tiles, start = [], 0
        while start + self._span <= len(self._buffer):
            self._work[:] = self._buffer[start : start + self._span]
            place = self._made * self._down
            tiles.append(self._work @ self._tile(place % self._up))
            self._made += TILE
            start += self._made * self._down // self._up - place // self._up
        self._buffer = self._buffer[start:]
        return np.concatenate(tiles) if tiles else np.zeros(0, np.float32)

    def flush(self) -> Float32:
        """The rest of the output, as if silence followed; then a new stream begins."""
        if self.rate_in == self.rate_out:
            return np.zeros(0, np.float32)
        made, total = self._made, -(-self._received * self._up // self._down)
        n_tiles = -(-(total - made) // TILE)
        silence = n_tiles * TILE * self._down // self._up + self._span
        rest = self.process(np.zeros(silence, np.float32))[: total - made]
        self.reset()
        return rest

    def _tile(self, phase: int) -> Float32:
        """Weights `[span, TILE]` of the input around a tile that begins `phase / up` samples after an input sample."""
        if phase not in self._tiles:
            place = (phase + np.arange(TILE) * self._down)[None, :] / self._up
            distance = np.arange(-self._half, self._span - self._half)[:, None] - place
            inside = np.sqrt(np.maximum(0, 1 - (distance / self._half) ** 2))
            beta = 0.1102 * (ATTENUATION - 8.7)
            window = np.where(np.abs(distance) < self._half, np.i0(beta * inside) / np.i0(beta), 0)
            weights = 2 * self._cutoff * np.sinc(2 * self._cutoff * distance) * window
            self._tiles[phase] = weights.astype(np.float32)
        return self._tiles[phase]
