"""Label sets: which label a spoken word has, and what silence sounds like."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.audio.levels import INT16_FULL_SCALE, amplitude, rms, saturated
from kws.config import SILENCE, UNKNOWN, DataConfig, keywords_of
from kws.errors import DataError
from kws.system.arrays import Float64, Int16, Int64
from kws.system.lists import read_lists

ZERO_SHARE, MIXED_SHARE, LEVELS_DBFS = 0.05, 0.3, (-70.0, -6.0)  # of silence clips


def word_set(name: str) -> tuple[str, ...]:
    """The keywords of the label set `12`, and all words of `30` (v0.01 of Speech Commands) and `35` (v0.02), sorted."""
    words = read_lists("kws.data", "words.txt")
    if name == "12":
        return words["core"]
    parts = ("core", "digits", "others", "since v0.02")
    return tuple(sorted(word for part in parts[: 3 if name == "30" else 4] for word in words[part]))


def choose_labels(config: DataConfig, words: Collection[str]) -> tuple[str, ...]:
    """The labels that `config` asks for: `_silence_` and `_unknown_`, if the set has them, then the keywords.

    `keywords` (in their order) and the sets `12` and `own` (every word of `words`) have both; `35`, `30` and `all`
    (every word of `words` again) have neither.
    """
    own = tuple(sorted(keywords_of(words)))
    if config.keywords or config.label_set in ("12", "own"):
        return (SILENCE, UNKNOWN, *(config.keywords or (own if config.label_set == "own" else word_set("12"))))
    return own if config.label_set == "all" else word_set(config.label_set)


def label_index(labels: Sequence[str], label: str) -> int:
    """The number of a label; -1, which no clip has, where the set does not have it."""
    return labels.index(label) if label in labels else -1


def check_labels(labels: Sequence[str], words: Collection[str], source: object) -> None:
    """Raise `DataError` for a label named twice, no keyword at all, or a keyword that no clip in `source` says."""
    if len(set(labels)) != len(labels):
        raise DataError(f"the labels {', '.join(labels)} name one twice")
    there = ", ".join(sorted(words)) or "none"
    if not keywords_of(labels):
        raise DataError(f"there is no keyword to learn; the words in {source} are: {there}")
    for keyword in keywords_of(labels):
        if keyword not in words:
            raise DataError(
                f"keyword {keyword!r} has no clips in {source}; choose by data.keywords or data.label_set=all: {there}"
            )
    if len(labels) < 2:
        alone = f"{source} holds one word, {labels[0]}, and nothing to tell it from"
        raise DataError(f"{alone}; add recordings of other words, or take data.label_set=own")


def label_numbers(words: Sequence[str], labels: Sequence[str]) -> Int64:
    """The label of each spoken word, int64 `[N]`: its own, else that of `_unknown_`; -1 where the set has neither."""
    own = {label: number for number, label in enumerate(labels)}
    numbers = {word: own.get(word, own.get(UNKNOWN, -1) if word != SILENCE else -1) for word in set(words)}
    return np.array([numbers[word] for word in words], np.int64)


def silence_clips(noise: Int16, count: int, clip_length: int, rng: np.random.Generator) -> Int16:
    """Draw `count` clips int16 `[count, clip_length]` from `noise` int16 `[M]`; less than a clip of it is repeated.

    One clip in twenty is digital zero; the others are a stretch of noise, or two of them mixed, brought to an RMS level
    uniform between -70 and -6 dBFS and clipped: recordings are made at one level, microphones hear noise at all levels.
    """
    if len(noise) < clip_length:
        noise = np.resize(noise, clip_length)
    silent, mixed = rng.random(count) < ZERO_SHARE, rng.random(count) < MIXED_SHARE
    starts = rng.integers(0, len(noise) - clip_length + 1, (2, count))
    second = rng.random(count) * mixed
    levels = INT16_FULL_SCALE * amplitude(rng.uniform(*LEVELS_DBFS, count)) * ~silent
    clips = np.empty((count, clip_length), np.int16)
    for i, clip in enumerate(clips):
        first, other = (_unit_rms(noise[start : start + clip_length]) for start in starts[:, i])
        clip[:] = saturated(levels[i] * _unit_rms(first + second[i] * other))
    return clips


def _unit_rms(samples: NDArray[Any]) -> Float64:
    return samples / max(float(rms(samples)), 1e-6)
