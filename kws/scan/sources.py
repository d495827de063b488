"""What audio an archive holds: folders, patterns, manifests and single files become sources, shards and parts."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from kws.audio.suffixes import SUFFIXES
from kws.errors import KwsError
from kws.scan.buckets import is_remote, list_remote, open_remote, sizes
from kws.scan.tables import read_column

TARS = (".tar", ".tar.gz", ".tgz")
MANIFESTS = (".csv", ".parquet")
FILE_URI = "file://"
PART_BYTES, PART_FILES = 256_000_000, 1000  # about ten seconds of work: what a killed process may have to do again
PARTS_PER_WORKER = 8  # at least, so that all end together


class Source(NamedTuple):
    """One file of the archive: its name (see `name_of`), its bytes, and why it cannot be read where that is known.

    A file elsewhere than on this machine is named by its URI.
    """

    name: str
    size: int
    error: str = ""


def name_of(path: str) -> str:
    """What a file is called in the results: its path, or a `file://` URI where that is no UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return FILE_URI + quote_from_bytes(os.fsencode(path))
    return path


def path_of(name: str) -> str:
    """The path that `name_of` named."""
    return os.fsdecode(unquote_to_bytes(name[len(FILE_URI) :])) if name.startswith(FILE_URI) else name


def list_sources(given: Sequence[str], skip: Iterable[Path] = ()) -> list[Source]:
    """The files of all that is `given`, each once, in a fixed order: found, not opened.

    given: folders (all below them, but for those of `skip`), patterns, manifests (CSV or parquet with a column `path`;
    relative paths begin at the manifest's folder), audio files, tar files; here or, by URI, elsewhere. A folder that
    cannot be listed and a file that a manifest names in vain are sources too. Raises `KwsError` for what is not there
    or holds no audio.
    """
    skipped = {str(path.absolute()) for path in skip}
    found: dict[str, Source] = {}
    for text in given:
        named = {source.name: source for source in _sources(text, skipped)}
        found = found | named
        if not named:
            kinds = ", ".join(suffix[1:] for suffix in (*SUFFIXES, *TARS))
            raise KwsError(f"{text} holds no audio file ({kinds}); name another folder, pattern or manifest")
    return list(found.values())


def _sources(given: str, skipped: set[str]) -> Iterator[Source]:
    if is_remote(given):
        for name, size in list_remote(given, (*SUFFIXES, *TARS, *MANIFESTS)).items():
            if not name.lower().endswith(MANIFESTS):
                yield Source(name, size)
            elif name == given:
                yield from _manifest(name)
        return
    path = os.path.abspath(given)
    if os.path.isdir(path):
        yield from _walk(path, skipped)
    elif os.path.isfile(path):
        yield from _manifest(path) if path.lower().endswith(MANIFESTS) else [_source(path)]
    elif glob.has_magic(given):
        for match in sorted(glob.iglob(path, recursive=True)):
            if os.path.isdir(match):
                continue  # `**` names the files below it, too
            if match.lower().endswith((*SUFFIXES, *TARS)):
                yield _source(match)
    else:
        raise KwsError(f"{given} does not exist; give a folder, a pattern, a manifest or an audio file")


def _source(path: str) -> Source:
    try:
        return Source(name_of(path), os.stat(path).st_size)
    except OSError:  # gone, or not ours to see: reading it will say so
        return Source(name_of(path), 0)


def _walk(folder: str, skipped: set[str]) -> Iterator[Source]:
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError as error:
        yield Source(name_of(folder), 0, f"{name_of(folder)} cannot be listed: {error.strerror}")
        return
    for name, is_folder in found:
        path = os.path.join(folder, name)
        if is_folder:
            if path not in skipped:
                yield from _walk(path, skipped)
        elif name.lower().endswith((*SUFFIXES, *TARS)):
            yield _source(path)


def _manifest(name: str) -> Iterator[Source]:
    """The files that a manifest names, a path or a URI."""
    folder = os.path.dirname(name)
    with open_remote(name) if is_remote(name) else open(name, "rb") as file:
        if name.lower().endswith(".parquet"):
            paths: Iterable[str | None] = read_column(file, name, "path")
        else:
            paths = _csv_column(file, name, "path")
    remote: list[str] = []
    for number, entry in enumerate(paths, 1):
        if not entry:
            raise KwsError(f"{name} names no file in row {number}; every row needs a `path`")
        if is_remote(entry):
            remote.append(entry)
        elif is_remote(name):
            remote.append(f"{folder}/{entry}")
        else:
            yield _source(os.path.normpath(os.path.join(folder, path_of(entry))))
    for _, group in itertools.groupby(remote, lambda uri: uri.split("/")[:3]):  # scheme and bucket
        uris = list(group)
        yield from map(Source, uris, sizes(uris))


def _csv_column(file: BinaryIO, name: str, column: str) -> list[str | None]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        rows = csv.DictReader(text)
        if column not in (rows.fieldnames or ()):
            raise KwsError(f"{name} has no column `{column}`; its first line names the columns")
        return [row[column] for row in rows]
    except csv.Error as error:
        raise KwsError(f"{name} cannot be read as CSV: {error}") from error


def in_shard(name: str, index: int, count: int) -> bool:
    """Whether a source belongs to shard `index` (from 1) of `count`: by its name, whatever else the archive holds."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % count == index - 1


class Part(NamedTuple):
    """Sources that one process scans in one go; their results are kept together or not at all."""

    sources: list[Source]

    @property
    def size(self) -> int:
        """Bytes of all sources."""
        return sum(source.size for source in self.sources)

    @property
    def name(self) -> str:
        """Told by the sources alone, so that whoever scans them again writes the same files."""
        names = "\0".join(source.name for source in self.sources)
        return hashlib.sha256(names.encode()).hexdigest()[:16]

    def halves(self) -> tuple[Part, Part]:
        """The same sources in two parts."""
        middle = len(self.sources) // 2
        return Part(self.sources[:middle]), Part(self.sources[middle:])


def parts(sources: Sequence[Source], workers: int) -> list[Part]:
    """All sources, neighbours together, the largest parts first: so many that `workers` processes end together."""
    limit = min(PART_BYTES, sum(source.size for source in sources) / (PARTS_PER_WORKER * workers))
    made: list[Part] = []
    size = 0
    for source in sources:
        if not made or size + source.size > limit or len(made[-1].sources) == PART_FILES:
            made.append(Part([]))
            size = 0
        made[-1].sources.append(source)
        size += source.size
    return sorted(made, key=lambda part: -part.size)
