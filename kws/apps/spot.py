"""`kws spot`: find keywords in audio files, or in raw audio on standard input as it arrives."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterator, Sequence
from typing import cast

from kws.apps.typed import TypedSpotter, typed_spotter
from kws.audio.files import AudioError, blocks, piped_blocks
from kws.audio.pcm import CHANNELS
from kws.config import RATES
from kws.errors import KwsError, between
from kws.runtime.detector import Detection
from kws.runtime.shipped import DEFAULT
from kws.streaming import SpotterModel, StreamingSpotter
from kws.system.arrays import Float32

EPILOG = "A line is: file, start and end in seconds, keyword, score. Exit status 1 if a file could not be read."


def parse_thresholds(texts: Sequence[str]) -> dict[str, float] | float | None:
    """`["0.8"]` -> 0.8; `["yes=0.8", "no=0.9"]` -> a table; `[]` -> None. Raises `ValueError` for anything else."""
    thresholds: dict[str, float] = {}
    for text in (part for given in texts for part in given.split(",")):
        keyword, _, number = text.rpartition("=")
        try:
            thresholds[keyword] = float(number)
        except ValueError:
            raise KwsError(f"--threshold {text} is not a number or KEYWORD=NUMBER") from None
    if "" not in thresholds:
        return thresholds or None
    if len(thresholds) > 1:
        raise KwsError("--threshold takes one number for all keywords, or KEYWORD=NUMBER for each; not both")
    return thresholds[""]


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `load_spotter`."""
    add = parser.add_argument
    add("--model", default=DEFAULT, metavar="ONNX", help=f"a file, or the name of a shipped model (default: {DEFAULT})")
    add("--fa-per-hour", type=float, metavar="X", help="operating point of the model (default: the model's choice)")
    add("--threshold", action="append", default=[], metavar="[KEYWORD=]X", help="score; may be given repeatedly")
    add("--words", metavar="WORD,...", help="typed words, as a preview; --model is then an encoder")


def load_spotter(options: argparse.Namespace) -> StreamingSpotter | TypedSpotter:
    """The model and the thresholds asked for; a line on standard error where nobody has chosen thresholds."""
    if options.words is not None:
        if options.fa_per_hour is not None:
            raise KwsError("--words does not go with --fa-per-hour; set --threshold")
        return typed_spotter(options.words, options.model, parse_thresholds(options.threshold))
    model = SpotterModel(options.model)
    thresholds = parse_thresholds(options.threshold)
    if thresholds is None and not model.is_calibrated:
        print(f"note: {model.path} has no thresholds chosen on speech; kws calibrate chooses them", file=sys.stderr)
    return StreamingSpotter(model, fa_per_hour=options.fa_per_hour, thresholds=thresholds)


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kws spot", description=__doc__, epilog=EPILOG)
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio of any rate; - is raw 16-bit PCM on stdin")
    add_model_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object per detection")
    parser.add_argument("--rate", type=int, metavar="HZ", help="sample rate of - (default: the model's)")
    parser.add_argument("--channels", type=int, default=1, metavar="N", help="interleaved channels of - (default: 1)")
    return parser.parse_args(given)


def _detections(spotter: StreamingSpotter | TypedSpotter, audio: Iterator[Float32]) -> Iterator[Detection]:
    """What is detected in a file; damage is raised after what was heard before it."""
    spotter.reset()
    damage = None
    try:
        for block in audio:
            yield from spotter.feed(block)
    except AudioError as error:
        damage = error
    yield from spotter.flush()
    if damage:
        raise damage


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `kws spot`: the exit status."""
    options = _arguments(arguments)
    between("--channels", options.channels, *CHANNELS)
    if options.rate is not None:
        between("--rate", options.rate, *RATES)
    if options.rate is not None and "-" not in options.files:
        raise KwsError("--rate tells the rate of raw audio on standard input (-); files tell their own")
    spotter = load_spotter(options)
    model = spotter.model
    rate = model.sample_rate if options.rate is None else options.rate
    status = 0
    for file in options.files:
        if file == "-":
            if sys.stdin is None:
                raise KwsError("standard input is closed; give it audio or name a file")
            audio = piped_blocks(cast(io.BufferedReader, sys.stdin.buffer), rate, options.channels, model.sample_rate)
        else:
            audio = blocks(file, model.sample_rate)
        try:
            for found in _detections(spotter, audio):
                if options.json:
                    line = json.dumps({"file": file, **found._asdict()})
                else:
                    line = f"{file}\t{found.start:.2f}\t{found.end:.2f}\t{found.keyword}\t{found.score:.3f}"
                print(line, flush=True)
        except KwsError as error:
            print(f"error: {error}" if isinstance(error, AudioError) else f"error: {file}: {error}", file=sys.stderr)
            status = 1
    return status
