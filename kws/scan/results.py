"""The output of a scan: rows of detections and of files, kept exactly once whatever is killed when.

    OUTPUT/scan.json                    what is sought, with which model: all results agree with it
    OUTPUT/detections/part-*.parquet    one row per detection
    OUTPUT/files/part-*.parquet         one row per file, damaged ones included

A part's rows of detections are written first, its rows of files second, each under a temporary name and renamed. So
the rows of files are the ledger: a file that has one is finished, and detections of a part without one are left over
from a process that was killed, and removed. The driver alone writes, under a lock for each shard.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from kws.errors import DiskFullError, KwsError
from kws.scan.sources import Part
from kws.scan.tables import Row, check_format, read_rows, write_rows
from kws.system.atomic import write_whole

FILES = {
    "path": "string",
    "archive": "string",  # the tar file that holds it, or null
    "seconds": "double",  # read, to the end or to where it is damaged
    "sample_rate": "int64",
    "channels": "int64",
    "detections": "int64",
    "error": "string",  # null: read to its end
    "model": "string",  # SHA-256 of the model's file
}
DETECTIONS = {
    "path": "string",
    "keyword": "string",
    "score": "double",  # the highest while the keyword was in the window
    "start": "double",  # s
    "end": "double",  # s
    "model": "string",
}
TABLES = {"detections": DETECTIONS, "files": FILES}  # in the order of writing


class Results:
    """The results of one scan, or of one shard of it."""

    def __init__(self, folder: Path, form: str, shard: tuple[int, int] = (1, 1)) -> None:
        """shard: index from 1, count."""
        self.folder, self.form, self.shard = folder, form, shard
        self._prefix = f"part-{shard[0]}-of-{shard[1]}-"

    def begin(self, settings: dict[str, Any], resume: bool) -> IO[bytes]:
        """Claim the folder for a scan with these settings: the lock, to be held while it is written to.

        Raises `KwsError` if it holds results and `resume` is not set, results of another scan, or one is running.
        """
        check_format(self.form)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = _locked(self.folder / f".lock-{self.shard[0]}-of-{self.shard[1]}")
        except OSError as error:
            raise KwsError(f"{self.folder} cannot be written to: {error.strerror}; give another --output") from error
        settings = {**settings, "format": self.form, "shards": self.shard[1]}
        file = self.folder / "scan.json"
        if file.exists():
            self._same(json.loads(file.read_text()), settings)
        elif any(path.name[:1] != "." for path in self.folder.iterdir()):
            raise KwsError(f"{self.folder} holds other files; give --output a folder that is empty or new")
        if not resume and any(self.folder.glob(f"files/{self._prefix}*")):
            raise KwsError(f"{self.folder} holds results; --resume goes on with them, another --output starts anew")
        for table in TABLES:
            (self.folder / table).mkdir(exist_ok=True)
        write_whole(file, (json.dumps(settings, indent=2) + "\n").encode())
        self._tidy()
        return lock

    def _same(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        if old.get("model") != new["model"]:
            raise KwsError(
                f"{self.folder} holds results of another model ({old.get('model_path')}, SHA-256 "
                f"{str(old.get('model'))[:12]}, not {new['model'][:12]}); give another --output"
            )
        for name, value in new.items():
            if name != "model_path" and old.get(name) != value:
                raise KwsError(
                    f"{self.folder} holds results of a scan with {name} {json.dumps(old.get(name))}, not "
                    f"{json.dumps(value)}; give the same options or another --output"
                )

    def _tidy(self) -> None:
        """Remove what killed processes of this shard left: nobody else has the lock."""
        for table in TABLES:
            for path in self.folder.glob(f"{table}/{self._prefix}*.partial-*"):
                path.unlink(missing_ok=True)
        for path in self.folder.glob(f"detections/{self._prefix}*"):
            if not (self.folder / "files" / path.name).exists():
                path.unlink()

    def write(self, part: Part, detections: Sequence[Row], files: Sequence[Row]) -> None:
        """Keep the rows of a part. Raises `DiskFullError`; the part then has none."""
        name = f"{self._prefix}{part.name}.{self.form}"
        try:
            if detections:
                write_rows(self.folder / "detections" / name, detections, DETECTIONS)
            write_rows(self.folder / "files" / name, files, FILES)
        except DiskFullError as error:
            raise DiskFullError(f"{error} and give --resume") from error

    def rows(self, table: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """All rows of a table, those of other shards too, with constant memory."""
        for path in sorted(self.folder.glob(f"{table}/part-*.{self.form}")):
            yield from read_rows(path, columns)

    def finished(self) -> set[str]:
        """Names of the sources that are finished."""
        return {row["archive"] or row["path"] for row in self.rows("files", ("path", "archive"))}


def _locked(path: Path) -> IO[bytes]:
    """The file `path`, open and locked until it is closed. Raises `KwsError` if another process holds it."""
    file = path.open("ab")
    if os.name != "nt":  # which has no such locks
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise KwsError(f"another scan writes to {path.parent}; wait for it or give another --output") from None
    return file
