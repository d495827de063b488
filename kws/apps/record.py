"""`kws record WORD`: takes of a word into the `folder` layout (one folder per word), for a data set of one's own."""

from __future__ import annotations

import argparse
import datetime
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kws.apps.capture import EMPTY, Microphone, PlayedFile, Source
from kws.apps.listen import interruption
from kws.audio.files import write_audio
from kws.audio.levels import dbfs
from kws.system.arrays import Float32

FRAME_SECONDS = 0.01
SILENT_DB = -120.0  # what is below counts as this
QUIET_DB, CLIPPED = -40.0, 0.99  # the loudest frame of a take must be above, its highest sample below
ABOVE_NOISE_DB = 10.0  # a frame of the word is at least so far above the quietest frames
BELOW_PEAK_DB = 35.0  # ... and not farther below the loudest
METER, METER_DB = 30, -60.0  # characters, and the level at which none is filled
NEXT = """When all your words are there:
  kws train data=folder data.root={folder} run_dir=runs/mine
  kws export runs/mine/best.safetensors
  kws make-stream data=folder data.root={folder} output=hours/mine
  kws calibrate runs/mine/best.onnx hours/mine
  kws listen --model runs/mine/best.onnx"""


class Take(NamedTuple):
    """What a recording holds. `fault`: why it is of no use, or empty. first, last: samples of the word."""

    fault: str
    first: int
    last: int
    peak_db: float


def examine(samples: Float32, sample_rate: int) -> Take:
    """Find the word in a recording float32 `[n]`: the span of its loud frames."""
    length = round(FRAME_SECONDS * sample_rate)
    frames = samples[: len(samples) // length * length].reshape(-1, length)
    levels = np.maximum(dbfs(frames), SILENT_DB)
    peak = float(levels.max(initial=SILENT_DB))
    if peak < QUIET_DB:
        return Take("too quiet; come nearer, or turn the microphone up", 0, 0, peak)
    if np.abs(samples).max() > CLIPPED:
        return Take("too loud, its peaks are cut; go farther away, or turn the microphone down", 0, 0, peak)
    floor = float(np.percentile(levels, 10))
    if peak - floor < ABOVE_NOISE_DB:
        return Take("hard to tell from the noise; find a quieter place", 0, 0, peak)
    loud = np.flatnonzero(levels > max(floor + ABOVE_NOISE_DB, peak - BELOW_PEAK_DB))
    first, last = int(loud[0]) * length, (int(loud[-1]) + 1) * length
    if loud[0] == 0 or loud[-1] == len(levels) - 1:
        return Take("cut off; speak a moment after the signal, and be done before the line ends", first, last, peak)
    return Take("", first, last, peak)


def trim(samples: Float32, take: Take, sample_rate: int, clip_seconds: float) -> Float32:
    """The word in the middle of `clip_seconds` of the recording; all of the word if it is longer."""
    length = min(len(samples), max(round(clip_seconds * sample_rate), take.last - take.first))
    first = (take.first + take.last - length) // 2
    first = min(max(0, first), len(samples) - length)
    return samples[first : first + length]


def new_path(folder: Path, word: str, speaker: str | None) -> Path:
    """A free name in `folder/word`: `SPEAKER_nohash_N.wav`, so that a speaker stays in one split, or the time."""
    if speaker is None:
        return folder / word / f"{datetime.datetime.now():%Y%m%dT%H%M%S%f}.wav"
    n = 0
    while (path := folder / word / f"{speaker}_nohash_{n}.wav").exists():
        n += 1
    return path


class _Tape:
    """A source, taken in stretches of so many samples."""

    def __init__(self, source: Source) -> None:
        self._source, self._blocks, self._rest = source, source.blocks(), EMPTY

    def parts(self, n_samples: int) -> Iterator[Float32]:
        """The next `n_samples` as they come, less at the end of the source."""
        while n_samples > 0:
            if not len(self._rest):
                waited = self._source.waiting
                if (block := next(self._blocks, None)) is None:
                    return
                self._rest = block
                if self._source.waiting and not waited:
                    _show(f"input device {self._source.name!r} is gone; waiting for it", end="\n")
            part, self._rest = self._rest[:n_samples], self._rest[n_samples:]
            n_samples -= len(part)
            yield part


def _show(text: str, end: str = "") -> None:
    print(f"\r\033[K{text}" if sys.stdout.isatty() else text, end=end if sys.stdout.isatty() else "\n", flush=True)


def _level(block: Float32) -> str:
    level = max(METER_DB, float(dbfs(block))) if len(block) else METER_DB
    filled = round(METER * (1 - level / METER_DB))
    return "█" * filled + "·" * (METER - filled)


def _record(tape: _Tape, rate: int, word: str, countdown: int, seconds: float) -> Float32:
    for left in range(countdown, 0, -1):
        _show(f"{left} …")
        for _ in tape.parts(rate * 7 // 10):
            pass
    _show(f"say: {word}")
    heard = []
    for part in tape.parts(round(seconds * rate)):
        heard.append(part)
        if sys.stdout.isatty():
            _show(f"say: {word}   {_level(part)}")
    return np.concatenate([EMPTY, *heard])


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kws record", description=__doc__, epilog="Ctrl-C ends it.")
    add = parser.add_argument
    add("word", metavar="WORD")
    add("--folder", default="recordings", metavar="DIR", help="holds one folder per word (default: recordings)")
    add("--takes", type=int, default=10, metavar="N", help="good takes to record (default: 10)")
    add("--speaker", metavar="NAME", help="whose voice; all takes of a speaker are then in one split of the data")
    add("--seconds", type=float, default=2.0, metavar="S", help="length of a take before it is trimmed (default: 2)")
    add("--clip", type=float, default=1.0, metavar="S", help="length that a take is trimmed to (default: 1)")
    add("--countdown", type=int, default=3, metavar="N", help="counts before a take (default: 3)")
    add("--rate", type=int, default=16000, metavar="HZ", help="sample rate of the files (default: 16000)")
    add("--device", metavar="D", help="input device: its number, or part of its name (default: the system's)")
    add("--file", metavar="AUDIO", help="play this file instead of a microphone")
    options = parser.parse_args(given)
    if not re.fullmatch(r"[^\W_][\w' -]*", options.word):
        parser.error(f"{options.word!r} cannot name a folder; give a word of letters")
    if options.speaker and not re.fullmatch(r"[\w-]+", options.speaker):
        parser.error(f"--speaker {options.speaker!r} cannot be part of a file name; give letters and digits")
    if options.takes < 1 or options.seconds < 0.2 or options.clip <= 0 or options.countdown < 0:
        parser.error("--takes must be at least 1, --seconds at least 0.2, --clip above 0, --countdown at least 0")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `kws record`: the exit status."""
    options = _arguments(arguments)
    folder, rate = Path(options.folder), options.rate
    (folder / options.word).mkdir(parents=True, exist_ok=True)
    source: Source = PlayedFile(options.file, rate, fast=True) if options.file else Microphone(rate, options.device)
    tape, kept = _Tape(source), 0
    try:
        with interruption() as interrupted:
            while kept < options.takes and not interrupted():
                overruns = source.overruns
                samples = _record(tape, rate, options.word, options.countdown, options.seconds)
                if len(samples) < round(options.seconds * rate):
                    _show(f"{source.name} has ended", end="\n")
                    break
                if source.overruns > overruns:
                    _show("again: audio was lost; close other programs", end="\n")
                    continue
                if (take := examine(samples, rate)).fault:
                    _show(f"again: that was {take.fault}", end="\n")
                    continue
                path = new_path(folder, options.word, options.speaker)
                write_audio(path, trim(samples, take, rate, options.clip), rate)
                kept += 1
                length = (take.last - take.first) / rate
                _show(f"take {kept} of {options.takes}: {length:.2f} s, {take.peak_db:.0f} dBFS, {path}", end="\n")
    finally:
        source.close()
    print(f"{kept} takes of {options.word!r} in {folder / options.word}")
    if kept:
        print(NEXT.format(folder=shlex.quote(str(folder))))
    return 0
