"""Files and folders that appear whole or not at all, whatever fails while they are written."""

from __future__ import annotations

import errno
import glob
import os
import platform
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kws.errors import DiskFullError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_folder(target: Path, setting: str) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes `target` when the block succeeds and is removed when it fails.

    Two processes may make the same target: the first wins, the other's folder is dropped. What killed processes of
    this machine left beside it is removed first. `setting` is the option that chooses the folder, named when the disk
    is full (`DiskFullError`).
    """
    with _partial_folder(target, f"free some space or set {setting} to a larger disk") as partial:
        yield partial
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():
                raise


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, which may be there: its files become files of `folder`, all or none."""
    with _partial_folder(folder, "free some space") as partial:
        yield partial
        for path in [path for path in sorted(partial.rglob("*")) if path.is_file()]:
            target = folder / path.relative_to(partial)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)


@contextmanager
def _partial_folder(target: Path, remedy: str) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(target)
    try:
        with _named(target, remedy):
            partial.mkdir()
            yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; the file becomes `path` when the block succeeds and is removed when it fails.

    An older `path` stays until then. The content is on the disk before the name is, should the power fail. What killed
    processes of this machine left in its folder is removed first.
    """
    partial = _beside(path)
    try:
        with _named(path, "free some space"):
            yield partial
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _named(target: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(f"no space is left for {target}, nothing of it was kept; {remedy}") from error
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path`: the whole of it, or nothing."""
    with whole_file(path) as partial:
        partial.write_bytes(content)


def _beside(target: Path) -> Path:
    """A name for what becomes `target`: whose it is, is in it. Those of processes that are gone are removed."""
    mark = f".partial-{platform.node()}-"
    for left in target.parent.glob(f"*{glob.escape(mark)}*-*") if os.name == "posix" else ():
        with suppress(ValueError, PermissionError):  # elsewhere os.kill(pid, 0) is not a harmless question
            try:
                os.kill(int(left.name.rsplit("-", 2)[1]), 0)
            except ProcessLookupError:
                left.unlink() if left.is_file() else shutil.rmtree(left, ignore_errors=True)
    return target.with_name(f"{target.name}{mark}{os.getpid()}-{uuid.uuid4().hex[:8]}")
