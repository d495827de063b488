"""Audio in: files of any format soundfile reads and raw PCM, whole or in blocks, as mono float32 samples."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile

from kws.audio.pcm import Pcm
from kws.audio.resample import Resampler
from kws.config import RATES
from kws.errors import KwsError
from kws.system.arrays import Float32
from kws.system.atomic import write_whole

BLOCK_SECONDS = 10.0
MOST_NUMBERS = 1 << 24  # in a block, of all channels together
MOST_PIPED = 4_000_000_000  # bytes
CONTAINERS = (b"RIFF", b"RF64", b"riff", b"FORM", b"fLaC", b"OggS", b".snd", b"caff", b"ID3")
LONGEST_OGG_PAGE, OGG_LAST = 65_307, 4  # bytes; the flag of a stream's last page (RFC 3533)
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


def write_audio(path: Path, samples: Float32, sample_rate: int, format: str = "WAV") -> None:
    """Write samples `[S]` or `[S, channels]` in [-1, 1] as 16-bit audio: the whole file, or none. Raises `OSError`."""
    content = io.BytesIO()
    soundfile.write(content, samples, sample_rate, format=format, subtype="PCM_16")
    write_whole(path, content.getvalue())


def duration(path: str | Path) -> float:
    """How long a file is, in seconds, by its header. Raises `AudioError` if it is missing, truncated or not audio."""
    with open_audio(path) as sound:
        return float(sound.frames / sound.samplerate)


def rest_of(sound: Sound, path: str | Path, sample_rate: int) -> Iterator[Float32]:
    """What `open_audio` opened, from where it stands, in blocks as from `blocks`; errors as from there."""
    resampler = Resampler(sound.samplerate, sample_rate)
    for block in _read(sound, path):
        yield resampler.process(block)
    yield resampler.flush()


def piped_blocks(stream: io.BufferedReader, rate: int, channels: int, sample_rate: int) -> Iterator[Float32]:
    """Standard input in mono blocks float32 `[n]` at `sample_rate` Hz: a file, known by its first bytes, or raw PCM.

    `rate` and `channels` are those of raw PCM; errors as from `blocks` and `raw_blocks`.
    """
    if stream.peek(4).startswith(CONTAINERS):
        with open_audio("-", spooled(stream, "-")) as sound:
            yield from rest_of(sound, "-", sample_rate)
    else:
        yield from raw_blocks(stream, rate, channels, sample_rate)


def raw_blocks(stream: BinaryIO, rate: int, channels: int, sample_rate: int) -> Iterator[Float32]:
    """Raw PCM as it arrives, signed 16 bits, little-endian -> mono blocks float32 `[n]` at `sample_rate` Hz.

    `stream` holds `channels` interleaved channels at `rate` Hz. Raises `AudioError` if the stream ends within a sample.
    """
    pcm = Pcm(rate, 2, channels, sample_rate)
    read = getattr(stream, "read1", stream.read)  # what is there, without waiting for more
    while data := read(1 << 16):
        yield pcm.process(data)
    if pcm.rest:
        what = f"{len(pcm.rest)} bytes into a sample of {2 * channels}"
        raise AudioError(f"raw audio ended {what}; check its format and --channels")
    yield pcm.flush()


class Sound(soundfile.SoundFile):  # type: ignore[misc]
    """An open audio file; `cut_off` says what is missing at its end by what its header declares, or is empty."""

    cut_off = ""


def open_audio(path: str | Path, file: BinaryIO | None = None) -> Sound:
    """An audio file at its start. file: its bytes, where `path` is only what errors call them; it can seek.

    A pipe is read to its end first. Raises `AudioError` if it is missing, empty, not audio, or of a rate outside 1 to
    384 kHz.
    """
    place = Path(path)
    if file is None:
        if not place.exists():
            raise AudioError(f"{path} does not exist")
        if place.is_dir():
            raise AudioError(f"{path} is a folder, not an audio file")
    try:
        if file is None and not place.is_file():
            with open(path, "rb") as pipe:
                file = spooled(pipe, path)
        with nullcontext(file) if file is not None else open(path, "rb") as opened:
            size = opened.seek(0, io.SEEK_END)
            cut_off = _cut_off(opened, size)
            opened.seek(0)
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror or error}") from error
    if not size:
        raise AudioError(f"{path} is empty")
    try:
        sound = Sound(_for_soundfile(path) if file is None else file)
    except (soundfile.SoundFileError, OSError) as error:
        what = f"is truncated: {cut_off}" if cut_off else f"cannot be read as audio ({_reason(error)})"
        raise AudioError(f"{path} {what}") from error
    if not RATES[0] <= sound.samplerate <= RATES[1]:
        sound.close()
        raise AudioError(f"{path} says that its rate is {sound.samplerate} Hz; it must be {RATES[0]} to {RATES[1]}")
    sound.cut_off = cut_off
    return sound


def spooled(stream: BinaryIO, path: str | Path) -> BinaryIO:
    """All that a pipe gives, as a file that can seek. Raises `AudioError` beyond 4 GB."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    while data := stream.read(1 << 20):
        file.write(data)
        if file.tell() > MOST_PIPED:
            raise AudioError(f"{path} gives more than {MOST_PIPED / 1e9:g} GB of audio; save it to a file")
    file.seek(0)
    return file


def _cut_off(file: BinaryIO, size: int) -> str:
    """What a file of `size` bytes lacks by what its format declares; empty for nothing, or where that can't be told."""
    file.seek(0)
    header, declared = file.read(28), 0

    def number(start: int, end: int, order: Literal["little", "big"] = "little") -> int:
        return int.from_bytes(header[start:end], order)

    if header[:4] == b"RIFF" and number(4, 8) < SIZE_LEFT_OPEN:
        declared = number(4, 8) + 8
    elif header[:4] == b"RF64":
        declared = number(20, 28) + 8
    elif header[:4] == b"riff":  # Wave64
        declared = number(16, 24)
    elif header[:4] == b"FORM":  # AIFF
        declared = number(4, 8, "big") + 8
    elif header[:4] == b".snd" and header[8:12] != b"\xff\xff\xff\xff":  # AU
        declared = number(4, 8, "big") + number(8, 12, "big")
    elif header[:4] == b"OggS":
        file.seek(max(0, size - LONGEST_OGG_PAGE))
        tail = file.read()
        page = tail[tail.rfind(b"OggS") :]
        whole = len(page) >= 27 and 27 + page[26] + sum(page[27 : 27 + page[26]]) <= len(page)
        return "" if whole and page[5] & OGG_LAST else "it ends before its last page"
    return f"it has {size} bytes of {declared}" if declared > size + 1 else ""  # a pad byte may be missing


def _for_soundfile(path: str | Path) -> str | bytes:
    """soundfile takes names that are no UTF-8 as bytes alone, and Windows has none."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def _read(sound: Sound, path: str | Path) -> Iterator[Float32]:
    """The rest of an open file in mono blocks, each checked; what is damaged or missing is told after what is not."""
    if not sound.frames and not sound.cut_off:
        raise AudioError(f"{path} holds no samples")
    received, damage = 0, ""
    most = min(round(BLOCK_SECONDS * sound.samplerate), MOST_NUMBERS // sound.channels)
    while received < sound.frames and not damage:
        space = np.full((min(most, sound.frames - received), sound.channels), np.nan, np.float32)
        try:
            block = sound.read(dtype="float32", always_2d=True, out=space)
        except soundfile.SoundFileError as error:
            block = space[: np.isfinite(space).all(axis=1).sum()]  # what was read before it failed
            seconds = (received + len(block)) / sound.samplerate
            damage = f"is damaged after {seconds:.2f} s ({_reason(error)})"
        if not len(block):
            damage = damage or f"is truncated: it has {received} samples of {sound.frames}"
        if not np.isfinite(block).all():
            raise AudioError(f"{path} holds samples that are not finite (NaN or infinity)")
        received += len(block)
        yield block[:, 0] if sound.channels == 1 else block.mean(axis=1)
    if damage or sound.cut_off:
        raise AudioError(f"{path} {damage or f'is truncated: {sound.cut_off}'}")


def _reason(error: Exception) -> str:
    text = str(getattr(error, "error_string", error))
    return text.rsplit(": ", 1)[-1].strip(" .")
