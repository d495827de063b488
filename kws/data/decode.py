"""Any audio file to mono int16 clips of one length, and the process that fills a part of the packed file with them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from kws.system.arrays import Float32, Int16
from kws.system.errors import DataError

UNKNOWN_SIZE = 0x7FFFF000  # from here on, or 0: written by a program that could not go back to fill in the size


def read_audio(path: Path, sample_rate: int) -> Int16:
    """The whole file as mono int16 `[S]` at `sample_rate` Hz: channels averaged, resampled by soxr, clipped.

    Raises `DataError`, naming the file, if it is missing, empty, truncated, not audio, or holds no or infinite samples.
    """
    remedy = "delete it or put the recording back"
    try:
        with path.open("rb") as file:
            header = file.read(12)
            size = file.seek(0, io.SEEK_END)
        if not header:
            raise DataError(f"{path} is empty; {remedy}")
        declared = int.from_bytes(header[4:8], "little")
        if header[:4] == b"RIFF" and size - 7 < declared < UNKNOWN_SIZE:  # a pad byte may be missing
            raise DataError(f"{path} is truncated: {size} bytes of {declared + 8}; {remedy}")
        with soundfile.SoundFile(path) as sound:
            exact = sound.subtype == "PCM_16" and sound.channels == 1 and sound.samplerate == sample_rate
            samples = sound.read(dtype="int16" if exact else "float32", always_2d=not exact)
            frames, rate = sound.frames, sound.samplerate
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; it went away while it was being read") from error
    except soundfile.SoundFileError as error:
        raise DataError(f"{path} is not readable audio ({_reason(error)}); {remedy}") from error
    if len(samples) == 0:
        raise DataError(f"{path} holds no samples; {remedy}")
    if len(samples) < frames:
        raise DataError(f"{path} is truncated: {len(samples)} samples of {frames}; {remedy}")
    if not exact and not np.isfinite(samples).all():
        raise DataError(f"{path} holds samples that are not finite (NaN or infinity); {remedy}")
    return samples if exact else _to_int16(samples, rate, sample_rate)


def _reason(error: Exception) -> str:
    text = str(getattr(error, "error_string", error))
    return text.rsplit(": ", 1)[-1].strip(" .")


def _to_int16(samples: Float32, rate: int, sample_rate: int) -> Int16:
    """float32 `[S, channels]` in [-1, 1] at `rate` -> int16 `[S']` at `sample_rate`."""
    mono = samples.mean(axis=1)
    if rate != sample_rate:
        import soxr  # type: ignore[import-untyped]

        mono = soxr.resample(mono, rate, sample_rate)
    return np.clip(np.round(mono * 32768), -32768, 32767).astype(np.int16)


def fit(samples: Int16, clip_length: int) -> Int16:
    """int16 `[S]` -> `[clip_length]`: zeros after a short clip, the loudest window of a long one."""
    if len(samples) <= clip_length:
        return np.pad(samples, (0, clip_length - len(samples)))
    energy = np.concatenate(([0], np.cumsum(samples.astype(np.int64) ** 2)))
    start = int(np.argmax(energy[clip_length:] - energy[:-clip_length]))
    return samples[start : start + clip_length]


def work(job: dict[str, Any], done: Callable[[int], None]) -> list[int]:
    """Decode `job["paths"]` into the rows of `job["file"]` from `job["row"]` on; the clips' own lengths in samples."""
    clip_length = job["clip_length"]
    lengths: list[int] = []
    with open(job["file"], "r+b") as file:
        file.seek(job["row"] * clip_length * 2)
        for number, path in enumerate(job["paths"], 1):
            samples = read_audio(Path(path), job["sample_rate"])
            lengths.append(len(samples))
            file.write(fit(samples, clip_length).astype("<i2").tobytes())
            if number % 100 == 0 or number == len(job["paths"]):
                done(number % 100 or 100)
    return lengths
