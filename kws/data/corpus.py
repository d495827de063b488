"""What training and evaluation read: clips with labels, split by split, and the background noise beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kws.config import SILENCE, SPLITS, UNKNOWN, DataConfig
from kws.data.labels import label_index, label_numbers, silence_clips
from kws.data.pack import Pack
from kws.errors import DataError
from kws.system.arrays import Int16, Int64

Value = TypeVar("Value")


class Clips:
    """N labelled clips of one length: rows of a pack, and then, in evaluation splits, silence held in memory.

    labels: int64 `[N]`; names: N str, such as `yes/0ab3b47d_nohash_0.wav` (a file below `root`) or `_silence_/3`;
    words: N str, what is said.
    """

    def __init__(
        self, pack: Pack, rows: Int64, labels: Int64, silence: Int16 | None = None, silence_label: int = -1
    ) -> None:
        self.root, self.clip_length = pack.listing.root, pack.rows.length
        self._rows, self._numbers = pack.rows, rows
        self._silence = np.empty((0, self.clip_length), np.int16) if silence is None else silence
        extra = len(self._silence)
        self.labels: Int64 = np.concatenate((labels, np.full(extra, silence_label, np.int64)))
        self.names = [pack.listing.clips[row] for row in rows] + [f"{SILENCE}/{i}" for i in range(extra)]

    @cached_property
    def words(self) -> list[str]:
        """The word said in each clip; `_silence_` where none is."""
        return [name.split("/", 1)[0] for name in self.names]

    def __len__(self) -> int:
        return len(self.labels)

    def waveforms(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> Int16:
        """Clips by number, in the order asked for -> int16 `[len(indices), clip_length]`, a fresh array.

        Raises `IndexError` for a number outside 0 .. N - 1.
        """
        chosen = np.asarray(indices, np.int64)
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < len(self):
            raise IndexError(f"clip {chosen.min()} or {chosen.max()} is outside 0 .. {len(self) - 1}")
        packed = len(self._numbers)
        if not len(self._silence) or (chosen < packed).all():
            return self._rows.read(self._numbers[chosen])
        out = np.empty((len(chosen), self.clip_length), np.int16)
        out[chosen < packed] = self._rows.read(self._numbers[chosen[chosen < packed]])
        out[chosen >= packed] = self._silence[chosen[chosen >= packed] - packed]
        return out


@dataclass(frozen=True)
class Corpus:
    """Everything that training and evaluation take from a data source.

    labels: the label set, in the order of the logits; splits: `train`, `validation`, `test` -> `Clips`;
    noise: split -> background noise int16 `[M]`.
    """

    labels: tuple[str, ...]
    splits: Mapping[str, Clips]
    noise: Mapping[str, Int16]


class PerSplit(Mapping[str, Value]):
    """Something for `train`, `validation` and `test`, each made when it is first asked for.

    Asking for a split in which a label has no clip raises `DataError`; iterating passes such a one over.
    """

    def __init__(self, make: Callable[[str], Value]) -> None:
        self._make = make
        self._made: dict[str, Value] = {}

    def __getitem__(self, split: str) -> Value:
        if split not in SPLITS:
            raise KeyError(split)
        if split not in self._made:
            self._made[split] = self._make(split)
        return self._made[split]

    def __iter__(self) -> Iterator[str]:
        for split in SPLITS:
            with suppress(DataError):
                self[split]
                yield split

    def __len__(self) -> int:
        return sum(1 for _ in self)


def train_clips(pack: Pack, members: Int64, labels: Sequence[str]) -> Clips:
    """Every clip of the rows `members` that has a label, unknown words included, no silence."""
    rows, numbers = _labelled(pack, members, labels)
    _require(numbers, labels, [label for label in labels if label != SILENCE], "train", pack)
    return Clips(pack, rows, numbers)


def evaluation_clips(
    pack: Pack, members: Int64, labels: Sequence[str], split: str, noise: Int16, config: DataConfig
) -> Clips:
    """Keyword clips of the rows `members`, unknown words and silence by their ratios to them, always the same draw."""
    rows, numbers = _labelled(pack, members, labels)
    rng = np.random.default_rng([config.seed, SPLITS.index(split)])
    unknown = label_index(labels, UNKNOWN)
    others = np.flatnonzero(numbers == unknown)
    keywords = np.flatnonzero(numbers != unknown)
    drawn = rng.choice(others, min(len(others), ceil(config.unknown_ratio * len(keywords))), replace=False)
    chosen = np.concatenate((keywords, np.sort(drawn)))
    rows, numbers = rows[chosen], numbers[chosen]
    optional = {SILENCE: 0.0, UNKNOWN: config.unknown_ratio}
    _require(numbers, labels, [label for label in labels if optional.get(label, 1)], split, pack)
    count = ceil(config.silence_ratio * len(keywords)) if SILENCE in labels else 0
    silence = silence_clips(noise, count, pack.rows.length, rng)
    return Clips(pack, rows, numbers, silence, label_index(labels, SILENCE))


def all_clips(pack: Pack, labels: Sequence[str], split: str) -> Clips:
    """Every clip of a folder that holds its own `_unknown_` and `_silence_`."""
    rows, numbers = _labelled(pack, np.arange(len(pack.listing.clips)), labels)
    _require(numbers, labels, labels, split, pack)
    return Clips(pack, rows, numbers)


def _labelled(pack: Pack, members: Int64, labels: Sequence[str]) -> tuple[Int64, Int64]:
    words = pack.listing.words
    numbers = label_numbers([words[row] for row in members], labels)
    return members[numbers >= 0], numbers[numbers >= 0]


def _require(numbers: Int64, labels: Sequence[str], needed: Sequence[str], split: str, pack: Pack) -> None:
    counts = np.bincount(numbers, minlength=len(labels))
    for label in needed:
        if counts[labels.index(label)] == 0:
            what = "clip of a word besides the keywords, for `_unknown_`" if label == UNKNOWN else f"clip of {label!r}"
            raise DataError(
                f"the {split} split of {pack.listing.root} holds no {what}; add recordings or choose other labels"
            )
