"""Which split a clip is in: by the official lists, or by the official hash of its speaker."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from kws.config import SPLITS
from kws.errors import DataError

LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
# P. Warden's rule (Speech Commands README, `which_set`): SHA-1 modulo this + 1, as a percentage of this.
MAX_NUM_WAVS_PER_CLASS = 2**27 - 1


def speaker_of(path: str) -> str | None:
    """The speaker in `<word>/<speaker>_nohash_<n>.wav`, or None where the name carries none."""
    name, found, _ = path.rsplit("/", 1)[-1].partition("_nohash_")
    return name if found else None


def hash_split(name: str, validation_percent: float = 10.0, test_percent: float = 10.0) -> str:
    """The official rule: the split of a speaker (or of whatever `name` identifies), for ever the same."""
    number = int(hashlib.sha1(name.encode(errors="surrogateescape")).hexdigest(), 16)
    percent = number % (MAX_NUM_WAVS_PER_CLASS + 1) * (100.0 / MAX_NUM_WAVS_PER_CLASS)
    if percent < validation_percent:
        return "validation"
    return "test" if percent < validation_percent + test_percent else "train"


def split_by_hash(clips: Sequence[str], validation_percent: float = 10.0, test_percent: float = 10.0) -> list[str]:
    """The split of each clip by its speaker, or by its relative path where the name carries no speaker."""
    names = [speaker_of(path) or path for path in clips]
    split = {name: hash_split(name, validation_percent, test_percent) for name in set(names)}
    return [split[name] for name in names]


def split_by_lists(root: Path, clips: Sequence[str]) -> list[str]:
    """The split of each clip by `validation_list.txt` and `testing_list.txt` in `root`; by hash where both are absent.

    Raises `DataError` when one list is missing or a clip is in both.
    """
    missing = [name for name in LISTS.values() if not (root / name).is_file()]
    if len(missing) == len(LISTS):
        return split_by_hash(clips)
    if missing:
        raise DataError(f"{root / missing[0]} is missing; add it, or remove the other list to split by speaker hash")
    listed = {split: set((root / name).read_text(encoding="utf-8").split("\n")) - {""} for split, name in LISTS.items()}
    if both := sorted(listed["validation"] & listed["test"]):
        raise DataError(f"{both[0]} is in both {' and '.join(LISTS.values())} of {root}; remove it from one")
    return [next((split for split in SPLITS[1:] if path in listed[split]), "train") for path in clips]
