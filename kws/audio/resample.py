"""Sample-rate conversion of a stream, by soxr: aligned with its input, free of drift, the same for any cut."""

from __future__ import annotations

import numpy as np
import soxr

from kws.config import RATES
from kws.errors import KwsError
from kws.system.arrays import Float32

NONE: Float32 = np.zeros(0, np.float32)


class Resampler:
    """One stream from `rate_in` to `rate_out` Hz, with soxr's high quality, which is librosa's default too.

    Output sample n is the input, band-limited, at the time n / rate_out: `process` holds back what needs later input,
    up to 40 ms at 44,100 and 48,000 Hz, and `flush` gives it, S * rate_out / rate_in samples in all, rounded. Calls
    may be cut anyhow: the output is the same bit for bit.
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        """Raises `ValueError` unless both rates are whole numbers from 1000 to 384,000 Hz."""
        for rate in (rate_in, rate_out):
            if int(rate) != rate or not RATES[0] <= rate <= RATES[1]:
                raise KwsError(f"a sample rate of {rate} Hz is not a whole number from {RATES[0]} to {RATES[1]}")
        self.rate_in, self.rate_out = int(rate_in), int(rate_out)
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self._stream = None if self.rate_in == self.rate_out else soxr.ResampleStream(self.rate_in, self.rate_out, 1)

    def process(self, samples: Float32) -> Float32:
        """The next input float32 `[n]` -> the output that it completes, float32 `[m]`."""
        return samples if self._stream is None else self._stream.resample_chunk(samples)

    def flush(self) -> Float32:
        """The rest of the output, as if silence followed; then a new stream begins."""
        rest = NONE if self._stream is None else self._stream.resample_chunk(NONE, last=True)
        self.reset()
        return rest


def resampled(samples: Float32, rate_in: int, rate_out: int) -> Float32:
    """All of a stream at once: float32 `[S]` -> `[S']`."""
    resampler = Resampler(rate_in, rate_out)
    return np.concatenate([resampler.process(samples), resampler.flush()])
