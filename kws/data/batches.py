"""Batches of an epoch of training: lanes of clips, unknown words and silence drawn anew, one batch decoded ahead."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kws.config import SILENCE, UNKNOWN, DataConfig
from kws.data import Corpus, silence_clips


@dataclass
class Batch:
    """One clip for each lane: `waveform` int16 `[B, S]`, `labels` int64 `[B]`."""

    waveform: npt.NDArray[np.int16]
    labels: npt.NDArray[np.int64]


class TrainBatches:
    """The training split as epochs of shuffled batches; all draws come from (seed, epoch, rank)."""

    def __init__(
        self, corpus: Corpus, config: DataConfig, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        """`batch_size` clips a batch in this process; each of `world_size` processes sees its share of an epoch."""
        self.clips, self.noise = corpus.splits["train"], corpus.noise["train"]
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.silence_label = corpus.labels.index(SILENCE) if SILENCE in corpus.labels else -1
        unknown_label = corpus.labels.index(UNKNOWN) if UNKNOWN in corpus.labels else -1
        unknown = self.clips.labels == unknown_label
        self.keyword_indices, self.unknown_indices = np.flatnonzero(~unknown), np.flatnonzero(unknown)
        n_keywords = len(self.keyword_indices)
        self.n_unknown = min(len(self.unknown_indices), round(config.train_unknown_ratio * n_keywords))
        self.n_silence = round(config.train_silence_ratio * n_keywords) if self.silence_label >= 0 else 0
        self.n_batches = (n_keywords + self.n_unknown + self.n_silence) // (batch_size * world_size)
        if self.n_batches == 0:
            raise ValueError(
                f"trainer.batch_size {batch_size} (of {world_size} processes) is more than an epoch of {n_keywords} keyword "
                "clips fills; choose a smaller one"
            )

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, the same for the same (seed, epoch, rank), without a last one that is not full."""
        order = np.random.default_rng([self.seed, epoch])
        unknown = order.permutation(self.unknown_indices)[: self.n_unknown]
        silence = np.full(self.n_silence, -1)
        indices = order.permutation(np.concatenate([self.keyword_indices, unknown, silence]))
        batches = indices[: self.n_batches * self.batch_size * self.world_size].reshape(-1, self.batch_size)
        batches = batches[self.rank :: self.world_size]
        rng = np.random.default_rng([self.seed, epoch, self.rank, 1])
        with ThreadPoolExecutor(1) as pool:
            upcoming = pool.submit(self._read, batches[0], rng)
            for following in batches[1:]:
                batch, upcoming = upcoming.result(), pool.submit(self._read, following, rng)
                yield batch
            yield upcoming.result()

    def _read(self, indices: npt.NDArray[np.int64], rng: np.random.Generator) -> Batch:
        spoken = indices >= 0
        waveform = np.empty((len(indices), self.clips.clip_length), np.int16)
        waveform[spoken] = self.clips.waveforms(indices[spoken])
        n_silence = int((~spoken).sum())
        if n_silence:
            waveform[~spoken] = silence_clips(self.noise, n_silence, self.clips.clip_length, rng)
        return Batch(waveform, np.where(spoken, self.clips.labels[indices], self.silence_label))
