"""Speech in which none of the words is said: found or downloaded, and split into what trains and what calibrates."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kws.audio.files import duration
from kws.errors import DataError
from kws.recordings.speech import TRANSCRIPT_COLUMNS, Utterance, read_speech
from kws.system.atomic import whole_file

DOWNLOADED = ("mini_librispeech/train-clean-5", "mini_librispeech/dev-clean-2")
CALIBRATE_SHARE = 0.4
GROUP_SHARE = 0.05
REMEDY = "give a folder of speech with --negatives, or go online once: Mini LibriSpeech (459 MB) is kept after that"


def find(places: Sequence[Path], progress: bool = True) -> list[Utterance]:
    """The speech of folders or tables; with none given, Mini LibriSpeech, downloaded once. Raises `KwsError`."""
    if not places:
        from kws.data.public import public

        places = [public(name, REMEDY, progress) for name in DOWNLOADED]
    found = [utterance for place in places for utterance in read_speech(place, "--negatives")]
    if len({utterance.path for utterance in found}) < len(found):
        raise DataError("--negatives names a file twice; give folders that do not lie in each other")
    return found


def split(utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """What trains, and what calibrates: no group is in both.

    A group is the highest folder that holds at most a twentieth of the files (of LibriSpeech a speaker's), else a file.
    Where the speech lies plays no part.
    """
    root = os.path.commonpath([utterance.path.parent for utterance in utterances])
    held = Counter(folder for utterance in utterances for folder in utterance.path.parents)
    parts: tuple[list[Utterance], list[Utterance]] = [], []
    for utterance in utterances:
        small = [f for f in utterance.path.parents if held[f] <= GROUP_SHARE * len(utterances)]
        group = os.path.relpath(small[-1] if small else utterance.path, root)
        number = hashlib.sha256(group.encode(errors="surrogateescape")).digest()
        parts[int.from_bytes(number[:4], "big") / 2**32 < CALIBRATE_SHARE].append(utterance)
    return parts


def hours(utterances: Sequence[Utterance]) -> float:
    """How much there is. Raises `AudioError` for a file that is none."""
    return sum(duration(utterance.path) for utterance in utterances) / 3600


def write_table(utterances: Sequence[Utterance], path: Path) -> None:
    """A table that `kws calibrate --speech` takes. Where nobody wrote down what is said, none of the words is."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(TRANSCRIPT_COLUMNS)
        rows.writerows(
            [str(utterance.path.resolve()), utterance.text or "(not written down)"] for utterance in utterances
        )
