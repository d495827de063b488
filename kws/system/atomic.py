"""Files and folders that appear whole or not at all, whatever fails while they are written."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kws.errors import DiskFullError

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def whole_folder(target: Path, setting: str) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes `target` when the block succeeds and is removed when it fails.

    Two processes may make the same target: the first wins, the other's folder is dropped. What a killed process of
    this machine left behind is removed first. `setting` is the option that chooses the folder, named when the disk is
    full (`DiskFullError`).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    partial = target.with_name(f"{target.name}.partial-{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        partial.mkdir()
        yield partial
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    except OSError as error:
        if error.errno in FULL:
            remedy = f"free some space or set {setting} to a larger disk"
            raise DiskFullError(f"no space is left for {target}, nothing of it was kept; {remedy}") from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; the file becomes `path` when the block succeeds and is removed when it fails.

    An older `path` stays until then. The content is on the disk before the name is, should the power fail.
    """
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(f"no space is left for {path}, nothing of it was kept; free some space") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path`: the whole of it, or nothing."""
    with whole_file(path) as partial:
        partial.write_bytes(content)


def _remove_leftovers(target: Path) -> None:
    if os.name != "posix":  # elsewhere os.kill(pid, 0) is not a harmless question
        return
    for left in target.parent.glob(f"{target.name}.partial-{platform.node()}-*-*"):
        with suppress(ValueError, PermissionError):
            try:
                os.kill(int(left.name.rsplit("-", 2)[1]), 0)
            except ProcessLookupError:
                shutil.rmtree(left, ignore_errors=True)
