"""Background noise: recordings cut into splits, and noise made where none was recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.config import SPLITS

Int16 = NDArray[np.int16]
Float = NDArray[np.float64]
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


def generated_noise(rng: np.random.Generator, seconds: float, sample_rate: int) -> dict[str, Int16]:
    """White, pink and brown noise, mains hum and babble: each int16 `[seconds * sample_rate]`, -20 dBFS RMS."""
    length = round(seconds * sample_rate)

    def coloured(amplitude: Callable[[NDArray[np.floating[Any]]], Float]) -> Float:
        """White noise whose spectrum is shaped by `amplitude(frequency in Hz)`, RMS 1."""
        spectrum = np.fft.rfft(rng.standard_normal(length))
        sound = np.fft.irfft(spectrum * amplitude(np.fft.rfftfreq(length, 1 / sample_rate)), length)
        return np.asarray(sound / np.sqrt(np.mean(sound**2)), np.float64)

    def talker() -> Float:
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
    levelled = {name: 0.1 * sound / np.sqrt(np.mean(sound**2)) for name, sound in sounds.items()}
    return {name: np.clip(np.round(sound * 32768), -32768, 32767).astype(np.int16) for name, sound in levelled.items()}
