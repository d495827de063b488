"""Any audio file to mono int16 clips of one length, and the process that fills a part of the packed file with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.files import AudioError, read_audio
from kws.audio.levels import to_int16
from kws.errors import DataError
from kws.system.arrays import Int16


def read_int16(path: Path, sample_rate: int) -> Int16:
    """The whole file as mono int16 `[S]` at `sample_rate` Hz, clipped; 16-bit samples at that rate stay as they are.

    Raises `DataError`, naming the file, where `read_audio` raises `AudioError`.
    """
    try:
        samples = read_audio(path, sample_rate)
    except AudioError as error:
        raise DataError(f"{error}; delete it or put the recording back") from error
    return to_int16(samples)


def fit(samples: Int16, clip_length: int) -> Int16:
    """int16 `[S]` -> `[clip_length]`: zeros after a short clip, the loudest window of a long one."""
    if len(samples) <= clip_length:
        return np.pad(samples, (0, clip_length - len(samples)))
    energy = np.concatenate(([0], np.cumsum(samples.astype(np.int64) ** 2)))
    start = int(np.argmax(energy[clip_length:] - energy[:-clip_length]))
    return samples[start : start + clip_length]


def work(job: dict[str, Any], done: Callable[[int], None]) -> None:
    """Decode `job["paths"]` into the rows of `job["file"]` from `job["row"]` on."""
    clip_length = job["clip_length"]
    with open(job["file"], "r+b") as file:
        file.seek(job["row"] * clip_length * 2)
        for number, path in enumerate(job["paths"], 1):
            clip = fit(read_int16(Path(path), job["sample_rate"]), clip_length)
            file.write(clip.astype("<i2").tobytes())
            if number % 100 == 0 or number == len(job["paths"]):
                done(number % 100 or 100)
