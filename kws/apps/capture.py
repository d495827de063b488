"""Audio as it happens: a microphone, or a file played as if it were one, in mono blocks at the model's rate."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from kws.audio.files import blocks
from kws.audio.resample import Resampler
from kws.system.arrays import Float32, Int16

BLOCK_SECONDS = 0.02  # what a device hands over at once
BUFFER_SECONDS = 0.1  # what a device keeps for us while we are not scheduled
QUEUE_SECONDS = 10.0  # what we keep while the listener is busy; more is lost, and counted
STALL_SECONDS = 2.0  # a device that gives nothing for so long is gone
RETRY_SECONDS = 1.0
WAKE_SECONDS = 0.1  # a source yields at least this often, if only an empty block
EMPTY: Float32 = np.zeros(0, np.float32)


class CaptureError(OSError):
    """No microphone to be used: one sentence with the remedy."""


class Source(Protocol):
    """Audio as it happens. `overruns`: times that audio was lost; `waiting`: the device is gone, it may come back."""

    name: str
    overruns: int
    waiting: bool

    def blocks(self) -> Iterator[Float32]:
        """Mono float32 `[n]` in [-1, 1] at the model's rate, n varying, 0 while nothing comes."""
        ...

    def close(self) -> None:
        """Give the device back."""
        ...


class PlayedFile:
    """A file as a source: in real time, or as fast as it is taken."""

    def __init__(self, path: str | Path, sample_rate: int, fast: bool = False) -> None:
        """Errors in the file come from `blocks`, as `AudioError`."""
        self.name, self.overruns, self.waiting = str(path), 0, False
        self._rate, self._fast = sample_rate, fast

    def blocks(self) -> Iterator[Float32]:
        """The file in blocks of 20 ms, each handed over when a microphone would have heard it."""
        step, played, start = round(BLOCK_SECONDS * self._rate), 0, time.monotonic()
        for part in blocks(self.name, self._rate):
            for first in range(0, len(part), step):
                block = part[first : first + step]
                played += len(block)
                if not self._fast:
                    time.sleep(max(0.0, start + played / self._rate - time.monotonic()))
                yield block

    def close(self) -> None:
        """Nothing is held."""


class Microphone:
    """An input device as a source, at whatever rate it has, its first two channels averaged.

    Audio is lost if the system is late (PortAudio says so) or if nobody takes it for ten seconds: `overruns` counts
    both. A device that goes away is waited for and opened again.
    """

    def __init__(self, sample_rate: int, device: str | None = None) -> None:
        """Open `device`: its number, part of its name, or None for the system's default. Raises `CaptureError`."""
        self._sd, self._rate, self._device = _sounddevice(), sample_rate, device
        self.name, self.overruns, self.waiting = device or "default input", 0, False
        self._open()

    def _open(self) -> None:
        with _no_chatter():
            info = find_input(self._sd, self._device)
            self.name = str(info["name"])
            self._device = self._device and self.name  # a device that comes back may have another number
            rate = round(info["default_samplerate"])
            self._queue: queue.Queue[Float32] = queue.Queue(round(QUEUE_SECONDS / BLOCK_SECONDS))
            self._resampler = Resampler(rate, self._rate)
            try:
                self._stream = self._sd.InputStream(
                    samplerate=rate,
                    device=info["index"],
                    channels=min(2, info["max_input_channels"]),
                    blocksize=round(BLOCK_SECONDS * rate),
                    latency=BUFFER_SECONDS,
                    dtype="float32",
                    callback=self._take,
                )
                self._stream.start()
            except self._sd.PortAudioError as error:
                raise CaptureError(
                    f"input device {self.name!r} cannot be opened ({_reason(error)}); close what else uses it, "
                    "or choose another: --list-devices"
                ) from error

    def _take(self, data: Float32, frames: int, clock: object, status: Any) -> None:
        """PortAudio's callback, in its own thread."""
        self.overruns += bool(status.input_overflow)
        try:
            self._queue.put_nowait(data.mean(axis=1))
        except queue.Full:
            self.overruns += 1

    def blocks(self) -> Iterator[Float32]:
        """What the device hears, without end."""
        heard = time.monotonic()
        while True:
            try:
                parts = [self._queue.get(timeout=WAKE_SECONDS)]
            except queue.Empty:
                yield EMPTY
                if time.monotonic() - heard > STALL_SECONDS or not self._stream.active:
                    yield from self._await_device()
                    heard = time.monotonic()
                continue
            heard = time.monotonic()
            with contextlib.suppress(queue.Empty):
                while True:
                    parts.append(self._queue.get_nowait())
            yield self._resampler.process(np.concatenate(parts))

    def _await_device(self) -> Iterator[Float32]:
        self.waiting = True
        self.close()
        while self.waiting:
            until = time.monotonic() + RETRY_SECONDS
            while time.monotonic() < until:
                time.sleep(WAKE_SECONDS)
                yield EMPTY
            with contextlib.suppress(CaptureError, self._sd.PortAudioError):
                with _no_chatter():  # PortAudio looks for devices only when it starts
                    self._sd._terminate()
                    self._sd._initialize()
                self._open()
                self.waiting = False

    def close(self) -> None:
        """Give the device back."""
        with _no_chatter(), contextlib.suppress(self._sd.PortAudioError):
            self._stream.close(ignore_errors=True)


def find_input(sd: ModuleType, device: str | None) -> dict[str, Any]:
    """PortAudio's entry of an input device: by number, by part of its name, or the default. Raises `CaptureError`."""
    inputs: list[dict[str, Any]] = [info for info in sd.query_devices() if info["max_input_channels"] > 0]
    if not inputs:
        raise CaptureError("there is no input device; plug a microphone in, or play a file: --file x.wav")
    if device is None:
        default = sd.default.device[0]
        found = [info for info in inputs if info["index"] == default] or inputs[:1]
    elif device.isdigit():
        found = [info for info in inputs if info["index"] == int(device)]
    else:
        found = [info for info in inputs if info["name"].lower() == device.lower()]
        found = found or [info for info in inputs if device.lower() in info["name"].lower()]
    if not found:
        raise CaptureError(f"no input device is called {device!r}; --list-devices lists them")
    return found[0]


def list_inputs() -> list[str]:
    """A line for each input device: number, name, channels, rate. Raises `CaptureError` where there is none."""
    sd = _sounddevice()
    default = find_input(sd, None)["index"]
    return [
        f"{'*' if info['index'] == default else ' '} {info['index']:3}  {info['name']}"
        f"  ({info['max_input_channels']} channels, {info['default_samplerate']:.0f} Hz)"
        for info in sd.query_devices()
        if info["max_input_channels"] > 0
    ]


def play(samples: Int16, sample_rate: int) -> None:
    """Play int16 `[S]` to its end. Raises `CaptureError` where nothing can."""
    sd = _sounddevice()
    try:
        sd.play(samples, sample_rate, blocking=True)
    except sd.PortAudioError as error:
        raise CaptureError(
            f"nothing can be played here ({error}); connect a loudspeaker or leave --play out"
        ) from error


def _sounddevice() -> ModuleType:
    """The sounddevice package, loaded when a microphone is asked for and not before."""
    try:
        with _no_chatter():
            import sounddevice
    except ImportError as error:
        raise CaptureError("a microphone needs the package sounddevice; pip install 'kws[mic]'") from error
    except OSError as error:
        raise CaptureError(
            "the PortAudio library is missing; install it (Debian and Ubuntu: apt install libportaudio2; macOS: "
            "brew install portaudio), or play a file: --file x.wav"
        ) from error
    return sounddevice  # type: ignore[no-any-return]


@contextlib.contextmanager
def _no_chatter() -> Iterator[None]:
    """ALSA and JACK write about devices that are not there to standard error: keep that from the user."""
    sys.stderr.flush()
    with open(os.devnull, "w") as nowhere:
        kept = os.dup(2)
        try:
            os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _reason(error: Exception) -> str:
    return str(error.args[0] if error.args else error).splitlines()[0].strip(" .")
