"""`kws listen`: hear keywords live, from a microphone or from a file played as one."""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from kws.apps.capture import Microphone, PlayedFile, Source, list_inputs
from kws.apps.meter import Meter
from kws.apps.reactions import ClipSaver, Commands
from kws.apps.spot import add_model_arguments, load_spotter
from kws.apps.typed import TypedSpotter
from kws.config import keywords_of
from kws.runtime.detector import Detection
from kws.streaming import StreamingSpotter
from kws.system.arrays import Float32


class View(Protocol):
    """What shows a stream to its user."""

    def update(self, meter: Meter, source: Source, spotter: StreamingSpotter | TypedSpotter) -> None:
        """Called for every block."""
        ...

    def show(self, detection: Detection) -> None:
        """Called for every detection."""
        ...

    def close(self) -> None:
        """Called once, at the end."""
        ...


class Lines:
    """A line for each detection on standard output; what befalls the device goes to standard error."""

    def __init__(self, as_json: bool = False) -> None:
        self._as_json, self._overruns, self._waiting = as_json, 0, False

    def update(self, meter: Meter, source: Source, spotter: StreamingSpotter | TypedSpotter) -> None:
        """Tell of lost audio and lost devices, once each."""
        if source.overruns > self._overruns:
            print(f"warning: audio was lost ({source.overruns} times so far)", file=sys.stderr)
        if source.waiting != self._waiting:
            news = "is gone; waiting for it" if source.waiting else "is back"
            print(f"warning: input device {source.name!r} {news}", file=sys.stderr, flush=True)
        self._overruns, self._waiting = source.overruns, source.waiting

    def show(self, detection: Detection) -> None:
        """Print it: start, end, keyword, score; or all of it as JSON, with the clock's time."""
        if self._as_json:
            now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
            line = json.dumps({**detection._asdict(), "at": now})
        else:
            line = f"{detection.start:.2f}\t{detection.end:.2f}\t{detection.keyword}\t{detection.score:.3f}"
        print(line, flush=True)

    def close(self) -> None:
        """Nothing to do."""


def listen(
    source: Source,
    spotter: StreamingSpotter | TypedSpotter,
    view: View,
    react: Callable[[Float32, Sequence[Detection]], None],
    going: Callable[[Meter], bool] = lambda meter: True,
) -> Meter:
    """Spot keywords in a source until it ends or `going` says no; the stream is flushed then.

    `react` gets each block with what was detected in it, the flush with an empty block.
    """
    meter, rate = Meter(), spotter.model.sample_rate
    for block in source.blocks():
        begun = time.perf_counter()
        found = spotter.feed(block)
        meter.add(block, len(block) / rate, time.perf_counter() - begun)
        for detection in found:
            view.show(detection)
        react(block, found)
        view.update(meter, source, spotter)
        if not going(meter):
            break
    found = spotter.flush()
    for detection in found:
        view.show(detection)
    react(np.zeros(0, np.float32), found)
    return meter


@contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Within it, the first Ctrl-C or SIGTERM only makes the function that it gives say True; the second interrupts."""
    seen: list[int] = []

    def note(number: int, frame: Any) -> None:
        seen.append(number)
        signal.signal(number, signal.default_int_handler)

    kept = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kws listen", description=__doc__, epilog="Ctrl-C ends it.")
    add = parser.add_argument
    add_model_arguments(parser)
    add("--device", metavar="D", help="input device: its number, or part of its name (default: the system's)")
    add("--list-devices", action="store_true", help="list the input devices and end")
    add("--file", metavar="AUDIO", help="play this file in real time instead of a microphone")
    add("--fast", action="store_true", help="with --file: as fast as it goes")
    add("--seconds", type=float, metavar="S", help="end after so much audio")
    add("--plain", action="store_true", help="a line per detection: start, end, keyword, score")
    add("--json", action="store_true", help="one JSON object per detection")
    add("--save", metavar="DIR", help="keep the second of audio around each detection")
    add("--on", action="append", default=[], metavar="KEYWORD='COMMAND'", help="run a command per detection, no shell")
    options = parser.parse_args(given)
    if options.fast and not options.file:
        parser.error("--fast goes with --file")
    if options.file and options.device:
        parser.error("give --file or --device, not both")
    return options


def _view(options: argparse.Namespace, spotter: StreamingSpotter | TypedSpotter) -> View:
    if options.json or options.plain or not sys.stdout.isatty():
        return Lines(options.json)
    if importlib.util.find_spec("rich") is None:
        print("note: the live view needs rich (pip install 'kws[mic]'); plain lines instead", file=sys.stderr)
        return Lines()
    from kws.apps.live_view import LiveView

    return LiveView(spotter)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `kws listen`: the exit status."""
    options = _arguments(arguments)
    if options.list_devices:
        print("\n".join(list_inputs()))
        return 0
    spotter = load_spotter(options)
    model = spotter.model
    commands = Commands(options.on, keywords_of(spotter.labels))
    saver = ClipSaver(options.save, model.sample_rate) if options.save else None

    def react(block: Float32, found: Sequence[Detection]) -> None:
        for detection in found:
            commands.run(detection)
        if saver:
            saver.add(block, found)

    source: Source
    if options.file:
        source = PlayedFile(options.file, model.sample_rate, options.fast)
    else:
        source = Microphone(model.sample_rate, options.device)
    end = options.seconds or math.inf
    view = _view(options, spotter)
    try:
        with interruption() as interrupted:
            listen(source, spotter, view, react, lambda meter: meter.seconds < end and not interrupted())
    finally:
        source.close()
        if saver:
            saver.flush()
        view.close()
    if source.overruns:
        print(f"warning: audio was lost {source.overruns} times; close other programs", file=sys.stderr)
    return 0
