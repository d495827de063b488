"""Audio in: files of any format soundfile reads and raw PCM, whole or in blocks, as mono float32 samples."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from kws.audio.resample import Resampler
from kws.errors import KwsError
from kws.system.arrays import Float32

BLOCK_SECONDS = 10.0
SIZE_LEFT_OPEN = 0x7FFFF000  # a RIFF size from here on, or 0, was written by a program that could not fill it in


class AudioError(KwsError):
    """Audio that is missing, damaged or not audio: one sentence that names it."""


def read_audio(path: str | Path, sample_rate: int) -> Float32:
    """A whole file -> mono samples float32 `[S]` in [-1, 1], channels averaged, at `sample_rate` Hz.

    Raises `AudioError` if it is missing, empty, truncated, not audio, or holds no or non-finite samples.
    """
    return np.concatenate(list(blocks(path, sample_rate)))


def blocks(path: str | Path, sample_rate: int) -> Iterator[Float32]:
    """What `read_audio` gives, of a file of any length, in blocks float32 `[n]`, n varying; errors as from there."""
    with open_audio(path) as sound:
        yield from rest_of(sound, path, sample_rate)


def duration(path: str | Path) -> float:
    """How long a file is, in seconds, by its header. Raises `AudioError` if it is missing, truncated or not audio."""
    with open_audio(path) as sound:
        return float(sound.frames / sound.samplerate)


def rest_of(sound: soundfile.SoundFile, path: str | Path, sample_rate: int) -> Iterator[Float32]:
    """What `open_audio` opened, from where it stands, in blocks as from `blocks`; errors as from there."""
    yield from _resampled(_read(sound, path), sound.samplerate, sample_rate)


def raw_blocks(stream: BinaryIO, rate: int, channels: int, sample_rate: int) -> Iterator[Float32]:
    """Raw PCM as it arrives, signed 16 bits, little-endian -> mono blocks float32 `[n]` at `sample_rate` Hz.

    `stream` holds `channels` interleaved channels at `rate` Hz. Raises `AudioError` if the stream ends within a sample.
    """
    yield from _resampled(_read_raw(stream, channels), rate, sample_rate)


def _resampled(parts: Iterator[Float32], rate: int, sample_rate: int) -> Iterator[Float32]:
    resampler = Resampler(rate, sample_rate)
    for part in parts:
        yield resampler.process(part)
    yield resampler.flush()


def open_audio(path: str | Path, file: BinaryIO | None = None) -> soundfile.SoundFile:
    """An audio file at its start. file: its bytes, where `path` is only what errors call them; it can seek.

    Raises `AudioError` if it is missing, empty, truncated by its header, or not audio.
    """
    if file is None and not Path(path).is_file():
        raise AudioError(f"{path} is a folder, not an audio file" if Path(path).is_dir() else f"{path} does not exist")
    try:
        with nullcontext(file) if file is not None else open(path, "rb") as opened:
            header, size = opened.read(12), opened.seek(0, io.SEEK_END)
            opened.seek(0)
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror or error}") from error
    if not size:
        raise AudioError(f"{path} is empty")
    declared = int.from_bytes(header[4:8], "little")
    if header[:4] == b"RIFF" and size - 7 < declared < SIZE_LEFT_OPEN:  # a pad byte may be missing
        raise AudioError(f"{path} is truncated: it has {size} bytes of {declared + 8}")
    try:
        return soundfile.SoundFile(_for_soundfile(path) if file is None else file)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"{path} cannot be read as audio ({_reason(error)})") from error


def _for_soundfile(path: str | Path) -> str | bytes:
    """soundfile takes names that are no UTF-8 as bytes alone, and Windows has none."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def _read(sound: soundfile.SoundFile, path: str | Path) -> Iterator[Float32]:
    """The rest of an open file in mono blocks, each checked."""
    if not sound.frames:
        raise AudioError(f"{path} holds no samples")
    received = 0
    while received < sound.frames:
        try:
            block = sound.read(round(BLOCK_SECONDS * sound.samplerate), dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            seconds = received / sound.samplerate
            raise AudioError(f"{path} is damaged after {seconds:.2f} s ({_reason(error)})") from error
        if not len(block):
            raise AudioError(f"{path} is truncated: it has {received} samples of {sound.frames}")
        if not np.isfinite(block).all():
            raise AudioError(f"{path} holds samples that are not finite (NaN or infinity)")
        received += len(block)
        yield block[:, 0] if sound.channels == 1 else block.mean(axis=1)


def _read_raw(stream: BinaryIO, channels: int) -> Iterator[Float32]:
    width, rest = 2 * channels, b""
    read = getattr(stream, "read1", stream.read)  # what is there, without waiting for more
    while data := read(1 << 16):
        data = rest + data
        whole = len(data) - len(data) % width
        rest = data[whole:]
        pcm = np.frombuffer(data[:whole], "<i2").reshape(-1, channels)
        yield pcm.astype(np.float32).mean(axis=1) * np.float32(1 / 32768)
    if rest:
        raise AudioError(f"raw audio ended {len(rest)} bytes into a sample of {width}; check its format and --channels")


def _reason(error: Exception) -> str:
    text = str(getattr(error, "error_string", error))
    return text.rsplit(": ", 1)[-1].strip(" .")
