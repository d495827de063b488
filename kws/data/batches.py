"""Batches of an epoch of training: lanes of clips, unknown words and silence drawn anew, one batch decoded ahead."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.config import SILENCE, UNKNOWN, DataConfig, keywords_of
from kws.data import Corpus
from kws.data.crops import RecordingCrops
from kws.data.labels import label_index, silence_clips
from kws.data.shuffled import shuffled
from kws.data.speech import RunningSpeech, SpeechLanes
from kws.errors import KwsError
from kws.system.arrays import Bool, Int16, Int64

SILENT, CROPPED, SHUFFLED = -1, -2, -3  # stand for a clip that is drawn when its batch is made
SPEECH_SPEED, SPEECH_GAIN_DB = 0.1, 10.0  # of a run of running speech, at most


@dataclass
class Batch:
    """One clip for each lane: `waveform` int16 `[B, S]`, `labels` int64 `[B]`.

    `running` bool `[B]`: lanes that hear running speech, labelled `_unknown_`; `fresh` `[B]`: those that begin to;
    `allowed` `[B, K]`: labels that may be heard in such a lane.
    """

    waveform: Int16
    labels: Int64
    running: Bool
    fresh: Bool
    allowed: Bool


class TrainBatches:
    """The training split as epochs of shuffled batches; all draws come from (seed, epoch).

    They are made for the whole batch, and each of several processes takes its rows: their number changes nothing.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: DataConfig,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        sample_rate: int = 16000,
        more_noise: Int16 | None = None,
    ) -> None:
        """`batch_size` clips a batch, of which process `rank` of `world_size` gets every `world_size`-th.

        `more_noise`: int16 `[M]`, for silence beside that of the corpus.
        """
        self.clips, self.noise, self.labels = corpus.splits["train"], corpus.noise["train"], corpus.labels
        if more_noise is not None:
            self.noise = np.concatenate([self.noise, more_noise])
        self.batch_size, self.seed = batch_size, seed
        self.rows = slice(rank, None, world_size)
        self.lanes = len(range(batch_size)[self.rows])
        self.silence_label = label_index(corpus.labels, SILENCE)
        self.unknown_label = label_index(corpus.labels, UNKNOWN)
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
        self.run_clips = config.speech_run_clips
        self.speech: RunningSpeech | None = None
        if config.speech:
            if self.unknown_label < 0:
                raise KwsError(f"data.speech needs the label {UNKNOWN}; choose data.keywords or data.label_set=12")
            self.speech = RunningSpeech(config.speech, sample_rate, config.cache_dir, "data.speech", corpus.labels)
        self.others = ~np.isin(corpus.labels, keywords_of(corpus.labels))
        self.command_mode = config.speech_command_mode
        self.n_running = round(config.speech_share * batch_size) if self.speech else 0
        self.n_single = batch_size - self.n_running  # lanes that hear a clip of its own each
        n_clips = n_keywords + self.n_unknown + self.n_silence + self.n_shuffled + self.n_cropped
        self.n_batches = n_clips // self.n_single
        if self.n_batches == 0:
            raise KwsError(
                f"trainer.batch_size {batch_size} is more than the {n_clips} clips of an epoch; choose a smaller one"
            )

    def epoch(self, epoch: int, mined: Int64 | None = None) -> Iterator[Batch]:
        """This process's rows of an epoch's batches, the same for the same (seed, epoch); none that is not full.

        `mined`: samples of the running speech to hear more often, int64 `[n]`.
        """
        order = np.random.default_rng([self.seed, epoch])
        unknown = order.permutation(self.unknown_indices)[: self.n_unknown]
        drawn = np.repeat([SILENT, CROPPED, SHUFFLED], [self.n_silence, self.n_cropped, self.n_shuffled])
        indices = order.permutation(np.concatenate([self.keyword_indices, unknown, drawn]))
        batches = indices[: self.n_batches * self.n_single].reshape(-1, self.n_single)
        rng = np.random.default_rng([self.seed, epoch, 0, 1])
        lanes: SpeechLanes | None = None
        if self.speech:
            lanes = SpeechLanes(
                self.speech, self.batch_size, self.n_running, self.run_clips, self.clips.clip_length,
                SPEECH_SPEED, SPEECH_GAIN_DB, rng, mined,
            )  # fmt: skip
        with ThreadPoolExecutor(1) as pool:
            upcoming = pool.submit(self._read, batches[0], rng, lanes)
            for following in batches[1:]:
                batch, upcoming = upcoming.result(), pool.submit(self._read, following, rng, lanes)
                yield batch
            yield upcoming.result()

    def _read(self, indices: Int64, rng: np.random.Generator, lanes: SpeechLanes | None) -> Batch:
        here = np.zeros(self.batch_size, bool)
        here[self.rows] = True
        running = fresh = np.zeros(self.batch_size, bool)
        if lanes is not None:
            running, fresh, speech, said = lanes.advance()
        clips, labels = self._single(indices, rng, here[~running])
        allowed = np.tile(self.others, (self.batch_size, 1))
        waveform = np.empty((self.batch_size, self.clips.clip_length), np.int16)
        waveform[~running] = clips
        every = np.full(self.batch_size, self.unknown_label)
        every[~running] = labels
        if lanes is not None:
            waveform[running] = speech
            if not self.command_mode:
                allowed[running] |= said
        rows = self.rows
        return Batch(waveform[rows], every[rows], running[rows], fresh[rows], allowed[rows])

    def _single(self, indices: Int64, rng: np.random.Generator, here: Bool) -> tuple[Int16, Int64]:
        """Clips that stand alone, int16 `[len(indices), S]`, and their labels; what isn't `here` may hold anything."""
        spoken = indices >= 0
        waveform = np.empty((len(indices), self.clips.clip_length), np.int16)
        waveform[spoken & here] = self.clips.waveforms(indices[spoken & here])
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
        return waveform, labels
