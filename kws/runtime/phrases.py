"""Typed words in a stream of phoneme posteriors: scores against whatever else may be said, then detections. numpy only.

A word scores by its best path through its phonemes, blanks of a CTC model between them, from any frame on (A. Graves
et al., 2006). Each frame of the path gives the log ratio of its label's posterior to the loudest one's: what a free
loop over all phonemes, the filler, would give. The sum, for each phoneme of the word, is the score, so that long and
short words are judged alike; pauses within and the length of the whole are bounded by the word's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kws.errors import KwsError
from kws.runtime.detector import Detection
from kws.system.arrays import Float32, Float64, Int64

LONGEST_PAUSE, PHONEME = 0.3, 0.2  # s: of a blank within a word; of a word for each of its phonemes, at most
REFRACTORY = 0.6  # s from a detection of a word to its next
NEVER = -1e9


def threshold_of(metadata: Mapping[str, Any], n_phonemes: int) -> float:
    """What a word of so many phonemes must reach by the `typed_thresholds` of a model's metadata."""
    values = metadata["typed_thresholds"]
    return float(values[min(n_phonemes, len(values)) - 1])


class PhraseScorer:
    """The scores of W words in one stream of logits `[T, K]`."""

    def __init__(self, words: Sequence[Sequence[int]], blank: int, frame_seconds: float) -> None:
        """`words`: the labels of each word's phonemes. Raises `KwsError` for a word without any."""
        if not all(words):
            raise KwsError("a word has no phonemes; type one that can be said")
        self.lengths = np.array([len(word) for word in words])
        width = 2 * int(self.lengths.max()) - 1
        self._labels = np.full((len(words), width), blank)
        self._skips = np.zeros((len(words), width), bool)  # whether a state may follow the phoneme before its blank
        for row, skips, word in zip(self._labels, self._skips, words, strict=True):
            row[: 2 * len(word) : 2] = word
            skips[2 : 2 * len(word) - 1 : 2] = np.diff(word) != 0
        self._is_blank = np.arange(width) % 2 == 1
        self._ends = 2 * self.lengths - 2
        self._pause = round(LONGEST_PAUSE / frame_seconds)
        self._longest = np.round(self.lengths * PHONEME / frame_seconds)[:, None]
        self.reset()

    def reset(self) -> None:
        """Begin a new stream at frame 0."""
        shape = self._labels.shape
        self.frame = 0
        self._scores: Float64 = np.full(shape, NEVER)
        self._starts: Int64 = np.zeros(shape, np.int64)  # frame in which the path to a state began ...
        self._entered: Int64 = np.zeros(shape, np.int64)  # ... and the one in which it came to that state

    def forget(self, word: int) -> None:
        """Let no path of a word go on."""
        self._scores[word] = NEVER

    def step(self, logits: Float32) -> tuple[Float64, Int64]:
        """One frame `[K]` -> of each word the score, float64 `[W]`, at most 0, and the frame where its path began."""
        emission = (logits - logits.max()).astype(np.float64)
        scores, starts = self._scores, self._starts
        entry = np.zeros((len(scores), 1))
        never, none = np.full((len(scores), 1), NEVER), np.zeros((len(scores), 1), np.int64)
        stay = np.where(self._is_blank & (self.frame - self._entered >= self._pause), NEVER, scores)
        before = np.concatenate([entry, scores[:, :-1]], axis=1)
        skipped = np.where(
            self._skips, np.concatenate([never, never, scores[:, :-2]], axis=1)[:, : scores.shape[1]], NEVER
        )
        choices = np.stack([stay, before, skipped])
        choice = choices.argmax(axis=0)
        here = np.full((len(scores), 1), self.frame)
        origins = np.stack([
            starts,
            np.concatenate([here, starts[:, :-1]], axis=1),
            np.concatenate([none, none, starts[:, :-2]], axis=1)[:, : scores.shape[1]],
        ])  # fmt: skip
        self._scores = np.take_along_axis(choices, choice[None], 0)[0] + emission[self._labels]
        self._starts = np.take_along_axis(origins, choice[None], 0)[0]
        self._entered = np.where(choice == 0, self._entered, self.frame)
        self._scores[self.frame - self._starts >= self._longest] = NEVER
        self.frame += 1
        rows = np.arange(len(scores))
        return self._scores[rows, self._ends] / self.lengths, self._starts[rows, self._ends]


class PhraseDetector:
    """Detections of typed words: a `Detection` where a word's score, e to the power of it, reaches its threshold."""

    def __init__(
        self, names: Sequence[str], scorer: PhraseScorer, thresholds: Sequence[float], frame_seconds: float
    ) -> None:
        """`thresholds`: of each word, between 0 and 1."""
        self.names, self.scorer, self.thresholds = list(names), scorer, np.array(thresholds)
        self._seconds, self._wait = frame_seconds, round(REFRACTORY / frame_seconds)
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self.scorer.reset()
        self._free_from = np.zeros(len(self.names), np.int64)
        self.scores = np.zeros(len(self.names))  # of the last frame

    def process(self, logits: Float32) -> list[Detection]:
        """The next frames `[T, K]` of the stream."""
        found = []
        for row in logits:
            scores, starts = self.scorer.step(row)
            frame = self.scorer.frame
            self.scores = posteriors = np.exp(scores)
            for word in np.flatnonzero((posteriors >= self.thresholds) & (frame >= self._free_from)):
                start, end = int(starts[word]) * self._seconds, frame * self._seconds
                found.append(Detection(self.names[word], float(posteriors[word]), start, end, end))
                self._free_from[word] = frame + self._wait
                self.scorer.forget(int(word))
        return found
