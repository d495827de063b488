"""Progress of a scan: one line that moves on a terminal, a line a minute in a log; all on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from kws.scan.scanner import Tally

TERMINAL_SECONDS, LOG_SECONDS = 0.5, 60.0


class Progress:
    """What is done of `n_sources` with `size` bytes: kept parts, and the parts that workers are at."""

    def __init__(
        self, n_sources: int, size: int, to: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """to: standard error unless given."""
        self.n_sources, self.size, self.kept = n_sources, size, Tally()
        self._under_way: dict[int, Tally] = {}
        self._to, self._clock = to or sys.stderr, clock
        self._is_terminal = self._to.isatty()
        self._started = self._told = clock()

    def update(self, worker: int, tally: Tally, is_done: bool) -> None:
        """Where a worker is in its part; `is_done`: its rows are kept."""
        if is_done:
            self._under_way.pop(worker, None)
            self.kept.add(tally)
        else:
            self._under_way[worker] = tally
        now = self._clock()
        if now - self._told >= (TERMINAL_SECONDS if self._is_terminal else LOG_SECONDS):
            self._told = now
            self._write(self.line())

    def line(self) -> str:
        """What is done, how fast, and how long the rest will take."""
        done = Tally()
        for tally in (self.kept, *self._under_way.values()):
            done.add(tally)
        elapsed = max(self._clock() - self._started, 1e-9)
        figures = [
            f"{done.files:,} of {self.n_sources:,} files" if done.files <= self.n_sources else f"{done.files:,} files",
            f"{done.seconds / 3600:,.2f} h of audio",
            f"{done.seconds / elapsed:,.0f} x real time",
            f"{done.detections:,} detections",
            f"{done.failures:,} failures",
        ]
        if 0 < done.size < self.size:
            figures.append(f"{_clock_time(elapsed * (self.size / done.size - 1))} left")
        return ", ".join(figures)

    def finish(self) -> None:
        """The last line, which stays."""
        self._write(self.line())
        if self._is_terminal:
            print(file=self._to, flush=True)

    def _write(self, line: str) -> None:
        print(f"\r\x1b[K{line}" if self._is_terminal else line, end="" if self._is_terminal else "\n", file=self._to)
        self._to.flush()


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
