"""Progress of a stage of work: a bar on a terminal while it lasts, and one line when it is done."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any


class Stage:
    """A context in which `advance` counts towards `total`; all goes to standard error.

    Elsewhere than on a terminal (a file, a pipe, the log of a CI) the line at the end is all that is written.
    """

    def __init__(self, title: str, total: int | None, unit: str = "clip", *, show: bool = True, line: bool = True):
        """`total`: None if it is not known; `show`: whether anything is written; `line`: whether the last line is."""
        self.title, self.unit, self.line, self.done = title, unit, show and line, 0
        self._started = time.perf_counter()
        self._bar: Any = None
        if show and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(desc=title, total=total, unit=unit, leave=False, mininterval=0.5)

    def advance(self, n: int = 1, figures: str = "") -> None:
        """`n` more are done; `figures` stand behind the bar."""
        self.done += n
        if self._bar is not None:
            self._bar.set_postfix_str(figures, refresh=False)
            self._bar.update(n)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        if self.line and kind is None:
            seconds = time.perf_counter() - self._started
            plural = "" if self.done == 1 else "s"
            print(f"{self.title}: {self.done:,} {self.unit}{plural} in {seconds:.0f} s", file=sys.stderr, flush=True)
