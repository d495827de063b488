"""A recording set: a folder of audio files and `labels.csv` (file, onset s, offset s, keyword), read and checked."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from kws.audio.files import duration
from kws.audio.suffixes import SUFFIXES
from kws.config import is_keyword
from kws.errors import KwsError

LABELS_FILE = "labels.csv"
COLUMNS = ("file", "onset", "offset", "keyword")


class RecordingsError(KwsError):
    """A recording set that cannot be used: one sentence that names the file, and the line of its labels."""


class Event(NamedTuple):
    """A keyword (or `_unknown_` speech) that is said from `onset` to `offset`, seconds."""

    keyword: str
    onset: float
    offset: float
    text: str = ""  # what is said, where the keyword does not tell


class Part(NamedTuple):
    """A file, and when it begins in the recording that it is a part of, seconds."""

    path: Path
    start: float


@dataclass(frozen=True)
class Recording:
    """One stream of audio, of files heard one after another: how long it is, and what is said in it, by onset.

    Labels that begin with `_` are no keywords.
    """

    parts: list[Part]
    seconds: float
    events: list[Event]

    def part(self, time: float) -> Part:
        """The file that is heard at `time`, seconds."""
        return next(part for part in reversed(self.parts) if part.start <= time or part is self.parts[0])

    @property
    def keywords(self) -> list[Event]:
        """The events that are to be detected."""
        return [event for event in self.events if is_keyword(event.keyword)]


def read_recordings(folder: Path, labels: Sequence[str]) -> list[Recording]:
    """The recordings of a set, by name, for a model of these labels.

    Raises `RecordingsError` for a folder without audio or `labels.csv`, for labels that miss a column, name another
    file or keyword or lie outside their file, and for keywords that overlap.
    """
    if not folder.is_dir():
        raise RecordingsError(f"{folder} is not a folder; make it with python -m kws.make_stream output={folder}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise RecordingsError(f"{folder} holds no audio file ({', '.join(SUFFIXES)})")
    seconds = {path.name: duration(path) for path in paths}
    events = _read_events(folder / LABELS_FILE, seconds, labels)
    return [Recording([Part(path, 0.0)], seconds[path.name], events[path.name]) for path in paths]


@contextmanager
def _table(path: Path) -> Iterator[None]:
    try:
        yield
    except (UnicodeDecodeError, csv.Error) as error:
        raise RecordingsError(f"{path} cannot be read as CSV in UTF-8 ({error}); save it as that") from error


def _read_events(path: Path, seconds: dict[str, float], labels: Sequence[str]) -> dict[str, list[Event]]:
    if not path.is_file():
        raise RecordingsError(f"{path} is missing; it must have the columns {', '.join(COLUMNS)}")
    events: dict[str, list[Event]] = {name: [] for name in seconds}
    with _table(path), path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if missing := [column for column in COLUMNS if column not in (rows.fieldnames or ())]:
            raise RecordingsError(f"{path} has no column {', '.join(missing)}; it must have {', '.join(COLUMNS)}")
        for row in rows:
            where = f"{path} line {rows.line_num}"
            if any(row[column] in (None, "") for column in COLUMNS):
                raise RecordingsError(f"{where} has fewer than the columns {', '.join(COLUMNS)}")
            name, keyword = row["file"], row["keyword"]
            try:
                onset, offset = float(row["onset"]), float(row["offset"])
            except ValueError:
                raise RecordingsError(
                    f"{where}: onset {row['onset']!r}, offset {row['offset']!r} are not seconds"
                ) from None
            if name not in seconds:
                raise RecordingsError(f"{where} names {name}, which is not in {path.parent}")
            if keyword not in labels and is_keyword(keyword):
                raise RecordingsError(
                    f"{where} names {keyword!r}, which the model does not know; it knows {', '.join(labels)}"
                )
            if not 0 <= onset < offset:
                raise RecordingsError(
                    f"{where}: from {onset} to {offset} s is no time span; it must start at 0 or later"
                )
            if offset > seconds[name] + 0.001:
                raise RecordingsError(f"{where} ends at {offset} s, past the end of {name} at {seconds[name]:.3f} s")
            events[name].append(Event(keyword, onset, offset, row.get("text") or ""))
    for name, found in events.items():
        found.sort(key=lambda event: event.onset)
        spoken = [event for event in found if is_keyword(event.keyword)]
        for one, other in pairwise(spoken):
            if other.onset < one.offset:
                spans = " and ".join(f"{e.keyword!r} from {e.onset} to {e.offset} s" for e in (one, other))
                raise RecordingsError(f"{path}: in {name}, {spans} overlap")
    return events
