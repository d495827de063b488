"""Levels of sound: RMS, decibels, dBFS, signal-to-noise ratios, full scale. numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kws.system.arrays import Float64, Int16

INT16_FULL_SCALE = 32768


def rms(samples: NDArray[Any]) -> Float64:
    """Root mean square over the last axis: `[..., S]` of any real type -> float64 `[...]`, in the unit of `samples`."""
    return np.asarray(np.sqrt(np.square(samples, dtype=np.float64).mean(axis=-1)))


def decibels(ratio: ArrayLike) -> Float64:
    """Ratios of amplitudes -> decibels, float64 of their shape; -inf for 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(20 * np.log10(np.asarray(ratio, np.float64)))


def amplitude(level_db: Any) -> Any:
    """Decibels (a number or an array) -> the ratio of amplitudes."""
    return 10 ** (level_db / 20)


def dbfs(samples: NDArray[Any]) -> Float64:
    """RMS level over the last axis below full scale: int16, or floats of which 1 is full scale, `[..., S]` -> `[...]`.

    A sine of full scale has -3; -inf for zeros.
    """
    full_scale = INT16_FULL_SCALE if samples.dtype == np.int16 else 1
    return decibels(rms(samples) / full_scale)


def noise_gain(signal: NDArray[Any], noise: NDArray[Any], snr_db: float) -> Float64:
    """The factor that brings `noise` `[..., S]` to `snr_db` below `signal` `[..., S]`, by RMS -> `[...]`.

    Finite for all-zero noise, which stays zero whatever it is multiplied by.
    """
    return rms(signal) / (rms(noise) * amplitude(snr_db) + 1e-9)


def to_int16(samples: NDArray[Any]) -> Int16:
    """Samples in [-1, 1] of any shape -> int16, rounded; what is beyond full scale is clipped."""
    return saturated(samples * np.float32(INT16_FULL_SCALE))


def saturated(steps: NDArray[Any]) -> Int16:
    """Numbers of any shape in steps of int16 -> int16, rounded and clipped."""
    return np.clip(np.rint(steps), -INT16_FULL_SCALE, INT16_FULL_SCALE - 1).astype(np.int16)
