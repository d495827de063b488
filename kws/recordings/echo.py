"""Rooms that are made rather than measured: the direct sound, and noise that decays."""

from __future__ import annotations

import numpy as np

from kws.audio.levels import amplitude
from kws.system.arrays import Float32

NEAREST = 0.003  # s after the direct sound in which nothing comes back: the nearest wall is half a metre away


def decaying_room(rng: np.random.Generator, rt60: float, direct_db: float, sample_rate: int) -> Float32:
    """An impulse response float32 `[R]`: 1, then normal noise that falls by 60 dB in `rt60` seconds.

    `direct_db`: the energy of the direct sound over that of the noise.
    """
    length = round(rt60 * sample_rate)
    room = rng.standard_normal(length, np.float32) * 10 ** (-3 * np.arange(length, dtype=np.float32) / length)
    room[: round(NEAREST * sample_rate)] = 0
    room *= amplitude(-direct_db) / np.sqrt(np.square(room).sum())
    room[0] = 1
    return room.astype(np.float32)


def convolved(dry: Float32, room: Float32) -> Float32:
    """What is heard of `dry` float32 `[S]` in `room` `[R]`: `[S]`, the echo after the end cut off."""
    from scipy import fft

    size = fft.next_fast_len(len(dry) + len(room) - 1, real=True)
    return np.asarray(fft.irfft(fft.rfft(dry, size) * fft.rfft(room, size), size)[: len(dry)], np.float32)
