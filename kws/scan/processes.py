"""The engine of one machine: processes that scan parts, watched, replaced when they die. Standard library only.

A process reads parts as JSON lines on standard input and answers with their rows in JSON lines. It ends at once when
its driver does: then its standard input ends.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, NamedTuple

from kws.errors import KwsError
from kws.scan.scanner import Scanned, Scanner, Settings, Tally, file_row
from kws.scan.sources import Part, Source
from kws.system.jobs import PACKAGE_PARENT

COMMAND = "from kws.scan.processes import serve; serve()"
STOP_POLL = 0.2  # s between two looks whether a scan was stopped


class Event(NamedTuple):
    """What an engine tells: where `worker` is in its part, or what it found in the whole of it."""

    worker: int
    tally: Tally
    part: Part | None = None
    found: Scanned | None = None


class _Died(Exception):
    """A process ended in the middle of a part."""


def scan_parts(settings: Settings, parts: Sequence[Part], workers: int) -> Iterator[Event]:
    """Scan all parts by `workers` processes; events as they come. They wait while nobody takes their events.

    Raises `KwsError` where the model cannot be run.
    """
    count = min(workers, len(parts))
    events: queue.Queue[Event | BaseException | None] = queue.Queue(count)
    waiting: queue.SimpleQueue[Part] = queue.SimpleQueue()
    for part in parts:
        waiting.put(part)
    stopped = threading.Event()
    crew = [PartProcess(settings) for _ in range(count)]

    def tell(event: Event | BaseException | None) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                events.put(event, timeout=STOP_POLL)
                break

    def work(number: int) -> None:
        try:
            while not stopped.is_set():
                try:
                    part = waiting.get_nowait()
                except queue.Empty:
                    break
                found = crew[number].scan(part, lambda tally: tell(Event(number, tally)))
                tell(Event(number, found.tally, part, found))
            crew[number].close()
            tell(None)
        except BaseException as error:
            tell(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    running = count
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
        stopped.set()
        for process in crew:
            process.stop()
        for thread in threads:
            thread.join()


class PartProcess:
    """A process that scans one part after another, started when there is one and again when it died."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is started yet."""
        self.settings = settings
        self._guard, self._stopped = threading.Lock(), False
        self._process: subprocess.Popen[str] | None = None

    def scan(self, part: Part, report: Callable[[Tally], None] = lambda tally: None, deaths: int = 0) -> Scanned:
        """What a part holds. report: as that of `Scanner.scan`.

        A part whose process dies is scanned again, then by halves: a file that kills its process alone becomes a row.
        Raises `KwsError` where the model cannot be run.
        """
        try:
            return self._converse(part, report)
        except _Died as died:
            self.close()
            if self._stopped:
                raise
            if deaths == 0:
                return self.scan(part, report, 1)
            if len(part.sources) > 1:
                first, second = (self.scan(half, report, 1) for half in part.halves())
                return first.joined(second)
            (source,) = part.sources
            error = f"{source.name} cannot be read: it ended the process that read it, twice ({died})"
            row = file_row(source.name, None, self.settings.model, error)
            return Scanned(Tally(files=1, failures=1, size=source.size), [], [row])

    def stop(self) -> None:
        """End the process, whatever it is doing; another thread may be in `scan`."""
        with self._guard:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """End the process, which has nothing to do or is dead."""
        with self._guard:
            process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
            self._said.close()

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
            )
        self._say(process, asdict(self.settings))
        return process

    def _say(self, process: subprocess.Popen[str], message: dict[str, Any]) -> None:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it died: reading its answer says so
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()

    def _converse(self, part: Part, report: Callable[[Tally], None]) -> Scanned:
        process = self._process or self._start()
        self._say(process, {"sources": part.sources})
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):
                break  # it died while it spoke
            message = json.loads(line)
            if "error" in message:
                raise KwsError(message["error"])
            tally = Tally(**message["tally"])
            if "files" in message:
                return Scanned(tally, message["detections"], message["files"])
            report(tally)
        raise _Died(self._last_words(process))

    def _last_words(self, process: subprocess.Popen[str]) -> str:
        status = process.wait()
        self._said.seek(max(self._said.seek(0, os.SEEK_END) - 2000, 0))
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f"signal {-status}" if status < 0 else f"status {status}: {lines[-1] if lines else 'no reason given'}"


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
        scanner = Scanner(Settings(**json.loads(lines.get())))
        while True:
            part = Part([Source(*source) for source in json.loads(lines.get())["sources"]])
            say(asdict(scanner.scan(part, lambda tally: say({"tally": asdict(tally)}))))
    except (KwsError, OSError) as error:
        say({"error": str(error)})
