"""The engine of one machine: processes that scan parts, watched, replaced when they die. Standard library only.

A process reads parts as JSON lines on standard input and answers in JSON lines. It ends at once when its driver does:
then its standard input ends.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, NamedTuple

from kws.errors import KwsError
from kws.scan.results import Results
from kws.scan.scanner import Scanner, Settings, Tally, file_row
from kws.scan.sources import Part, Source
from kws.system.jobs import PACKAGE_PARENT

COMMAND = "from kws.scan.processes import serve; serve()"


class Event(NamedTuple):
    """What an engine tells: where `worker` is in its part, or, with `is_done`, that the part's rows are kept."""

    worker: int
    tally: Tally
    is_done: bool


class _Died(Exception):
    """A process ended in the middle of a part."""


def scan_parts(
    settings: Settings, results: Results, parts: Sequence[Part], workers: int, lock: IO[bytes]
) -> Iterator[Event]:
    """Scan all parts by `workers` processes; events as they come. lock: of the results, inherited by the processes.

    A part whose process dies is scanned again, then by halves: a file that kills its process alone becomes a row.
    Raises what stops the scan: `OSError` where rows cannot be written, `KwsError` where the model cannot be run.
    """
    events: queue.Queue[Event | BaseException | None] = queue.Queue()
    waiting: queue.SimpleQueue[Part] = queue.SimpleQueue()
    for part in parts:
        waiting.put(part)
    crew = [_Worker(number, settings, results, lock, waiting, events) for number in range(min(workers, len(parts)))]
    for worker in crew:
        worker.thread.start()
    running = len(crew)
    try:
        while running:
            event = events.get()
            if isinstance(event, BaseException):
                raise event
            if event is None:
                running -= 1
            else:
                yield event
    finally:
        for worker in crew:
            worker.stop()


class _Worker:
    """A process and the thread that talks to it."""

    def __init__(
        self, number: int, settings: Settings, results: Results, lock: IO[bytes], waiting: Any, events: Any
    ) -> None:
        self.number, self.settings, self.results, self.lock = number, settings, results, lock
        self.waiting, self.events = waiting, events
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._guard, self._stopped = threading.Lock(), False
        self._process: subprocess.Popen[str] | None = None

    def stop(self) -> None:
        """End the process, whatever it is doing, and the thread."""
        with self._guard:
            self._stopped = True
            if self._process is not None:
                self._process.kill()
        self.thread.join()

    def _run(self) -> None:
        try:
            while not self._stopped:
                try:
                    part = self.waiting.get_nowait()
                except queue.Empty:
                    break
                self._scan(part)
            self._end()
            self.events.put(None)
        except BaseException as error:
            self._end()
            self.events.put(error)

    def _scan(self, part: Part, deaths: int = 0) -> None:
        try:
            tally = self._converse(part)
        except _Died as died:
            self._end()
            if self._stopped:
                return None
            if deaths == 0:
                return self._scan(part, 1)
            if len(part.sources) > 1:
                for half in part.halves():
                    self._scan(half, 1)
                return None
            (source,) = part.sources
            error = f"{source.name} cannot be read: it ended the process that read it, twice ({died})"
            self.results.write(part, [], [file_row(source.name, None, self.settings.model, error)])
            tally = Tally(files=1, failures=1, size=source.size)
        self.events.put(Event(self.number, tally, True))
        return None

    def _start(self) -> subprocess.Popen[str]:
        environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONIOENCODING="utf-8")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE_PARENT), environment.get("PYTHONPATH")]))
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # what it says on standard error, for its last words
        with self._guard:
            if self._stopped:
                raise _Died("stopped")
            process = self._process = subprocess.Popen(
                [sys.executable, "-c", COMMAND],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env=environment,
                encoding="utf-8",
                pass_fds=() if os.name == "nt" else (self.lock.fileno(),),
            )
        results = {"folder": str(self.results.folder), "form": self.results.form, "shard": self.results.shard}
        self._say(process, {"settings": asdict(self.settings), "results": results})
        return process

    def _say(self, process: subprocess.Popen[str], message: dict[str, Any]) -> None:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it died: reading its answer says so
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()

    def _converse(self, part: Part) -> Tally:
        process = self._process or self._start()
        self._say(process, {"sources": part.sources})
        assert process.stdout is not None
        for line in process.stdout:
            message = json.loads(line)
            if "error" in message:
                if message["errno"] is None:
                    raise KwsError(message["error"])
                raise OSError(message["errno"], message["error"])
            tally = Tally(**message["tally"])
            if message["done"]:
                return tally
            self.events.put(Event(self.number, tally, False))
        raise _Died(self._last_words(process))

    def _last_words(self, process: subprocess.Popen[str]) -> str:
        status = process.wait()
        self._said.seek(max(self._said.seek(0, os.SEEK_END) - 2000, 0))
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f"signal {-status}" if status < 0 else f"status {status}: {lines[-1] if lines else 'no reason given'}"

    def _end(self) -> None:
        """Close the process, which has nothing to do or is dead."""
        with self._guard:
            process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                with suppress(BrokenPipeError):
                    process.stdin.close()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
            self._said.close()


def serve() -> None:
    """The process's side."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)  # no driver: whatever is being scanned would be scanned again

    threading.Thread(target=listen, daemon=True).start()

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(message), flush=True)

    try:
        given = json.loads(lines.get())
        results = given["results"]
        scanner = Scanner(
            Settings(**given["settings"]),
            Results(Path(results["folder"]), results["form"], tuple(results["shard"])),
        )
        while True:
            part = Part([Source(*source) for source in json.loads(lines.get())["sources"]])
            tally = scanner.scan(part, lambda tally: say({"tally": asdict(tally), "done": False}))
            say({"tally": asdict(tally), "done": True})
    except OSError as error:
        reason = error.strerror or str(error)
        say({"error": f"{error.filename}: {reason}" if error.filename else reason, "errno": error.errno})
    except KwsError as error:
        say({"error": str(error), "errno": None})
