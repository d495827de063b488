"""Batches of an epoch of training: lanes of clips, unknown words and silence drawn anew, one batch decoded ahead."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.config import SILENCE, UNKNOWN, DataConfig
from kws.data import Corpus, silence_clips
from kws.data.crops import RecordingCrops
from kws.data.shuffled import shuffled
from kws.errors import KwsError
from kws.system.arrays import Float64, Int16, Int64

SILENT, CROPPED, SHUFFLED = -1, -2, -3  # stand for a clip that is drawn when its batch is made


@dataclass
class Batch:
    """One clip for each lane: `waveform` int16 `[B, S]`, `labels` int64 `[B]`."""

    waveform: Int16
    labels: Int64


class TrainBatches:
    """The training split as epochs of shuffled batches; all draws come from (seed, epoch, rank)."""

    def __init__(
        self,
        corpus: Corpus,
        config: DataConfig,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        sample_rate: int = 16000,
    ) -> None:
        """`batch_size` clips a batch in this process; each of `world_size` processes sees its share of an epoch."""
        self.clips, self.noise, self.labels = corpus.splits["train"], corpus.noise["train"], corpus.labels
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.silence_label = corpus.labels.index(SILENCE) if SILENCE in corpus.labels else -1
        self.unknown_label = corpus.labels.index(UNKNOWN) if UNKNOWN in corpus.labels else -1
        unknown = self.clips.labels == self.unknown_label
        self.keyword_indices, self.unknown_indices = np.flatnonzero(~unknown), np.flatnonzero(unknown)
        if config.train_min_clips:
            repeats = -(-config.train_min_clips // len(self.keyword_indices))
            self.keyword_indices = np.tile(self.keyword_indices, repeats)
        n_keywords = len(self.keyword_indices)
        self.n_unknown = min(len(self.unknown_indices), round(config.train_unknown_ratio * n_keywords))
        self.n_silence = round(config.train_silence_ratio * n_keywords) if self.silence_label >= 0 else 0
        self.n_shuffled = round(config.train_shuffled_ratio * n_keywords) if self.unknown_label >= 0 else 0
        self.sample_rate = sample_rate
        self.crops: RecordingCrops | None = None
        if config.train_recordings:
            folder = Path(config.train_recordings).expanduser()
            self.crops = RecordingCrops(folder, corpus.labels, self.clips.clip_length, sample_rate)
        self.n_cropped = round(config.train_recordings_ratio * n_keywords) if self.crops else 0
        n_clips = n_keywords + self.n_unknown + self.n_silence + self.n_shuffled + self.n_cropped
        self.n_batches = n_clips // (batch_size * world_size)
        if self.n_batches == 0:
            raise KwsError(
                f"trainer.batch_size {batch_size} (of {world_size} processes) is more than the {n_clips} clips of an "
                "epoch; choose a smaller one"
            )

    def prior_correction(self, config: DataConfig) -> Float64:
        """What to add to each label's logit, float64 `[K]`, for the label shares of evaluation instead of an epoch's.

        `log(p_evaluation / p_training)` up to a constant (M. Saerens, P. Latinne, C. Decaestecker, 2002);
        the keywords stand together, at 0. A label that evaluation does not have is left as it is.
        """
        crops = {name: self.n_cropped * share for name, share in self.crops.shares.items()} if self.crops else {}
        n_keywords = len(self.keyword_indices) + crops.get("keyword", 0)
        drawn = {
            UNKNOWN: (self.n_unknown + self.n_shuffled, config.unknown_ratio),
            SILENCE: (self.n_silence, config.silence_ratio),
        }
        correction = np.zeros(len(self.labels))
        for name, (count, ratio) in drawn.items():
            if (share := (count + crops.get(name, 0)) / n_keywords) > 0 and ratio > 0:
                correction[self.labels.index(name)] = np.log(ratio / share)
        return correction

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, the same for the same (seed, epoch, rank), without a last one that is not full."""
        order = np.random.default_rng([self.seed, epoch])
        unknown = order.permutation(self.unknown_indices)[: self.n_unknown]
        drawn = np.repeat([SILENT, CROPPED, SHUFFLED], [self.n_silence, self.n_cropped, self.n_shuffled])
        indices = order.permutation(np.concatenate([self.keyword_indices, unknown, drawn]))
        batches = indices[: self.n_batches * self.batch_size * self.world_size].reshape(-1, self.batch_size)
        batches = batches[self.rank :: self.world_size]
        rng = np.random.default_rng([self.seed, epoch, self.rank, 1])
        with ThreadPoolExecutor(1) as pool:
            upcoming = pool.submit(self._read, batches[0], rng)
            for following in batches[1:]:
                batch, upcoming = upcoming.result(), pool.submit(self._read, following, rng)
                yield batch
            yield upcoming.result()

    def _read(self, indices: Int64, rng: np.random.Generator) -> Batch:
        spoken = indices >= 0
        waveform = np.empty((len(indices), self.clips.clip_length), np.int16)
        waveform[spoken] = self.clips.waveforms(indices[spoken])
        labels = np.where(spoken, self.clips.labels[indices], self.silence_label)
        if n_silence := int((indices == SILENT).sum()):
            waveform[indices == SILENT] = silence_clips(self.noise, n_silence, self.clips.clip_length, rng)
        if self.crops and (n_cropped := int((indices == CROPPED).sum())):
            starts, labels[indices == CROPPED] = self.crops.draw(n_cropped, rng)
            waveform[indices == CROPPED] = self.crops.waveforms(starts)
        if n_shuffled := int((indices == SHUFFLED).sum()):
            takes = self.clips.waveforms(rng.choice(self.keyword_indices, n_shuffled))
            waveform[indices == SHUFFLED] = [shuffled(take, rng, self.sample_rate) for take in takes]
            labels[indices == SHUFFLED] = self.unknown_label
        return Batch(waveform, labels)
