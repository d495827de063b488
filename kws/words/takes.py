"""Recordings of the words by the people who will say them: checked, cut to the word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kws.apps.record import examine
from kws.audio.files import AudioError, read_audio
from kws.audio.levels import to_int16
from kws.audio.suffixes import SUFFIXES
from kws.errors import KwsError
from kws.system.arrays import Int16
from kws.words.mixing import SAMPLE_RATE

MARGIN = 0.05  # s kept around the word
LONGEST = 2.2  # s of a word
SCENES = 16  # made of each take


@dataclass
class Takes:
    """The words in the takes, int16 `[S]` each, the number of the label of each, and its file."""

    sounds: list[Int16] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)


def read_takes(folder: Path, labels: Sequence[str]) -> tuple[Takes, list[str]]:
    """The takes that are of use, and what is wrong with the others.

    A folder for each word (as `kws record` makes them), or, of a single word, its takes themselves. Raises `KwsError`
    for a place without takes, and where none is of use.
    """
    if not folder.is_dir():
        raise KwsError(f"--takes {folder} is not a folder; record some with: kws record {labels[0]!r}")
    places = {number: folder / label for number, label in enumerate(labels) if (folder / label).is_dir()}
    if not places and len(labels) == 1:
        places = {0: folder}
    takes, faults = Takes(), []
    for number, place in places.items():
        for path in sorted(p for p in place.iterdir() if p.suffix.lower() in SUFFIXES):
            try:
                samples = read_audio(path, SAMPLE_RATE)
            except AudioError as error:
                faults.append(f"{error}; it is left out")
                continue
            take = examine(samples, SAMPLE_RATE)
            margin = round(MARGIN * SAMPLE_RATE)
            word = samples[max(0, take.first - margin) : take.last + margin]
            if take.fault or len(word) > LONGEST * SAMPLE_RATE:
                faults.append(f"{path} is left out: {take.fault or 'it holds more than one word'}")
                continue
            takes.sounds.append(to_int16(word))
            takes.labels.append(number)
            takes.paths.append(path)
    if not takes.sounds:
        raise KwsError(
            f"--takes {folder} holds no take of {', '.join(labels)} that is of use"
            + (f" ({faults[0]})" if faults else "; there must be a folder of audio files named after each word")
        )
    return takes, faults


def write_takes(takes: Takes, path: Path) -> None:
    """As `kws.words.speak.work` writes what is spoken."""
    with path.open("wb") as file:
        np.savez(file, samples=np.concatenate(takes.sounds), ends=np.cumsum([len(s) for s in takes.sounds]),
                 labels=takes.labels, repeats=np.full(len(takes.sounds), SCENES))  # fmt: skip
