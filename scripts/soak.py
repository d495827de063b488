"""Hours of audio at speed through StreamingSpotter, BatchedSpotter and kws listen: is memory flat, are results equal?

    python scripts/soak.py [--hours 24] [--model gsc12_tiny] [--lanes 2]     # make soak

The audio is speech-like noise in the rhythm of words, made as it is heard; the model gets thresholds at which it
detects something now and then. The stream is cut anew at random. Its detections must
be those of lane 0 of the batch, to the last digit, and those of `kws listen` over the first hours, which reads files.
Printed: detections, seconds of audio a second, and the slope of the memory over the later half of the hours, with its
standard error: flat is a slope within twice that, or below 100 kB an hour of audio.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from kws.apps import listen
from kws.batched import BatchedSpotter
from kws.runtime.detector import Detection
from kws.streaming import StreamingSpotter
from kws.system.arrays import Float32

RATE, PIECE = 16000, 60  # Hz; seconds that are made at once
FLAT = 100e3  # bytes an hour of audio


@cache
def noise(number: int) -> Float32:
    """A minute of noise whose colour and level change as those of syllables do: float32 `[RATE * PIECE]`."""
    rng = np.random.default_rng(number)
    count = PIECE * 8  # syllables
    level = rng.choice([0.0, 0.02, 0.1, 0.3], count).repeat(RATE // 8)
    tones = rng.uniform(100, 3000, (3, count)).repeat(RATE // 8, axis=1)
    voice = np.sin(2 * np.pi * np.cumsum(tones, axis=1) / RATE).sum(axis=0) + rng.standard_normal(RATE * PIECE)
    return np.asarray(np.clip(level * voice / 4, -1, 1), np.float32)


def sound(minute: int) -> Float32:
    """The samples of a minute: one of some noises from another place on, at another level."""
    rng = np.random.default_rng(minute)
    return np.roll(noise(int(rng.integers(8))), rng.integers(RATE * PIECE)) * np.float32(rng.uniform(0.3, 1))


def resident() -> int:
    """Bytes of memory that this process holds."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measured(name: str, hours: int, hour: Callable[[int], list[Detection]]) -> tuple[list[Detection], bool]:
    """Hear each hour; what was detected, and whether memory stayed flat."""
    found, memory, began = [], [], time.process_time()
    for number in range(hours):
        found += hour(number)
        memory.append(resident())
        print(f"{name} hour {number + 1}: {len(found)} detections, {memory[-1] / 1e6:.1f} MB", flush=True)
    seconds = time.process_time() - began
    late = np.array(memory[len(memory) // 2 :], float)
    slope = error = 0.0
    if len(late) > 2:
        (slope, _), covariance = np.polyfit(np.arange(len(late)), late, 1, cov="unscaled")
        residuals = late - np.polyval(np.polyfit(np.arange(len(late)), late, 1), np.arange(len(late)))
        error = float(np.sqrt(covariance[0, 0] * (residuals**2).sum() / max(len(late) - 2, 1)))
    flat = abs(slope) <= max(2 * error, FLAT)
    print(
        f"{name}: {hours} h, {len(found)} detections, {3600 * hours / seconds:.0f} s of audio a second of computing, "
        f"memory {slope / 1e3:+.1f} kB an hour (standard error {error / 1e3:.1f}): {'flat' if flat else 'GROWS'}"
    )
    return found, flat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--model", default="gsc12_tiny")
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--threshold", type=float, default=0.3, help="of every keyword")
    options = parser.parse_args()
    cuts = np.random.default_rng(0)
    stream = StreamingSpotter(options.model, thresholds=options.threshold)
    batch = BatchedSpotter(options.model, options.lanes, thresholds=options.threshold)

    def streamed(hour: int) -> list[Detection]:
        found = []
        for minute in range(60 * hour, 60 * hour + 60):
            samples = sound(minute)
            for part in np.split(samples, np.sort(cuts.integers(0, len(samples), 40))):
                found += stream.feed(part)
        return found

    def batched(hour: int) -> list[Detection]:
        found = []
        for minute in range(60 * hour, 60 * hour + 60):
            lanes = np.stack([sound(minute + 10_000 * lane) for lane in range(options.lanes)])
            for start in range(0, lanes.shape[1], RATE // 2):
                found += batch.feed(lanes[:, start : start + RATE // 2])[0]
        return found

    def listened(hour: int) -> list[Detection]:
        with tempfile.NamedTemporaryFile(suffix=".wav") as file, contextlib.redirect_stdout(io.StringIO()) as out:
            with soundfile.SoundFile(file.name, "w", RATE, 1, "FLOAT") as written:
                for minute in range(60 * hour, 60 * hour + 60):
                    written.write(sound(minute))
            given = ["--model", options.model, "--file", file.name, "--fast", "--json"]
            listen.main([*given, f"--threshold={options.threshold}"])
        return [json.loads(line) for line in out.getvalue().splitlines()]

    one, flat_one = measured("StreamingSpotter", options.hours, streamed)
    many, flat_many = measured(f"BatchedSpotter of {options.lanes}", options.hours, batched)
    heard, flat_heard = measured("kws listen", options.hours, listened)
    equal = one == many
    print(f"the stream's {len(one)} detections are {'' if equal else 'NOT '}those of the batch")
    near = abs(len(heard) - len(one)) <= 2 * options.hours  # an hour of its own has its first second without a past
    print(f"kws listen, hour by hour, made {len(heard)}")
    sys.exit(not (equal and near and flat_one and flat_many and flat_heard))


if __name__ == "__main__":
    main()
