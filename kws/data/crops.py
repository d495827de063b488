"""Clips cut at random from a recording set, labelled by what is said in them, to train on beside words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kws.config import SILENCE, UNKNOWN, is_keyword
from kws.data.decode import read_int16
from kws.errors import DataError
from kws.recordings.labels import Recording, read_recordings
from kws.system.arrays import Float64, Int16, Int64

GRID = 0.01  # s between the times at which a clip may begin
HEARD = 0.25  # s of other speech that make a clip `_unknown_`
LATEST = 0.6  # s between the end of a keyword and that of its clip, at most
SHARES = {"keyword": 0.3, UNKNOWN: 0.6, SILENCE: 0.1}  # of the clips drawn


class RecordingCrops:
    """A recording set (of `python -m kws.make_stream`, or one's own with a `labels.csv`) as a source of clips.

    A clip is a keyword's if it holds that whole word, ending within its last 0.6 s, and nothing said behind it;
    `_unknown_` if it holds other speech and no part of a keyword; `_silence_` if nothing is said in it. No clip begins
    elsewhere.
    """

    def __init__(self, folder: Path, labels: Sequence[str], clip_length: int, sample_rate: int) -> None:
        """Read all of `folder` into memory (115 MB an hour). Raises `KwsError` for one that cannot be used."""
        if missing := {UNKNOWN, SILENCE} - set(labels):
            raise DataError(
                f"data.train_recordings needs the labels {' and '.join(sorted(missing))}; choose data.keywords"
            )
        if not folder.is_dir():
            raise DataError(
                f"data.train_recordings {folder} is not a folder; make it with python -m kws.make_stream "
                f"recipe=training output={folder}, or train on single clips alone with data.train_recordings="
            )
        sounds, starts, numbers = [], [], []
        self.clip_length, position = clip_length, 0
        for recording in read_recordings(folder, labels):
            samples = read_int16(recording.parts[0].path, sample_rate)
            begins = np.arange(0, max(0, len(samples) - clip_length), round(GRID * sample_rate))
            found = crop_labels(recording, begins / sample_rate, clip_length / sample_rate, labels)
            sounds.append(samples)
            starts.append(begins[found >= 0] + position)
            numbers.append(found[found >= 0])
            position += len(samples)
        self._samples, all_starts, all_labels = np.concatenate(sounds), np.concatenate(starts), np.concatenate(numbers)
        others = {UNKNOWN: list(labels).index(UNKNOWN), SILENCE: list(labels).index(SILENCE)}
        kinds = {name: all_labels == number for name, number in others.items()}
        kinds["keyword"] = ~(kinds[UNKNOWN] | kinds[SILENCE])
        self._starts = {name: all_starts[kind] for name, kind in kinds.items() if kind.any()}
        self._labels = {name: all_labels[kind] for name, kind in kinds.items() if kind.any()}
        if not self._starts:
            raise DataError(f"{folder} holds no clip; a recording must be longer than one")

    @property
    def shares(self) -> dict[str, float]:
        """Shares of keywords, `_unknown_` and `_silence_` in the clips drawn, of those that the set has."""
        total = sum(SHARES[name] for name in self._starts)
        return {name: SHARES[name] / total for name in self._starts}

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Int64, Int64]:
        """First samples and labels of `count` clips, int64 `[count]` each: three tenths keywords, a tenth silence."""
        kinds = rng.choice(len(self.shares), count, p=list(self.shares.values()))
        starts, labels = np.empty(count, np.int64), np.empty(count, np.int64)
        for kind, name in enumerate(self._starts):
            chosen = rng.integers(len(self._starts[name]), size=int((kinds == kind).sum()))
            starts[kinds == kind], labels[kinds == kind] = self._starts[name][chosen], self._labels[name][chosen]
        return starts, labels

    def waveforms(self, starts: Int64) -> Int16:
        """The clips at `starts`, int16 `[len(starts), clip_length]`."""
        return np.stack([self._samples[start : start + self.clip_length] for start in starts])


def crop_labels(recording: Recording, starts: Float64, seconds: float, labels: Sequence[str]) -> Int64:
    """The label of a clip of `seconds` at each of `starts` (s) of a recording, -1 for none: int64 `[len(starts)]`."""
    ends = starts + seconds
    result = np.full(len(starts), -1, np.int64)

    def overlaps(margin: float, keywords: bool) -> Int64:
        events = [event for event in recording.events if is_keyword(event.keyword) == keywords]
        onsets, offsets = (np.sort([getattr(event, name) for event in events]) for name in ("onset", "offset"))
        return np.searchsorted(onsets, ends - margin) - np.searchsorted(offsets, starts + margin, "right")

    no_keyword = overlaps(0, True) == 0
    result[no_keyword & (overlaps(HEARD, False) > 0)] = list(labels).index(UNKNOWN)
    result[no_keyword & (overlaps(0, False) == 0)] = list(labels).index(SILENCE)
    following = [*recording.events[1:], None]
    for event, after in zip(recording.events, following, strict=True):
        if is_keyword(event.keyword):
            earliest_end, latest_end = event.offset, min(event.offset + LATEST, after.onset if after else np.inf)
            whole = (starts <= event.onset) & (ends >= earliest_end) & (ends <= latest_end)
            result[whole] = list(labels).index(event.keyword)
    return result
