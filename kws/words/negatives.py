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
from kws.recordings.speech import TRANSCRIPT_COLUMNS, TRANSCRIPTS_FILE, Utterance, read_speech
from kws.system.atomic import whole_file, whole_folder

URL = "https://www.openslr.org/resources/31/{}.tar.gz"  # Mini LibriSpeech (V. Panayotov et al., 2015), CC BY 4.0
ARCHIVES = ("train-clean-5", "dev-clean-2")
HOME = Path("~/.cache/kws/mini_librispeech")
CALIBRATE_SHARE = 0.4
GROUP_SHARE = 0.05
REMEDY = "give a folder of speech with --negatives, or go online once: Mini LibriSpeech (459 MB) is kept after that"


def find(places: Sequence[Path], progress: bool = True) -> list[Utterance]:
    """The speech of folders or tables; with none given, Mini LibriSpeech, downloaded once. Raises `KwsError`."""
    if not places:
        places = [_downloaded(name, progress) for name in ARCHIVES]
    found = [utterance for place in places for utterance in read_speech(place, "--negatives")]
    if len({utterance.path for utterance in found}) < len(found):
        raise DataError("--negatives names a file twice; give folders that do not lie in each other")
    return found


def _downloaded(name: str, progress: bool) -> Path:
    from kws.data.download import fetch_unchecked

    target = HOME.expanduser() / name
    if not target.is_dir():
        with whole_folder(target, "the cache") as partial:
            fetch_unchecked(URL.format(name), partial / "audio", REMEDY, progress)
            write_transcripts(partial)
    return target


def write_transcripts(folder: Path) -> None:
    """LibriSpeech's `*.trans.txt`, a line each of identifier and text, as one `transcripts.csv`."""
    with (folder / TRANSCRIPTS_FILE).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(TRANSCRIPT_COLUMNS)
        for listing in sorted(folder.rglob("*.trans.txt")):
            for line in listing.read_text(encoding="utf-8").splitlines():
                identifier, _, text = line.partition(" ")
                path = (listing.parent / f"{identifier}.flac").relative_to(folder)
                rows.writerow([path.as_posix(), text.lower()])


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
