"""Running speech: a folder of audio and its `transcripts.csv` (file, text), or such a table by itself."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kws.audio.files import duration
from kws.audio.suffixes import SUFFIXES
from kws.config import UNKNOWN
from kws.recordings.labels import Event, Part, Recording, RecordingsError
from kws.system.arrays import Int16

TRANSCRIPTS_FILE = "transcripts.csv"
TRANSCRIPT_COLUMNS = ("file", "text")
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
PAUSE = 0.3  # s of faint noise between two files, as a device hears one speaker after another
PAUSE_LEVEL = 4.0  # RMS of it, of 32768
RUN_SECONDS = 600.0  # of files that are heard as one stream


class Utterance(NamedTuple):
    """One file of running speech, and what is said in it; `text` is empty where nobody wrote it down."""

    path: Path
    text: str


def says(text: str, keyword: str) -> bool:
    """Whether a text holds the words of a keyword one after another: `"Turn it OFF, now!"` says `off` and `it_off`."""
    return f" {_words(keyword)} " in f" {_words(text)} "


def _words(text: str) -> str:
    return " ".join(WORD.findall(text.lower().replace("’", "'").replace("_", " ")))


def pause(sample_rate: int) -> Int16:
    """What is heard between two files: int16 `[S]`, the same every time."""
    noise = np.random.default_rng(0).normal(0, PAUSE_LEVEL, round(PAUSE * sample_rate))
    return np.round(noise).astype(np.int16)


def read_speech(place: Path, setting: str) -> list[Utterance]:
    """Running speech by its path, of a folder or of a table; `setting` is the option that chose it, named in errors.

    A folder: every audio file below it; one that its `transcripts.csv` does not name has no text. A table of the same
    columns: the files that it names, relative to where it lies. Raises `RecordingsError` for a place without audio and
    for a table that lacks a column, names a file twice, or one that is not there.
    """
    if place.is_file():
        texts, paths = _read_transcripts(place), None
    elif place.is_dir():
        texts = _read_transcripts(place / TRANSCRIPTS_FILE)
        paths = sorted(
            Path(folder) / name
            for folder, _, names in os.walk(place, followlinks=True)
            for name in names
            if name.lower().endswith(SUFFIXES)
        )
    else:
        raise RecordingsError(f"{setting} {place} is neither a folder of recordings nor a table that names some")
    if not (texts if paths is None else paths):
        raise RecordingsError(f"{setting} {place} holds no audio file ({', '.join(SUFFIXES)})")
    for path, (_, line) in texts.items():
        if not path.is_file():
            table = place if paths is None else place / TRANSCRIPTS_FILE
            raise RecordingsError(f"{table} line {line} names {path}, which is not there; put it back or leave it out")
    return [Utterance(path, texts[path][0] if path in texts else "") for path in paths or sorted(texts)]


def transcribed(place: Path, setting: str) -> list[Recording]:
    """The running speech whose text is known, to count false alarms in: each file an event of other speech.

    Files without text are left out: nobody can tell whether a keyword that is detected there was said. Raises
    `RecordingsError` if that leaves none, and as `read_speech` does.
    """
    known = [utterance for utterance in read_speech(place, setting) if utterance.text]
    if not known:
        raise RecordingsError(
            f"{setting} {place} has a text for none of its files; write what is said in them into {TRANSCRIPTS_FILE}"
        )
    return joined(known)


def joined(utterances: Iterable[Utterance]) -> list[Recording]:
    """The files one after another, with a pause between, in streams of some ten minutes. Raises `AudioError`."""
    runs: list[Recording] = []
    for path, text in utterances:
        if not runs or runs[-1].seconds >= RUN_SECONDS:
            runs.append(Recording([], 0.0, []))
        run, start = runs[-1], runs[-1].seconds
        end = start + duration(path)
        run.parts.append(Part(path, start))
        run.events.append(Event(UNKNOWN, start, end, text))
        runs[-1] = Recording(run.parts, end + PAUSE, run.events)
    return runs


def _read_transcripts(table: Path) -> dict[Path, tuple[str, int]]:
    """The text and the line of each file that a table names; nothing where there is no table."""
    texts: dict[Path, tuple[str, int]] = {}
    if not table.is_file():
        return texts
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if missing := [column for column in TRANSCRIPT_COLUMNS if column not in (rows.fieldnames or ())]:
            raise RecordingsError(
                f"{table} has no column {', '.join(missing)}; it must have {', '.join(TRANSCRIPT_COLUMNS)}"
            )
        for row in rows:
            path = table.parent / row["file"]
            if path in texts:
                raise RecordingsError(
                    f"{table} line {rows.line_num} names {row['file']} again; leave one line for each file"
                )
            texts[path] = (row["text"] or "").strip(), rows.line_num
    return texts
