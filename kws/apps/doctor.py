"""`kws doctor`: whether kws works on this machine, and what to do where it does not."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from kws import __version__
from kws.apps.capture import CaptureError, Microphone, list_inputs
from kws.audio.files import read_audio
from kws.audio.levels import dbfs
from kws.c.choice import load_model
from kws.c.engine import CModel
from kws.errors import KwsError
from kws.runtime.shipped import DEFAULT, is_shipped
from kws.streaming import StreamingSpotter

SAMPLE, SPOKEN = Path(__file__).with_name("doctor.ogg"), ("yes", "left", "go")  # said by espeak-ng, en-us+f3
OK, NOTE, TROUBLE = "ok", "note", "trouble"
RUNTIME = ("numpy", "onnxruntime", "soundfile", "soxr")
EXTRAS = {"mic": "sounddevice", "serve": "wyoming", "scan": "pyarrow", "measure": "scipy", "train": "torch"}
RECORD_SECONDS = 1.0
MUTED_DB, QUIET_DB, CLIPPED = -90.0, -70.0, 0.99
LOAD_SECONDS = 10.0  # of audio, to find the load
BUSY = 0.5  # of a core: more leaves too little for a machine that does other things


class Finding(NamedTuple):
    """One line: `ok`, `note` (something that not everybody needs) or `trouble`, and what to do about it."""

    state: str
    text: str


def examine(model: str, device: str | None, record: bool) -> Iterator[Finding]:
    """Everything that is looked at, in order. model: a file or a name; device: as of `kws listen`; record: a second."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in RUNTIME)
    yield Finding(OK, f"kws {__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}")
    yield Finding(OK, f"{versions}, {soundfile.__libsndfile_version__}".replace(", 1.", ", libsndfile 1."))
    missing = [name for name, package in EXTRAS.items() if importlib.util.find_spec(package) is None]
    if missing:
        yield Finding(NOTE, f"without the extras {', '.join(missing)}; who needs one: pip install 'kws[{missing[0]}]'")
    yield from _microphone(device, record)
    yield from _model(model)


def _microphone(device: str | None, record: bool) -> Iterator[Finding]:
    try:
        yield from (Finding(OK, f"input device {line.strip()}") for line in list_inputs())
    except CaptureError as error:  # a server needs none
        yield Finding(NOTE, f"no microphone: {error}")
        return
    if not record:
        return
    try:
        microphone = Microphone(16000, device)
        blocks, begun = [np.zeros(0, np.float32)], time.monotonic()
        for block in microphone.blocks():
            blocks.append(block)
            if sum(map(len, blocks)) >= RECORD_SECONDS * 16000 or time.monotonic() - begun > 3 * RECORD_SECONDS:
                break
        microphone.close()
    except CaptureError as error:
        yield Finding(TROUBLE, str(error))
        return
    yield level(np.concatenate(blocks), microphone.name)


def level(samples: np.ndarray, name: str) -> Finding:
    """What a second float32 `[n]` in [-1, 1] at 16 kHz tells of the input device `name`."""
    if len(samples) < RECORD_SECONDS * 8000:
        remedy = "close what else uses it, or choose another: --device"
        return Finding(TROUBLE, f"{name} gave {len(samples) / 16000:.2f} s of audio in 3 s; {remedy}")
    loud = float(dbfs(samples))
    if loud < MUTED_DB:
        remedy = "unmute it, or let this program use the microphone (privacy settings)"
        return Finding(TROUBLE, f"{name} gives digital silence ({max(loud, -200):.0f} dBFS); {remedy}")
    if np.abs(samples).max() > CLIPPED:
        return Finding(TROUBLE, f"{name} is cut at full scale ({loud:.0f} dBFS); turn its gain down")
    if loud < QUIET_DB:
        return Finding(NOTE, f"{name} hears {loud:.0f} dBFS: a very quiet room, or its gain is low")
    return Finding(OK, f"{name} hears {loud:.0f} dBFS in a second")


def _model(given: str) -> Iterator[Finding]:
    try:
        begun = time.perf_counter()
        model = load_model(given)
        seconds = time.perf_counter() - begun
    except (KwsError, OSError) as error:
        yield Finding(TROUBLE, str(error))
        return
    engine = "the C engine" if isinstance(model, CModel) else "onnxruntime"
    yield Finding(OK, f"{model.path.stem} runs on {engine}, loaded in {seconds:.2f} s")
    spotter = StreamingSpotter(model)
    if is_shipped(model.path):
        heard = [found.keyword for found in _heard(spotter, read_audio(SAMPLE, model.sample_rate))]
        said = ", ".join(SPOKEN)
        wrong = not heard or not set(heard) <= set(SPOKEN)
        result = f"of a voice that says {said} it hears {', '.join(heard) or 'nothing'}"
        remedy = "; the installation is damaged: pip install --force-reinstall kws" if wrong else ""
        yield Finding(TROUBLE if wrong else OK, result + remedy)
    noise = np.random.default_rng(0).normal(0, 0.01, round(LOAD_SECONDS * model.sample_rate)).astype(np.float32)
    begun = time.perf_counter()
    _heard(spotter, noise)
    load = (time.perf_counter() - begun) / LOAD_SECONDS
    busy = load > BUSY
    remedy = "; use a smaller model (gsc12_tiny), or build the C engine (docs/devices.md)" if busy else ""
    yield Finding(TROUBLE if busy else OK, f"it takes {load:.1%} of a core of this machine{remedy}")


def _heard(spotter: StreamingSpotter, samples: np.ndarray) -> list:  # type: ignore[type-arg]
    found = []
    for at in range(0, len(samples), 1600):
        found += spotter.feed(samples[at : at + 1600])
    return found + spotter.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `kws doctor`: 1 where there is trouble."""
    epilog = "Exit status 1 where something is in trouble; a note is for those whom it concerns."
    parser = argparse.ArgumentParser(prog="kws doctor", description=__doc__, epilog=epilog)
    add = parser.add_argument
    add("--model", default=DEFAULT, metavar="ONNX", help=f"a file, or the name of a shipped model (default: {DEFAULT})")
    add("--device", metavar="D", help="input device: its number, or part of its name (default: the system's)")
    add("--no-record", action="store_true", help="leave the microphone alone")
    add("--json", action="store_true", help="one JSON object per finding")
    options = parser.parse_args(arguments)
    status = 0
    for finding in examine(options.model, options.device, not options.no_record):
        print(json.dumps(finding._asdict()) if options.json else f"{finding.state:7}  {finding.text}", flush=True)
        status |= finding.state == TROUBLE
    return int(status)
