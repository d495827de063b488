"""An archive from a URL or a local file to a folder: checked by SHA-256, unpacked safely, there whole or not at all."""

from __future__ import annotations

import gzip
import stat
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urldefrag, urlsplit
from urllib.request import url2pathname

from kws.errors import DataError
from kws.system.atomic import FULL, whole_folder
from kws.system.progress import Stage

STALL_SECONDS, HOURS = 30, 24.0  # without a byte, and in all


def fetch(
    url: str,
    sha256: str,
    target: Path,
    recognise: Callable[[Path], bool],
    remedy: str,
    progress: bool = True,
    hours: float = HOURS,
) -> None:
    """Download the tar archive at `url` (http, https or file), check it and unpack it as the folder `target`.

    The archive must have the SHA-256 `sha256`, or the one that the URL itself gives: `https://mirror/x.tar.gz#sha256=<hex>`.
    `recognise` tells whether a folder holds what is wanted: the archive's top, or its only folder. hours: what the
    download may take. Raises `DataError`,
    with `remedy`, and leaves nothing behind: an interrupted download starts again.
    """
    url, fragment = urldefrag(url)
    if fragment:
        key, _, sha256 = fragment.partition("=")
        if key != "sha256" or len(sha256) != 64:
            raise DataError(f"data.url ends in #{fragment}; it can only end in #sha256= and 64 hexadecimal digits")
    with whole_folder(target, "data.root") as partial:
        archive, _ = _obtain(url, sha256.lower(), partial, remedy, progress, hours)
        folder = partial / "unpacked"
        _unpack(archive, url, folder, progress)
        if archive.parent == partial:
            archive.unlink()
        inside = [entry for entry in folder.iterdir() if entry.is_dir()]
        top = folder if recognise(folder) else inside[0] if len(inside) == 1 and recognise(inside[0]) else None
        if top is None:
            raise DataError(f"the archive {url} does not hold the data set; {remedy}")
        for entry in list(top.iterdir()):
            entry.rename(partial / entry.name)
        top.rmdir()
        if top != folder:
            folder.rmdir()


def fetch_whole(url: str, sha256: str, target: Path, remedy: str, progress: bool = True) -> str:
    """As `fetch`, zip archives, too; `target` gets all content. -> the SHA-256, which is free if `sha256` is ""."""
    with whole_folder(target, "the cache") as partial:
        archive, found = _obtain(url, sha256, partial, remedy, progress)
        _unpack(archive, url, partial / "unpacked", progress)
        archive.unlink()
        for entry in list((partial / "unpacked").iterdir()):
            entry.rename(partial / entry.name)
        (partial / "unpacked").rmdir()
    return found


class _Deadline:
    """What pooch takes for a progress bar: it ends a download that takes too long, and shows one on a terminal."""

    def __init__(self, hours: float, show: bool) -> None:
        self.total, self._shown, self._hours, self._end = 0, show, hours, time.monotonic() + 3600 * hours
        self._bar: Any = None

    def update(self, count: int) -> None:
        if time.monotonic() > self._end:
            raise TimeoutError(f"more than {self._hours:g} hours")
        if self._shown and self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=self.total, unit="B", unit_scale=True, leave=False)
        if self._bar is not None:
            self._bar.update(count)

    def reset(self) -> None:
        if self._bar is not None:
            self._bar.reset()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _obtain(url: str, sha256: str, folder: Path, remedy: str, progress: bool, hours: float = HOURS) -> tuple[Path, str]:
    """The checked archive, in `folder`, or where a `file:` URL says, and its SHA-256."""
    import pooch

    parts = urlsplit(url)
    if parts.scheme == "file":
        local = Path(url2pathname(parts.path))
        if not local.is_file():
            raise DataError(f"data.url {url} names no file; {remedy}")
        found = pooch.file_hash(str(local), alg="sha256")
        if sha256 and found != sha256:
            raise DataError(f"{local} is damaged or another file: its SHA-256 is not {sha256} but {found}; {remedy}")
        return local, found
    if parts.scheme not in ("http", "https"):
        raise DataError(f"data.url {url!r} does not begin with http://, https:// or file://; {remedy}")
    pooch.get_logger().setLevel("WARNING")
    bar = progress and sys.stderr.isatty()
    deadline = _Deadline(hours, bar)
    downloader = pooch.HTTPDownloader(progressbar=deadline, chunk_size=1 << 16, timeout=STALL_SECONDS)
    try:
        with Stage("downloading", None, "archive", show=progress and not bar) as stage:
            pooch.retrieve(url, f"sha256:{sha256}" if sha256 else None, "archive", folder, downloader=downloader)
            stage.advance()
    except ValueError as error:  # the hash differs
        what = f"half downloaded, damaged or another file: its SHA-256 is not {sha256}"
        raise DataError(f"{url} is {what}; {remedy}") from error
    except OSError as error:
        if error.errno in FULL:
            raise
        reason = str(error) if type(error) is TimeoutError else type(error).__name__
        raise DataError(f"{url} could not be downloaded ({reason}); {remedy}") from error
    return folder / "archive", pooch.file_hash(str(folder / "archive"), alg="sha256")


def _unpack(archive: Path, url: str, folder: Path, progress: bool) -> None:
    safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since 3.10.12 and 3.11.4
    folder.mkdir()
    if zipfile.is_zipfile(archive):
        _unzip(archive, url, folder, progress)
        return
    try:
        with tarfile.open(archive) as tar, Stage("unpacking", None, "file", show=progress) as stage:
            for member in tar:
                _check_member(url, member.name, member.isfile() or member.isdir())
                tar.extract(member, folder, **safe)
                stage.advance()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"the archive {url} is damaged ({error}); give another with data.url") from error


def _unzip(archive: Path, url: str, folder: Path, progress: bool) -> None:
    try:
        with zipfile.ZipFile(archive) as opened, Stage("unpacking", None, "file", show=progress) as stage:
            for member in opened.infolist():
                kind = stat.S_IFMT(member.external_attr >> 16)
                _check_member(url, member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
                opened.extract(member, folder)
                stage.advance()
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DataError(f"the archive {url} is damaged ({error}); give another") from error


def _check_member(url: str, name: str, plain: bool) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not plain:
        raise DataError(f"the archive {url} holds {name!r}, which is no plain file inside it")
