"""Logits of frames -> posteriors pooled over a sliding window, in an order fixed by a frame's number in the stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kws.errors import KwsError
from kws.system.arrays import Float64

POOLINGS = ("sum", "mean")
MAX_LOGIT = 600.0  # exp of it, summed over any window, stays finite in float64
CHUNK = 512  # frames smoothed at once


def total(x: Float64) -> Float64:
    """Sum over the last axis, kept, added in one order whatever the shape: `[..., K] -> [..., 1]`."""
    return np.add.accumulate(x, axis=-1)[..., -1:]


def evidence(logits: ArrayLike, pooling: str) -> Float64:
    """Logits `[..., K]` -> float64 evidence `[..., K]`: a label's posterior is its share of a window's evidence.

    `sum`: exp(z), so that a frame weighs as much as it is sure. `mean`: the frame's softmax, so that all weigh alike.
    """
    z = np.array(logits, np.float64, order="C")
    if pooling == "mean":
        z = np.exp(z - z.max(axis=-1, keepdims=True))
        return z / total(z)
    if pooling == "sum":
        return np.exp(z.clip(-MAX_LOGIT, MAX_LOGIT))
    raise KwsError(f"pooling is {pooling!r}; choose one of {', '.join(POOLINGS)}")


def pool_posteriors(logits: ArrayLike, pooling: str) -> Float64:
    """Logits `[..., T, K]` of some frames -> one distribution over labels, float64 `[..., K]`.

    `sum`: p_k = sum_t exp(z_tk) / sum_tj exp(z_tj). `mean`: the mean over t of softmax(z_t).
    """
    pooled = np.add.accumulate(evidence(logits, pooling), axis=-2)[..., -1, :]
    return pooled / total(pooled)


class Smoothed(NamedTuple):
    """The newest T frames of a stream, pooled, and what it takes to pool them otherwise."""

    posteriors: Float64  # [T, K]: what the window that ends with each frame gives each label
    sums: Float64  # [T, K]: the evidence in that window
    evidence: Float64  # [T + at least a window, K]: of each frame alone, those before the newest too


class Smoother:
    """Posteriors over the last `window` frames of one stream of `n_labels`, bit for bit the same for any chunks."""

    def __init__(self, n_labels: int, window: int, pooling: str, bias: ArrayLike = 0.0) -> None:
        """`bias` float64 `[n_labels]` (or one number) is added to every frame's logits."""
        self._n_labels, self._window, self._pooling = n_labels, window, pooling
        self._bias = np.asarray(bias, np.float64)
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self._position = 0  # frames seen
        self._history = np.zeros((self._window, self._n_labels))  # evidence since the start of the block before

    def push(self, logits: ArrayLike) -> Iterator[Smoothed]:
        """The next logits `[T, K]`, any T, smoothed in short chunks. Raises `ValueError` for another shape, or NaN."""
        z = np.asarray(logits)
        if z.ndim != 2 or z.shape[1] != self._n_labels:
            raise KwsError(f"logits have shape {list(z.shape)}; the detector takes [frames, {self._n_labels}]")
        if not np.isfinite(z).all():
            raise KwsError("logits hold NaN or infinity; the model's output cannot be used")
        for first in range(0, len(z), CHUNK):
            new = evidence(z[first : first + CHUNK] + self._bias, self._pooling)
            seen = np.concatenate([self._history, new])
            sums = self._sums(seen)[-len(new) :]
            self._position += len(new)
            self._history = seen[len(seen) - self._window - self._position % self._window :]
            yield Smoothed(sums / total(sums), sums, seen)

    def _sums(self, seen: Float64) -> Float64:
        """Evidence summed over the window that ends with each frame `[n, K]`; right from the second block on.

        `seen` begins at a multiple of the window's length W in the stream. A window is the end of one block of W frames
        and the start of the next, so running sums within blocks suffice: constant cost, and no drift (van Herk, 1992).
        """
        length = len(seen)
        blocks = np.zeros((-(-length // self._window), self._window, self._n_labels))
        blocks.reshape(-1, self._n_labels)[:length] = seen
        ends = np.add.accumulate(blocks[:-1, :0:-1], axis=1)[:, ::-1]
        sums = np.add.accumulate(blocks, axis=1)
        sums[1:, :-1] += ends
        return sums.reshape(-1, self._n_labels)[:length]
