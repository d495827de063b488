"""Label sets: which label a spoken word has, and what silence sounds like."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from kws.config import SILENCE, UNKNOWN, DataConfig
from kws.data.errors import DataError

CORE = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
OTHERS = ("bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow")
WORDS_30 = tuple(sorted((*CORE, *DIGITS, *OTHERS)))
WORDS_35 = tuple(sorted((*WORDS_30, "backward", "follow", "forward", "learn", "visual")))
ZERO_SHARE, FULL_SHARE, LOWEST_DB = 0.05, 1 / 3, -60.0
Int16 = NDArray[np.int16]


def choose_labels(config: DataConfig, words: Collection[str]) -> tuple[str, ...]:
    """The labels that `config` asks for: `_silence_` and `_unknown_`, if the set has them, then the keywords.

    `keywords` (in their order) and the set `12` have both; `35`, `30` and `all` (every word of `words`) have neither.
    """
    if config.keywords:
        return (SILENCE, UNKNOWN, *config.keywords)
    if config.label_set == "12":
        return (SILENCE, UNKNOWN, *CORE)
    return {"30": WORDS_30, "35": WORDS_35, "all": tuple(sorted(words))}[config.label_set]


def keywords_of(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels that are spoken keywords."""
    return tuple(label for label in labels if label not in (SILENCE, UNKNOWN))


def check_labels(labels: Sequence[str], words: Collection[str], place: object) -> None:
    """Raise `DataError` for a label named twice, no keyword at all, or a keyword that no clip in `place` says."""
    if len(set(labels)) != len(labels):
        raise DataError(f"the labels {', '.join(labels)} name one twice")
    there = ", ".join(sorted(words)) or "none"
    if not keywords_of(labels):
        raise DataError(f"there is no keyword to learn; the words in {place} are: {there}")
    for keyword in keywords_of(labels):
        if keyword not in words:
            raise DataError(
                f"keyword {keyword!r} has no clips in {place}; choose by data.keywords or data.label_set=all: {there}"
            )


def label_numbers(words: Sequence[str], labels: Sequence[str]) -> NDArray[np.int64]:
    """The label of each spoken word, int64 `[N]`: its own, else that of `_unknown_`; -1 where the set has neither."""
    own = {label: number for number, label in enumerate(labels)}
    numbers = {word: own.get(word, own.get(UNKNOWN, -1) if word != SILENCE else -1) for word in set(words)}
    return np.array([numbers[word] for word in words], np.int64)


def silence_clips(
    noise: Int16,
    count: int,
    clip_length: int,
    rng: np.random.Generator,
    *,
    mix_probability: float = 0.0,
    boost_db: float = 0.0,
) -> Int16:
    """Draw `count` clips int16 `[count, clip_length]` from `noise` int16 `[M]`; less than a clip of it is repeated.

    One clip in twenty is digital zero, a third is at the recorded level, the others at a gain uniform in dB from -60 to
    `boost_db`, clipped. With `mix_probability` a clip is the sum of two pieces, each at its own gain.
    """
    noise = np.resize(noise, max(len(noise), clip_length))
    kind = rng.random(count)
    mixed = rng.random(count) < mix_probability
    starts = rng.integers(0, len(noise) - clip_length + 1, (2, count))
    gains = 10 ** (rng.uniform(LOWEST_DB, boost_db, (2, count)) / 20)
    gains[:, kind > 1 - FULL_SHARE] = 1
    gains[:, kind < ZERO_SHARE] = 0
    gains[1, ~mixed] = 0
    clips = np.empty((count, clip_length), np.int16)
    for i, clip in enumerate(clips):
        sound = np.zeros(clip_length, np.float32)
        for start, gain in zip(starts[:, i], gains[:, i], strict=True):
            if gain:
                sound += np.float32(gain) * noise[start : start + clip_length]
        clip[:] = np.clip(np.round(sound), -32768, 32767)
    return clips
