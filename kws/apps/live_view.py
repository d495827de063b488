"""The live view of `kws listen` in a terminal: level, a bar per keyword with its threshold, detections, load."""

from __future__ import annotations

import collections
import time

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kws.apps.capture import Source
from kws.apps.meter import Meter
from kws.apps.typed import TypedSpotter
from kws.config import keywords_of
from kws.runtime.detector import Detection
from kws.runtime.scores import SCALES
from kws.streaming import StreamingSpotter

BAR = 30  # characters
PER_SECOND = 12  # redraws
LIT_SECONDS = 1.0  # a keyword shines for so long
FLOOR_DB, LOUD_DB = -60.0, -3.0


class LiveView:
    """Draws itself about twelve times a second."""

    def __init__(self, spotter: StreamingSpotter | TypedSpotter) -> None:
        self._keywords = {name: spotter.labels.index(name) for name in keywords_of(spotter.labels)}
        self._thresholds = spotter.thresholds
        self._last: collections.deque[Detection] = collections.deque(maxlen=6)
        self._lit: dict[str, float] = {}  # keyword -> the clock when it was detected
        self._live = Live(auto_refresh=False, transient=False)
        self._live.start()
        self._drawn = 0.0

    def update(self, meter: Meter, source: Source, spotter: StreamingSpotter | TypedSpotter) -> None:
        """Draw, unless it was drawn just now."""
        if (now := time.monotonic()) - self._drawn >= 1 / PER_SECOND:
            self._drawn = now
            self._live.update(self._picture(meter, source, spotter), refresh=True)

    def show(self, detection: Detection) -> None:
        """Put it at the top of the list."""
        self._last.appendleft(detection)
        self._lit[detection.keyword] = time.monotonic()

    def close(self) -> None:
        """Leave the last picture standing, the terminal as it was."""
        self._live.stop()

    def _picture(self, meter: Meter, source: Source, spotter: StreamingSpotter | TypedSpotter) -> RenderableType:
        lost = f"[red]{source.overruns} overruns[/]" if source.overruns else "0 overruns"
        state = "[red]waiting for[/]" if source.waiting else "listening to"
        head = Text.from_markup(f"{state} ")
        head.append(source.name, style="bold")
        head.append_text(Text.from_markup(f"   {meter.seconds:.1f} s   load {meter.load:.1%}   {lost}"))
        share = (meter.level_db - FLOOR_DB) / -FLOOR_DB
        table = Table.grid(padding=(0, 1))
        style = "red" if meter.level_db > LOUD_DB else "cyan"
        table.add_row("level", _bar(share, style), f"{meter.level_db:.0f} dBFS")
        scores = spotter.scores
        low, high = SCALES[spotter.model.detector.score]

        def share_of(score: float) -> float:
            return (score - low) / (high - low)

        for name, k in self._keywords.items():
            lit = time.monotonic() - self._lit.get(name, -1e9) < LIT_SECONDS
            bar = _bar(share_of(scores[k]), "bold green" if lit else "blue", share_of(self._thresholds[name]))
            table.add_row(Text(name, style="bold green" if lit else ""), bar, f"{scores[k]:.2f}")
        past = Table.grid(padding=(0, 2))
        for each in self._last:
            past.add_row(f"{each.time:9.2f} s", Text(each.keyword, style="bold"), f"{each.score:.3f}")
        return Group(head, table, Text("detections", style="dim"), past)


def _bar(share: float, style: str, mark: float | None = None) -> Text:
    """A bar filled to `share`, with a mark (a threshold) in it."""
    filled = round(min(1.0, max(0.0, share)) * BAR)
    text = Text("━" * filled, style=style)
    text.append("─" * (BAR - filled), style="dim")
    if mark is not None:
        column = min(BAR - 1, max(0, int(mark * BAR)))
        text = text[:column] + Text("┃", style="yellow") + text[column + 1 :]
    return text
