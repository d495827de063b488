"""Running speech to train on: decoded once into one flat int16 file, from which runs are read, and what it says."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kws.config import keywords_of
from kws.data.decode import read_int16
from kws.errors import DataError
from kws.recordings.speech import pause, read_speech, says
from kws.system.arrays import Bool, Int16, Int64
from kws.system.atomic import whole_folder
from kws.system.progress import Stage

SPEECH, ENDS, FORMAT = "speech.int16", "ends.npy", 2
MINED_SHARE = 0.5  # of the runs, where there are mined places
MINED_BEFORE = 0.6  # s of a run that are heard before such a place, at least
REMEMBERED = 0.5  # s for which a word may still be heard after its file has ended


class RunningSpeech:
    """Hours of running speech as one stream int16 `[length]`, mapped from the disk rather than held in memory."""

    def __init__(
        self,
        place: str | Path,
        sample_rate: int,
        cache_dir: str | Path,
        setting: str,
        labels: Sequence[str] = (),
        progress: bool = True,
    ) -> None:
        """Pack the files of `place`, a folder or a table, into `cache_dir`, or find them there.

        `setting` is the option that names the place, `labels` those that `said` tells of. Raises `KwsError` as
        `read_speech` and `read_int16` do.
        """
        self.place, self.sample_rate = Path(place).expanduser(), sample_rate
        utterances = read_speech(self.place, setting)
        paths = [utterance.path for utterance in utterances]
        stamps = "".join(f"{path}\0{(status := path.stat()).st_size}\0{status.st_mtime_ns}\n" for path in paths)
        what = f"{FORMAT} {sample_rate} {stamps}"
        packed = (
            Path(cache_dir).expanduser()
            / f"speech-{hashlib.sha256(what.encode(errors='surrogateescape')).hexdigest()[:20]}"
        )
        if not packed.is_dir():
            with whole_folder(packed, "data.cache_dir") as partial:
                _pack(paths, sample_rate, partial, progress)
        self._samples: Int16 = np.memmap(packed / SPEECH, "<i2", "r")
        self._ends: Int64 = np.load(packed / ENDS)
        keywords = keywords_of(labels)
        spoken = [[label in keywords and says(text, label) for label in labels] for _, text in utterances]
        self._spoken = np.array(spoken, bool).reshape(len(utterances), len(labels))

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def hours(self) -> float:
        """How much there is."""
        return len(self) / self.sample_rate / 3600

    def starts(self, count: int, length: int, rng: np.random.Generator) -> Int64:
        """Where `count` runs of `length` samples begin, uniform over the hours: int64 `[count]`."""
        if len(self) < length:
            raise DataError(
                f"{self.place} holds {len(self) / self.sample_rate:.1f} s of speech, less than a run of "
                f"{length / self.sample_rate:.1f} s; add recordings or lower data.speech_run_clips"
            )
        return rng.integers(len(self) - length + 1, size=count)

    def run(self, start: int, length: int) -> Int16:
        """`length` samples from `start` on, int16 `[length]`, a fresh array."""
        return np.array(self._samples[start : start + length])

    def said(self, start: int, length: int) -> Bool:
        """Keywords that the texts of the files heard there, or just before, hold: bool `[K]`, in the labels' order."""
        first = np.searchsorted(self._ends, start - round(REMEMBERED * self.sample_rate), side="right")
        last = np.searchsorted(self._ends, start + length - 1, side="right")
        return np.logical_or.reduce(self._spoken[first : last + 1], axis=0)


def _pack(paths: list[Path], sample_rate: int, folder: Path, progress: bool) -> None:
    between, ends, end = pause(sample_rate), list[int](), 0
    with (folder / SPEECH).open("wb") as out, Stage("running speech", len(paths), "file", show=progress) as stage:
        for path in paths:
            samples = np.concatenate([read_int16(path, sample_rate), between])
            out.write(samples.astype("<i2").tobytes())
            ends.append(end := end + len(samples))
            stage.advance()
    np.save(folder / ENDS, np.array(ends, np.int64))


class SpeechLanes:
    """Which lanes of a batch hear running speech, and what: a run of `run_clips` clips each, then another lane does.

    `n_lanes` of the `batch_size` lanes hear it at a time. A run is played up to `speed` faster or slower and at a level
    within +- `gain_db`: one of each for a run, so that its clips join without a seam.
    """

    def __init__(
        self,
        speech: RunningSpeech,
        batch_size: int,
        n_lanes: int,
        run_clips: int,
        clip_length: int,
        speed: float,
        gain_db: float,
        rng: np.random.Generator,
        mined: Int64 | None = None,
    ) -> None:
        """Lanes at the start of an epoch: runs are under way at random places in them.

        `mined`: samples of the speech, int64 `[n]`, one of which half of the runs hold.
        """
        self.speech, self.n_lanes, self.run_clips, self.clip_length = speech, n_lanes, run_clips, clip_length
        self._speed, self._gain_db, self._rng = speed, gain_db, rng
        self._mined = np.empty(0, np.int64) if mined is None else mined
        self._left = np.zeros(batch_size, np.int64)  # clips until the lane's run ends
        self._left[:n_lanes] = rng.integers(1, run_clips + 1, n_lanes)
        self._runs: dict[int, list[tuple[Int16, Bool]]] = {}  # lane -> clips left of its run, what they say

    def advance(self) -> tuple[Bool, Bool, Int16, Bool]:
        """The next batch: lanes that hear speech `[B]`, those of them that begin a run `[B]`, their clips `[n, S]`.

        Last the keywords that the texts of each clip's files hold, bool `[n, K]`.
        """
        free = np.flatnonzero(self._left == 0)
        begin = self._rng.choice(free, self.n_lanes - int((self._left > 0).sum()), replace=False)
        self._left[begin] = self.run_clips
        running = self._left > 0
        fresh = running & ~np.isin(np.arange(len(running)), list(self._runs))
        heard = list[tuple[Int16, Bool]]()
        for lane in np.flatnonzero(running).tolist():
            run = self._runs.pop(lane, None) or self._draw(int(self._left[lane]))
            heard.append(run[0])
            self._left[lane] -= 1
            if len(run) > 1:
                self._runs[lane] = run[1:]
        clips, said = zip(*heard, strict=True)
        return running, fresh, np.stack(clips), np.stack(said)

    def _draw(self, clips: int) -> list[tuple[Int16, Bool]]:
        """A run of `clips` clips, int16 `[clip_length]`, each with the keywords that it may hold."""
        rng, length = self._rng, clips * self.clip_length
        speed = 1 + rng.uniform(-self._speed, self._speed)
        heard = int(np.ceil(length * speed)) + 1
        start = int(self.speech.starts(1, heard, rng)[0])
        if len(self._mined) and rng.random() < MINED_SHARE:
            before = rng.uniform(MINED_BEFORE * self.speech.sample_rate, heard)
            start = min(max(0, int(rng.choice(self._mined) - before)), len(self.speech) - heard)
        samples = self.speech.run(start, heard)
        gain = 10 ** (rng.uniform(-self._gain_db, self._gain_db) / 20)
        played = gain * np.interp(np.arange(length) * speed, np.arange(heard), samples)
        waveforms = np.clip(np.round(played), -32768, 32767).astype(np.int16).reshape(clips, self.clip_length)
        step = self.clip_length * speed
        said = [self.speech.said(start + int(clip * step), int(np.ceil(step))) for clip in range(clips)]
        return list(zip(waveforms, said, strict=True))
