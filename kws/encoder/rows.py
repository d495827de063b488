"""Rows of pieces to learn from: drawn and joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kws.encoder.pieces import Pieces
from kws.system.arrays import Float32

ROW_FRAMES = 405  # 16.2 s of 40 ms each
TIME_MASKS, TIME_MASK = 3, 4  # of a row, each of at most so many frames


class Row(NamedTuple):
    """heard float32 `[ROW_FRAMES, D]`, and the phonemes that are said in it."""

    heard: Float32
    phonemes: tuple[str, ...]


@dataclass
class Rows:
    """Endless rows: all pieces once, then again in another order. Pieces that are longer than a row are left out."""

    pieces: Pieces
    rng: np.random.Generator
    frames: int = ROW_FRAMES

    def __iter__(self) -> Iterator[Row]:
        lengths = np.diff(self.pieces.ends, prepend=0)
        while True:
            row: list[int] = []
            left = self.frames
            for i in self.rng.permutation(np.flatnonzero(lengths <= self.frames)).tolist():
                if lengths[i] > left:
                    yield self._row(row)
                    row, left = [], self.frames
                row.append(i)
                left -= int(lengths[i])
            yield self._row(row)

    def _row(self, members: list[int]) -> Row:
        starts, ends = np.concatenate([[0], self.pieces.ends]), self.pieces.ends
        heard = np.concatenate([self.pieces.heard[starts[i] : ends[i]] for i in members]).astype(np.float32)
        heard = np.concatenate([heard, np.repeat(heard[-1:], self.frames - len(heard), axis=0)])
        for _ in range(TIME_MASKS):
            width, first = int(self.rng.integers(TIME_MASK + 1)), int(self.rng.integers(self.frames - TIME_MASK))
            heard[first : first + width] = 0
        return Row(heard, tuple(name for i in members for name in self.pieces.phonemes[i]))
