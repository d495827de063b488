"""Background noise: recordings cut into splits, and noise made where none was recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.audio.levels import amplitude, rms, saturated, to_int16
from kws.config import SPLITS
from kws.system.arrays import Float64, Int16

VARIED_SECONDS, VARIED_DB = 8, 8.0
GENERATED_DBFS = -20.0
SHARES = (0.8, 0.9, 1.0)  # where in time the train, validation and test parts of a recording end


def split_noise(recordings: Sequence[Int16]) -> dict[str, Int16]:
    """Cut each recording in time, 80 % train, 10 % validation, 10 % test -> a split's parts joined, int16 `[M]`."""
    parts: dict[str, list[Int16]] = {split: [np.empty(0, np.int16)] for split in SPLITS}
    for recording in recordings:
        start = 0
        for split, share in zip(SPLITS, SHARES, strict=True):
            end = round(share * len(recording))
            parts[split].append(recording[start:end])
            start = end
    return {split: np.concatenate(part) for split, part in parts.items()}


def varied_noise(noise: Int16, variants: int, rng: np.random.Generator, sample_rate: int) -> Int16:
    """`noise` int16 `[M]` and `variants` copies in other colours, so that few recordings are not learned by heart.

    Every 8 s of a copy, the gain in each octave from 31 Hz is drawn anew (normal, 8 dB), straight lines between them.
    -> int16 `[(1 + variants) * M]`, each piece at its former RMS.
    """
    knots = np.arange(5, np.log2(sample_rate / 2) + 1)
    parts = [noise]
    for _ in range(variants):
        for start in range(0, len(noise), VARIED_SECONDS * sample_rate):
            piece = noise[start : start + VARIED_SECONDS * sample_rate].astype(np.float64)
            octaves = np.log2(np.maximum(np.fft.rfftfreq(len(piece), 1 / sample_rate), 1))
            gain = amplitude(np.interp(octaves, knots, rng.normal(0, VARIED_DB, len(knots))))
            coloured = np.fft.irfft(np.fft.rfft(piece) * gain, len(piece))
            parts.append(saturated(coloured * (rms(piece) / max(float(rms(coloured)), 1e-6))))
    return np.concatenate(parts)


def generated_noise(rng: np.random.Generator, seconds: float, sample_rate: int) -> dict[str, Int16]:
    """White, pink and brown noise, mains hum and babble: each int16 `[seconds * sample_rate]`, -20 dBFS RMS."""
    length = round(seconds * sample_rate)

    def coloured(shape: Callable[[NDArray[np.floating[Any]]], Float64]) -> Float64:
        """White noise whose spectrum is shaped by `shape(frequency in Hz)`, RMS 1."""
        spectrum = np.fft.rfft(rng.standard_normal(length))
        sound = np.fft.irfft(spectrum * shape(np.fft.rfftfreq(length, 1 / sample_rate)), length)
        return sound / rms(sound)

    def talker() -> Float64:
        """The long-term spectrum of speech, loud and soft a few times a second."""
        loudness = coloured(lambda f: ((f > 0.3) & (f < 6)).astype(float))
        return np.maximum(loudness, 0) * coloured(lambda f: (f > 100) / (1 + (f / 500) ** 1.5))

    phase = 2 * np.pi * 50 * np.arange(length) / sample_rate
    harmonics = [np.sin(k * phase + rng.uniform(0, 2 * np.pi)) / k for k in range(1, 12)]
    sounds = {
        "white": coloured(lambda f: np.ones(len(f))),
        "pink": coloured(lambda f: 1 / np.sqrt(np.maximum(f, 20))),
        "brown": coloured(lambda f: 1 / np.maximum(f, 20)),
        "hum": np.sum(harmonics, axis=0) + 0.05 * coloured(lambda f: np.ones(len(f))),
        "babble": np.sum([talker() for _ in range(6)], axis=0),
    }
    return {name: to_int16(sound * amplitude(GENERATED_DBFS) / rms(sound)) for name, sound in sounds.items()}
