"""A `kws` command run as a process of its own on something bad, and what is asked of its end.

Processes are forked from one that has imported everything, so each costs milliseconds instead of seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

PRELOADED = [
    "numpy",
    "onnxruntime",
    "soundfile",
    "soxr",
    "kws.cli",
    "kws.apps.spot",
    "kws.apps.info",
    "kws.train",
    "kws.export",
]
SECONDS, MEGABYTES = 30, 1000  # that a command may take, and memory beside what its imports take


class Case(NamedTuple):
    """One command on bad input: `{}` in its arguments stands for the folder where `make` has put the input.

    `says`: words that the one sentence holds. `status`: how the process ends. `stdin`: what it reads.
    """

    name: str
    command: str
    says: str
    make: Callable[[Path], object] = lambda folder: None
    status: int = 1
    stdin: bytes = b""
    disk: int = 0  # bytes that a file may have, as if the disk were full then; 0: any number


class End(NamedTuple):
    """How a process ended: its status (negative: the signal that killed it), what it wrote, and its seconds."""

    status: int | None
    out: str
    err: str
    seconds: float


def check(case: Case, folder: Path) -> None:
    """Run the case in an empty folder and assert that it ended as it should, with nothing left behind."""
    given, work = folder / "given", folder / "work"
    given.mkdir()
    work.mkdir()
    case.make(given)
    before = {path: path.stat().st_size for path in given.rglob("*")}
    arguments = [argument.replace("{}", str(given)) for argument in case.command.split()]
    end = run(arguments, work, case.stdin, case.disk)
    shown = f"{case.command}: status {end.status}, {end.seconds:.1f} s\n{end.out[-500:]}\n{end.err[-2000:]}"
    assert end.status == case.status, shown
    assert "Traceback" not in end.err + end.out, shown
    sentences = [line for line in end.err.splitlines() if line.startswith(("error: ", "kws")) or "error: " in line]
    assert len(sentences) == 1, shown
    assert case.says in sentences[0], shown
    assert all(ord(character) >= 32 for character in sentences[0]), shown
    assert len(sentences[0]) < 1000, shown
    assert not [path for path in work.rglob("*") if path.is_file()], shown
    assert {path: path.stat().st_size for path in given.rglob("*")} == before, shown


def run(arguments: Sequence[str], folder: Path, stdin: bytes = b"", disk: int = 0) -> End:
    """`kws ARGUMENTS` in a folder; killed after `SECONDS`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, "hostile"])
    streams = {name: folder.with_name(f"{folder.name}.{name}") for name in ("stdin", "stdout", "stderr")}
    streams["stdin"].write_bytes(stdin)
    process = context.Process(target=_child, args=(list(arguments), folder, disk, *streams.values()))
    started = time.monotonic()
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
    out, err = (streams[name].read_text(errors="surrogateescape") for name in ("stdout", "stderr"))
    return End(process.exitcode, out, err, time.monotonic() - started)


def _child(arguments: list[str], folder: Path, disk: int, stdin: Path, stdout: Path, stderr: Path) -> None:
    os.chdir(folder)
    for number, (path, flags) in enumerate(
        ((stdin, os.O_RDONLY), (stdout, os.O_WRONLY | os.O_CREAT), (stderr, os.O_WRONLY | os.O_CREAT))
    ):
        os.dup2(os.open(path, flags, 0o600), number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MEGABYTES * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if disk:
        resource.setrlimit(resource.RLIMIT_FSIZE, (disk, disk))
    from kws import cli

    sys.argv = ["kws", *arguments]
    sys.exit(cli.main(arguments))
