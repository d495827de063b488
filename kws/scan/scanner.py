"""One part of an archive -> its rows: the function that every engine calls, and the model that stays loaded for it."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import soundfile

from kws.audio.files import AudioError, open_audio, rest_of
from kws.audio.suffixes import SUFFIXES
from kws.c.choice import load_model
from kws.errors import KwsError, ModelError
from kws.runtime.detector import Detection, DetectorConfig
from kws.scan.buckets import failure, is_remote, open_remote
from kws.scan.sources import TARS, Part, Source, name_of, path_of
from kws.scan.spotter import RankingSpotter
from kws.scan.tables import Row

UNREADABLE = (tarfile.TarError, zlib.error, EOFError, OSError)  # what reading a damaged tar file raises
AHEAD = 4  # files
INSIDE = "::"  # between a tar file's name and its member's


@dataclass(frozen=True)
class Settings:
    """What is sought: all that a process needs to scan a part."""

    model_path: str
    model: str  # SHA-256 of the file
    engine: str | None = None  # None: the quickest that is here
    detector: dict[str, object] | None = None  # None: the model's own
    keywords: tuple[str, ...] = ()  # empty: all
    min_score: float | None = None


@dataclass
class Tally:
    """What was done so far, of one part or of all."""

    files: int = 0
    failures: int = 0
    seconds: float = 0.0
    detections: int = 0
    size: float = 0.0  # bytes

    def add(self, other: Tally) -> None:
        """Count `other` too."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Scanned:
    """What was found in a part: the rows of both tables."""

    tally: Tally
    detections: list[Row]
    files: list[Row]

    def joined(self, other: Scanned) -> Scanned:
        """The same of two parts."""
        tally = Tally()
        for each in (self, other):
            tally.add(each.tally)
        return Scanned(tally, self.detections + other.detections, self.files + other.files)


def fingerprint(path: Path) -> str:
    """SHA-256 of a model's file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Scanner:
    """A loaded model and what is sought with it."""

    def __init__(self, settings: Settings) -> None:
        """Raises `ModelError` if the model cannot be run, or is not the one that the settings mean."""
        self.settings = settings
        path = Path(settings.model_path)
        if fingerprint(path) != settings.model:
            raise ModelError(f"{path} was replaced while it was used; scan again with one model")
        model = load_model(path, settings.engine)
        config = model.detector if settings.detector is None else DetectorConfig.from_dict(settings.detector)
        self._spotter, self._rate = RankingSpotter(model, config), model.sample_rate

    def scan(self, part: Part, report: Callable[[Tally], None] = lambda tally: None) -> Scanned:
        """The rows of a part. report: is told of progress, at least every ten minutes of audio.

        What is wrong with an audio file is in its row.
        """
        found = Scanned(Tally(), [], [])
        done, detections, files = found.tally, found.detections, found.files
        for source, file in _opened(part.sources):
            before = done.size
            for audio in _audio_in(source, file):
                files.append(self._file(audio, detections, done, source, report))
                done.files += 1
                done.failures += files[-1]["error"] is not None
                report(done)
            done.size = before + source.size
            if file is not None:
                file.close()
        return found

    def _file(
        self, audio: Audio, detections: list[Row], done: Tally, source: Source, report: Callable[[Tally], None]
    ) -> Row:
        row = file_row(audio.name, audio.archive, self.settings.model, audio.error)
        if audio.error:
            return row
        before, size, received = done.detections, done.size, 0
        self._spotter.reset()
        try:
            with audio.open() as sound:
                row["sample_rate"], row["channels"] = sound.samplerate, sound.channels
                for number, block in enumerate(rest_of(sound, audio.name, self._rate), 1):
                    received += len(block)
                    done.seconds += len(block) / self._rate
                    self._keep(self._spotter.feed(block), audio.name, detections, done)
                    if number % 60 == 0:
                        if audio.archive is None and sound.frames > 0:
                            done.size = size + source.size * min(sound.tell() / sound.frames, 1)
                        report(done)
        except AudioError as error:
            row["error"] = str(error)
        except (KwsError, *UNREADABLE) as error:
            row["error"] = f"{audio.name}: {error}"
        self._keep(self._spotter.flush(), audio.name, detections, done)
        return {**row, "seconds": received / self._rate, "detections": done.detections - before}

    def _keep(self, found: list[Detection], path: str, detections: list[Row], done: Tally) -> None:
        wanted, low = self.settings.keywords, self.settings.min_score
        for detection in found:
            if (wanted and detection.keyword not in wanted) or (low is not None and detection.score < low):
                continue
            times = {"start": detection.start, "end": detection.end, "model": self.settings.model}
            detections.append({"path": path, "keyword": detection.keyword, "score": detection.score, **times})
            done.detections += 1


def file_row(name: str, archive: str | None, model: str, error: str | None) -> Row:
    """The row of a file of which nothing was read."""
    what = {"path": name, "archive": archive, "seconds": 0.0, "sample_rate": None, "channels": None, "detections": 0}
    return {**what, "error": error or None, "model": model}


@dataclass(frozen=True)
class Audio:
    """One audio file, in a folder or in a tar file. error: why it cannot be opened, where that is known."""

    name: str
    archive: str | None = None
    file: BinaryIO | None = None
    error: str = ""

    @contextmanager
    def open(self) -> Iterator[soundfile.SoundFile]:
        """The file at its start. Raises `AudioError`."""
        try:
            with open_audio(path_of(self.name) if self.file is None else self.name, self.file) as sound:
                yield sound
        finally:
            if reason := failure(self.file):
                raise AudioError(f"{self.name} cannot be read: {reason}")


def _opened(sources: Sequence[Source]) -> Iterator[tuple[Source, BinaryIO | None]]:
    """Each source and, if it lies elsewhere, its file: opened some files ahead, for that takes its time."""
    ahead: deque[tuple[Source, BinaryIO | None]] = deque()
    for source in sources:
        ahead.append((source, open_remote(source.name) if is_remote(source.name) else None))
        if len(ahead) > AHEAD:
            yield ahead.popleft()
    yield from ahead


def _audio_in(source: Source, file: BinaryIO | None) -> Iterator[Audio]:
    if source.error or not source.name.lower().endswith(TARS):
        yield Audio(source.name, file=file, error=source.error)
    else:
        yield from _members(source.name, file)


def _members(name: str, opened: BinaryIO | None) -> Iterator[Audio]:
    """The audio files of a tar file, one after the other; if it is damaged or holds none, a last one that says so."""
    found, member = 0, None
    try:
        with tarfile.open(None if opened else path_of(name), "r:*", opened) as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                file = tar.extractfile(member) if member.isfile() else None
                if file is not None and member.name.lower().endswith(SUFFIXES):
                    found += 1
                    yield Audio(name + INSIDE + name_of(member.name), name, file)  # type: ignore[arg-type]
            assert tar.fileobj is not None
            tar.fileobj.seek(tar.offset)
            if any(tar.fileobj.read(tarfile.BLOCKSIZE)):  # no end, but what tarfile takes for one
                yield Audio(name, name, error=f"{name} is damaged after {found} audio files")
            elif not found:
                yield Audio(name, name, error=f"{name} holds no audio file")
    except UNREADABLE as error:
        reason = failure(opened) or getattr(error, "strerror", None) or error
        yield Audio(name, name, error=f"{name} cannot be read after {found} audio files: {reason}")
