"""Files elsewhere than on this machine: `s3://` and `gs://` by pyarrow, every other `scheme://` by fsspec."""

from __future__ import annotations

import fnmatch
import io
import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from threading import Lock
from typing import Any, BinaryIO, cast

from kws.errors import KwsError

NATIVE = ("s3", "gs")  # schemes that pyarrow has itself
CHUNK = 4 << 20  # bytes of one request
THREADS = 8  # requests at a time


class BucketError(KwsError):
    """A bucket or a file in it that cannot be reached or read: one sentence that names it."""


def is_remote(name: str) -> bool:
    """Whether a source is a URI of a file elsewhere; those of `file://` are names of this machine's files."""
    return bool(re.match(r"(?!file:)[a-z][a-z0-9+.-]+://", name))


def list_remote(uri: str, suffixes: tuple[str, ...]) -> dict[str, int]:
    """URI -> bytes of the files with these endings below a folder, of those that a pattern names, or of one file.

    Raises `BucketError` for what is not there or may not be listed.
    """
    base = uri.rstrip("/")
    try:
        (info,) = _files(uri).get_file_info([_path(base)])
        if info.is_file:
            return {base: info.size}
        fixed, magic, _ = re.match(r"([^*?\[]*)([*?\[]?)(.*)", base, re.DOTALL).groups()  # type: ignore[union-attr]
        if info.type.name == "Directory" or magic:
            folder, wanted = (fixed.rpartition("/")[0], _pattern(base)) if magic else (base, "")
            found = _files(uri).get_file_info(_fs().FileSelector(_path(folder), recursive=True))
            scheme, matches = uri.partition("://")[0], re.compile(wanted).match
            files = ((f"{scheme}://{each.path}", each.size) for each in found if each.is_file)
            return {name: size for name, size in sorted(files) if name.lower().endswith(suffixes) and matches(name)}
    except FileNotFoundError:
        pass
    except OSError as error:
        raise BucketError(f"{uri} cannot be listed: {_reason(error)}") from error
    raise BucketError(f"{uri} does not exist; give a folder, a pattern, a manifest or an audio file")


def sizes(uris: Sequence[str]) -> list[int]:
    """Bytes of each file; 0 where there is none, or none to be seen."""
    if not uris:
        return []
    try:
        found = _files(uris[0]).get_file_info([_path(uri) for uri in uris])
    except OSError:
        return [0] * len(uris)
    return [info.size or 0 for info in found]


def open_remote(uri: str) -> BinaryIO:
    """A file elsewhere, read ahead: its first bytes are on their way when this returns. Errors come with reading.

    Reading never raises, for libsndfile cannot pass it on: `failure` tells why a file ended too early.
    """
    return io.BufferedReader(_RemoteFile(uri), 1 << 16)


def failure(file: object) -> str:
    """Why the bytes of a file that `open_remote` opened ended too early; empty if they did not."""
    raw = getattr(file, "raw", None)
    return raw.failure if isinstance(raw, _RemoteFile) else ""


class _RemoteFile(io.RawIOBase):
    """Random access by requests of `CHUNK` bytes, the next one on its way while this one is read."""

    def __init__(self, uri: str) -> None:
        self.failure = ""
        self._uri, self._position, self._guard = uri, 0, Lock()
        self._file: Any = None
        self._chunks: dict[int, Future[bytes]] = {0: _pool().submit(self._fetch, 0)}

    def _fetch(self, index: int) -> bytes:
        with self._guard:
            if self._file is None:
                self._file = _files(self._uri).open_input_file(_path(self._uri))
                self._size = self._file.size()
            self._file.seek(index * CHUNK)
            return cast(bytes, self._file.read(CHUNK))

    def _chunk(self, index: int) -> bytes:
        kept = {each: future for each, future in self._chunks.items() if each in (0, index, index + 1)}
        for each in (index, index + 1):
            if each not in kept and (each == 0 or each * CHUNK < self._length()):
                kept[each] = _pool().submit(self._fetch, each)
        self._chunks = kept
        return kept[index].result() if index in kept else b""

    def _length(self) -> int:
        self._chunks[0].result()  # whoever opened it knows
        return int(self._size)

    def _safe(self, ask: Any, otherwise: Any) -> Any:
        try:
            return ask()
        except (OSError, KwsError) as error:
            self.failure = self.failure or _reason(error)
            return otherwise

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            offset += self._safe(self._length, 0)
        self._position = max(offset + (self._position if whence == io.SEEK_CUR else 0), 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        index, first = divmod(self._position, CHUNK)
        data = self._safe(lambda: self._chunk(index), b"")[first : first + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            for future in self._chunks.values():
                future.cancel()
            with self._guard:
                if self._file is not None:
                    self._file.close()
        super().close()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, "buckets")


def _fs() -> Any:
    try:
        import pyarrow.fs
    except ModuleNotFoundError as error:
        raise KwsError("buckets need pyarrow; pip install 'kws[scan]'") from error
    return pyarrow.fs


def _files(uri: str) -> Any:
    scheme, _, rest = uri.partition("://")
    return _file_system(scheme, rest.partition("/")[0])


@cache
def _file_system(scheme: str, bucket: str) -> Any:
    """The file system that holds a bucket. Raises `BucketError` where none is known, or it lets nobody in."""
    fs = _fs()
    try:
        if scheme in NATIVE:
            return fs.FileSystem.from_uri(f"{scheme}://{bucket}")[0]
        import fsspec

        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))
    except (ValueError, ImportError, OSError) as error:
        raise BucketError(f"{scheme}://{bucket} cannot be reached: {_reason(error)}") from error


def _path(uri: str) -> str:
    return uri.partition("://")[2]


def _pattern(uri: str) -> str:
    """A regular expression for what a pattern names: `*` stays within a folder, `**/` is any folders."""
    parts = ["(?:[^/]+/)*" if part == "**" else _segment(part) + "/" for part in uri.split("/")]
    return "".join(parts).removesuffix("/") + r"\Z"


def _segment(pattern: str) -> str:
    return fnmatch.translate(pattern).removesuffix(r"\Z").removesuffix(r"\z").replace(".*", "[^/]*")


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return re.sub(r" \(Request ID.*?\)|\. Detail:.*", "", text).strip(" .")
