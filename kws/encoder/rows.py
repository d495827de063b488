"""Rows of pieces to learn from: drawn, joined, and heard through rooms, noise and microphones, all on log-mel features.

A room's tail, added noise, a microphone's colour and a longer vocal tract are simple on the power of mel bands, so that
features are computed once and a row costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

from kws.encoder.pieces import HOPS, Pieces
from kws.system.arrays import Float32, Float64

ROW_FRAMES = 1620  # 16.2 s, a multiple of all strides
UNSETTLED = 10  # embeddings at the beginning of a piece that still hear the one before
SPEED, WARP = (0.85, 1.2), 0.08
GAIN, COLOUR = (-3.5, 2.0), 0.9  # natural logarithms of power
ROOM_SHARE, RT60, DIRECT = 0.4, (0.15, 0.7), (-0.5, 2.8)  # seconds; logarithm of direct to reverberant power
NOISE_SHARE, SNR, BABBLE_SHARE = 0.7, (0.7, 6.5), 0.25  # logarithm of power
BAND_MASK, TIME_MASK = 5, 15
FLOOR = 1e-7  # of power, as the front end's log_offset


class Row(NamedTuple):
    """features float32 `[ROW_FRAMES, 32]`; phonemes, None where a part's are unknown; embeddings float32 `[M, 96]`.

    times: of each embedding, the feature frame with which it ends, float32 `[M]`.
    """

    features: Float32
    phonemes: tuple[str, ...] | None
    embeddings: Float32
    times: Float32


@dataclass
class Rows:
    """Endless rows from pieces; noise: pieces without speech."""

    pieces: Pieces
    noise: Pieces
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self._starts = np.concatenate([[0], self.pieces.ends[:-1]])

    def __iter__(self) -> Iterator[Row]:
        known = [i for i, said in enumerate(self.pieces.phonemes) if said is not None]
        unknown = [i for i, said in enumerate(self.pieces.phonemes) if said is None]
        while True:
            rows = [*self._filled(known, True), *self._filled(unknown, False)]
            for i in self.rng.permutation(len(rows)):
                yield self._row(*rows[i])

    def _filled(self, members: Sequence[int], known: bool) -> list[tuple[list[int], list[float], bool]]:
        """All `members` once, in rows: their numbers, their speeds."""
        rows: list[tuple[list[int], list[float], bool]] = []
        left: list[float] = []
        for i in self.rng.permutation(np.array(members, np.int64)).tolist():
            speed = float(self.rng.uniform(*SPEED))
            length = (self.pieces.ends[i] - self._starts[i]) / speed + 2
            if length > ROW_FRAMES:
                continue
            place = next((n for n in range(max(0, len(rows) - 8), len(rows)) if left[n] >= length), -1)
            if place < 0:
                rows.append(([], [], known))
                left.append(float(ROW_FRAMES))
                place = len(rows) - 1
            rows[place][0].append(i)
            rows[place][1].append(speed)
            left[place] -= length
        return rows

    def _row(self, members: list[int], speeds: list[float], known: bool) -> Row:
        parts, embeddings, times, position = [], [], [], 0
        for i, speed in zip(members, speeds, strict=True):
            start, end = int(self._starts[i]), int(self.pieces.ends[i])
            at = start + np.arange(0, end - start - 1, speed)
            parts.append(between(self.pieces.features[start:end].astype(np.float32), at - start))
            chosen = np.arange(UNSETTLED, (end - start) // HOPS)
            embeddings.append(self.pieces.embeddings[start // HOPS + chosen].astype(np.float32))
            times.append(position + (chosen + 1) * HOPS / speed)
            position += len(parts[-1])
        row = np.concatenate(parts)
        features = np.concatenate([row, np.repeat(row[-1:], ROW_FRAMES - len(row), axis=0)])
        said = tuple(name for i in members for name in self.pieces.phonemes[i] or ()) if known else None
        return Row(self._heard(features), said, np.concatenate(embeddings), np.concatenate(times).astype(np.float32))

    def _heard(self, features: Float32) -> Float32:
        rng, bands = self.rng, features.shape[1]
        warp = np.clip(np.arange(bands) * (1 + rng.uniform(-WARP, WARP)), 0, bands - 1)
        power = np.exp(between(features.T, warp).T)
        if rng.random() < ROOM_SHARE:
            decay = np.exp(-13.8 * 0.01 / rng.uniform(*RT60))
            tail = lfilter([0.0, 1.0], [1.0, -decay], power, axis=0)
            power = power + (1 - decay) * np.exp(-rng.uniform(*DIRECT)) * tail
        if rng.random() < NOISE_SHARE:
            noise = np.exp(self._noise(len(power)))
            loud = np.quantile(power.mean(axis=1), 0.8)
            power = power + noise * (loud * np.exp(-rng.uniform(*SNR)) / max(float(noise.mean()), FLOOR))
        curve = np.cos(np.outer(np.arange(1, 5), np.linspace(0, np.pi, bands))) * rng.normal(0, 1, (4, 1))
        log = np.log(power + FLOOR) + rng.uniform(*GAIN) + COLOUR * curve.sum(axis=0) / 2
        width, first = int(rng.integers(BAND_MASK + 1)), int(rng.integers(bands - BAND_MASK))
        log[:, first : first + width] = log.mean()
        for _ in range(3):
            width, first = int(rng.integers(TIME_MASK + 1)), int(rng.integers(len(log) - TIME_MASK))
            log[first : first + width] = log.mean()
        return np.maximum(log, np.log(FLOOR)).astype(np.float32)

    def _noise(self, n: int) -> Float32:
        source = self.pieces if self.rng.random() < BABBLE_SHARE else self.noise
        i = int(self.rng.integers(len(source.ends)))
        start = int(source.ends[i - 1]) if i else 0
        return np.resize(source.features[start : int(source.ends[i])].astype(np.float32), (n, source.features.shape[1]))


def between(values: Float32, at: Float64) -> Float32:
    """`values` `[N, D]` at the fractional places `at` `[M]`, each from 0 to N - 1: linearly between neighbours."""
    first = np.minimum(at.astype(np.int64), len(values) - 2)
    share = (at - first)[:, None].astype(np.float32)
    return values[first] * (1 - share) + values[first + 1] * share
