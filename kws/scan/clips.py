"""The audio around detections, as files: to listen to, or for a data set of one's own."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import soundfile

from kws.audio.files import open_audio, write_audio
from kws.errors import KwsError
from kws.scan.buckets import is_remote, open_remote
from kws.scan.scanner import INSIDE
from kws.scan.sources import TARS, path_of
from kws.scan.tables import Row

BEFORE, AFTER = 1.0, 0.5  # s around a detection: a model knows a word late, so `start` lies within it


def write_clips(folder: Path, detections: list[Row]) -> list[str]:
    """Cut `folder/KEYWORD/NAME.flac` out of each detection's file, in the order of files; sentences about failures.

    The channels and the rate are the file's. `NAME` is told by path and time alone, so a clip that is there stays, and
    it goes into the row, as `clip`. What the disk cannot hold raises `OSError`.
    """
    failures: list[str] = []
    last, opened = "", None
    try:
        for row in sorted(detections, key=lambda row: (row["path"], row["start"])):
            digest = hashlib.sha256(f"{row['path']}\0{row['start']:.3f}".encode()).hexdigest()[:12]
            clip = folder / row["keyword"] / f"{digest}.flac"
            if not clip.exists():
                try:
                    if row["path"] != last:
                        if opened is not None:
                            opened.__exit__(None, None, None)
                            opened = None
                        context = _opened(row["path"])
                        sound = context.__enter__()
                        last, opened = row["path"], context
                    _cut(sound, row, clip)
                except (KwsError, soundfile.SoundFileError, tarfile.TarError, KeyError) as error:
                    failures.append(f"no clip of {row['path']} at {row['start']:.2f} s: {error}")
                    continue
            row["clip"] = str(clip)
    finally:
        if opened is not None:
            opened.__exit__(None, None, None)
    return failures


@contextmanager
def _opened(name: str) -> Iterator[soundfile.SoundFile]:
    archive, inside, member = name.partition(INSIDE)
    if not archive.lower().endswith(TARS):
        archive, inside = name, ""
    with open_remote(archive) if is_remote(archive) else nullcontext() as file:
        if not inside:
            with open_audio(path_of(name) if file is None else name, file) as sound:
                yield sound
            return
        if file is None and not os.path.isfile(path_of(archive)):
            raise KwsError(f"{archive} does not exist")
        with tarfile.open(None if file else path_of(archive), "r:*", file) as tar:
            while (found := tar.next()) is not None and found.name != path_of(member):
                pass  # not getmember, which reads to the end: that may be damaged
            if found is None:
                raise KwsError(f"{archive} has changed: it has no {member}")
            with open_audio(name, tar.extractfile(found)) as sound:  # type: ignore[arg-type]
                yield sound


def _cut(sound: soundfile.SoundFile, row: Row, clip: Path) -> None:
    first = max(round((row["start"] - BEFORE) * sound.samplerate), 0)
    sound.seek(first)
    samples = sound.read(round((row["end"] + AFTER) * sound.samplerate) - first, dtype="float32", always_2d=True)
    if not len(samples):
        raise KwsError("the file has changed: it ends before")
    clip.parent.mkdir(parents=True, exist_ok=True)
    write_audio(clip, samples, sound.samplerate, "FLAC")
