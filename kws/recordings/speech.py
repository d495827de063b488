"""Running speech: a folder of audio of any depth and, where there is one, its `transcripts.csv` (file, text)."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from typing import NamedTuple

from kws.audio.files import duration
from kws.config import UNKNOWN
from kws.recordings.labels import SUFFIXES, Event, Recording, RecordingsError

TRANSCRIPTS_FILE = "transcripts.csv"
TRANSCRIPT_COLUMNS = ("file", "text")
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


class Utterance(NamedTuple):
    """One file of running speech, and what is said in it; `text` is empty where nobody wrote it down."""

    path: Path
    text: str


def words_said(text: str) -> frozenset[str]:
    """The words of a text, lower case: `"No, don't GO"` -> `no`, `don't`, `go`."""
    return frozenset(word.replace("’", "'") for word in WORD.findall(text.lower()))


def read_speech(folder: Path, setting: str) -> list[Utterance]:
    """Every audio file below `folder`, by its path; `setting` is the option that chose it, named in errors.

    A file that `transcripts.csv` does not name has no text. Raises `RecordingsError` for a folder without audio and for
    a table that lacks a column, names a file twice, or one that is not there.
    """
    if not folder.is_dir():
        raise RecordingsError(f"{setting} {folder} is not a folder; give one that holds recordings of speech")
    paths = sorted(
        Path(parent) / name
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(SUFFIXES)
    )
    if not paths:
        raise RecordingsError(f"{setting} {folder} holds no audio file ({', '.join(SUFFIXES)})")
    texts = _read_transcripts(folder / TRANSCRIPTS_FILE)
    known = set(paths)
    for path, line in ((path, line) for path, (_, line) in texts.items() if path not in known):
        raise RecordingsError(
            f"{folder / TRANSCRIPTS_FILE} line {line} names {path.relative_to(folder)}, which is not in {folder}; "
            "put the recording back or take the line out"
        )
    return [Utterance(path, texts[path][0] if path in texts else "") for path in paths]


def transcribed(folder: Path, setting: str) -> list[Recording]:
    """The running speech whose text is known, each file one event of other speech, to count false alarms in.

    Files without text are left out: nobody can tell whether a keyword that is detected there was said. Raises
    `RecordingsError` if that leaves none, and as `read_speech` does.
    """
    recordings = []
    for path, text in read_speech(folder, setting):
        if text:
            seconds = duration(path)
            recordings.append(Recording(path, seconds, [Event(UNKNOWN, 0.0, seconds, text)]))
    if not recordings:
        raise RecordingsError(
            f"{setting} {folder} has a text for none of its files; write what is said in them into {TRANSCRIPTS_FILE}"
        )
    return recordings


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
