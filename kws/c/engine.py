"""The C engine behind Python: a model's block of weights, and streams of logits from it. numpy only."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.c.block import make_block
from kws.c.build import EngineError, library
from kws.c.detector import CDetector
from kws.c.weights import read_weights
from kws.errors import ModelError
from kws.runtime.detector import Detection, Detector
from kws.runtime.onnx_model import DescribedModel, Samples, as_float
from kws.runtime.shipped import find_model
from kws.system.arrays import Float32

__all__ = ["CDetectionStream", "CDetectionStreams", "CLogitStream", "CModel", "EngineError"]

ERRORS = {
    -1: "a null pointer",
    -2: "unaligned memory",
    -3: "not a block of weights",
    -4: "a block of another version",
    -5: "sizes that do not fit",
    -6: "a damaged block",
    -7: "a value out of bounds",
    -8: "too little memory",
    (WRONG_SAMPLE := -9): "a sample that is NaN or was not scaled to [-1, 1]",
}
FLOAT32, INT16 = np.dtype(np.float32), np.dtype(np.int16)


class CModel(DescribedModel):
    """A model file's weights in the C engine. It holds no stream, so any number may share it.

    memory_size: bytes of one stream.
    """

    def __init__(self, path: str | Path, precision: str = "", variant: str = "") -> None:
        """Load an exported `waveform` model of any precision, by its file or, for one that comes with kws, its name.

        precision: of the layers, `float32` or `int8`; empty: the file's. variant: as `library`'s.

        Raises:
            ModelError: if the file is missing or not a model that the engine has.
            EngineError: if the engine cannot be had on this machine.
        """
        found = find_model(path)
        weights = read_weights(found)
        super().__init__(found, weights.metadata)
        try:
            block = make_block(weights, precision)
        except ValueError as error:
            raise ModelError(f"{found} cannot be run by the C engine: {error}") from error
        self.library = library(variant)
        self._block = np.frombuffer(block, np.uint32)
        self._model = np.zeros(self.library.kws_host_model_bytes() // 8 + 1, np.uint64)
        self.pointer = self._model.ctypes.data
        check(self.library.kws_host_model_init(self.pointer, self._block.ctypes.data, self._block.nbytes), self.path)
        self.memory_size = int(self.library.kws_host_memory_bytes(self.pointer))

    def logits(self, waveform: Samples) -> Float32:
        """A whole stream `[S]`, float32 in [-1, 1] or int16, from time 0 -> logits `[T, K]`; zeros fill its block."""
        stream = CLogitStream(self)
        return np.concatenate([stream.feed(waveform), stream.flush()])


class CLogitStream:
    """The logits of one stream: as `kws.runtime.onnx_model.LogitStream`, but each frame as soon as it is known."""

    def __init__(self, model: CModel) -> None:
        """A stream at time 0."""
        self._model, self._library = model, model.library
        self._stream = np.zeros(model.library.kws_host_stream_bytes() // 8 + 1, np.uint64)
        self._memory = np.zeros(model.memory_size // 4, np.float32)
        self.pointer = self._stream.ctypes.data
        check(
            self._library.kws_host_init(self.pointer, model.pointer, self._memory.ctypes.data, self._memory.nbytes),
            model.path,
        )
        self._feed, self._frame = self._library.kws_host_feed, model.frame_length
        self._n_labels = len(model.labels)

    def reset(self) -> None:
        """Begin a new stream at time 0."""
        check(self._library.kws_host_reset(self.pointer), self._model.path)

    def feed(self, samples: Samples) -> Float32:
        """The next samples `[n]`, float32 in [-1, 1] or int16 -> logits `[T, K]` of the frames that they complete.

        Raises `ValueError` for anything else, NaN and infinity included; the stream is then as it was before.
        """
        samples = checked(samples)
        logits = np.empty((len(samples) // self._frame + 1, self._n_labels), np.float32)
        is_float = samples.dtype == FLOAT32
        frames = self._feed(self.pointer, samples.ctypes.data, is_float, len(samples), logits.ctypes.data)
        return logits[: check(frames, self._model.path, samples)]

    def flush(self) -> Float32:
        """End the stream: the logits of its last samples, zeros to the end of a block. Then `reset`."""
        logits = np.empty((self._model.block_size // self._frame + 1, self._n_labels), np.float32)
        frames = self._library.kws_host_flush(self.pointer, logits.ctypes.data)
        return logits[: check(frames, self._model.path)]


class CDetectionStream:
    """The detections of one stream: `CLogitStream` and `CDetector` in one call."""

    def __init__(self, model: CModel, detector: Detector) -> None:
        """A stream at time 0; of `detector` the options are read."""
        self.logits, self.detector = CLogitStream(model), CDetector(detector, model.library)
        self._stream, self._detector = self.logits.pointer, self.detector.pointer
        self._library, self._spot = model.library, model.library.kws_host_spot
        self._frame, self._block_frames, self._path = model.frame_length, model.block_frames, model.path

    def reset(self) -> None:
        """Begin a new stream at time 0."""
        self.logits.reset()
        self.detector.reset()

    @property
    def posteriors(self) -> NDArray[np.float64]:
        """float64 `[K]`: what the last smoothing window gives each label, as of the last whole frame."""
        return self.detector.posteriors

    def feed(self, samples: Samples) -> list[Detection]:
        """The next samples `[n]`, as `CLogitStream.feed` -> the detections they bring."""
        samples = checked(samples)
        n = len(samples)
        to, is_float = self.detector.room_for(n // self._frame + 1), samples.dtype == FLOAT32
        count = self._spot(self._stream, self._detector, samples.ctypes.data, is_float, n, to)
        return self.detector.detections(check(count, self._path, samples)) if count else []

    def flush(self) -> list[Detection]:
        """End the stream: its last samples, zeros to the end of a block, and what was held back. Then `reset`."""
        to = self.detector.room_for(self._block_frames)
        return self.detector.detections(check(self._library.kws_host_end(self._stream, self._detector, to), self._path))


JOB = np.dtype([*((name, np.uintp) for name in ("stream", "detector", "samples", "n", "found")), ("count", np.int64)])


class CDetectionStreams:
    """Many streams of a model, each a `CDetectionStream`, moved on by threads in one call each."""

    def __init__(self, model: CModel, detector: Detector, n_streams: int, threads: int) -> None:
        """Streams at time 0."""
        self.streams = [CDetectionStream(model, detector) for _ in range(n_streams)]
        self._model, self._spot = model, model.library.kws_host_spot_many
        self._jobs = np.zeros(n_streams, JOB)
        self._jobs["stream"] = [stream.logits.pointer for stream in self.streams]
        self._jobs["detector"] = [stream.detector.pointer for stream in self.streams]
        edges = np.linspace(0, n_streams, min(threads, n_streams) + 1).astype(int).tolist()
        self._parts = [self._jobs[first:end] for first, end in itertools.pairwise(edges)]
        self._pool = ThreadPoolExecutor(len(self._parts)) if len(self._parts) > 1 else None
        self._frames = -1

    def feed(self, samples: Sequence[Samples]) -> list[list[Detection]]:
        """The next samples of every stream, all of one dtype, checked -> each one's detections."""
        arrays, jobs = [np.ascontiguousarray(array) for array in samples], self._jobs
        lengths = [len(array) for array in arrays]
        jobs["n"], jobs["samples"] = lengths, [array.ctypes.data for array in arrays]
        if (frames := max(lengths) // self._model.frame_length + 1) > self._frames:
            jobs["found"] = [stream.detector.room_for(frames) for stream in self.streams]
            self._frames = frames
        is_float = samples[0].dtype == np.float32
        if self._pool is None:
            self._run(jobs, is_float)
        else:
            list(self._pool.map(self._run, self._parts, itertools.repeat(is_float)))
        found: list[list[Detection]] = [[] for _ in samples]
        for i in np.flatnonzero(jobs["count"]).tolist():
            found[i] = self.streams[i].detector.detections(check(jobs["count"][i], self._model.path))
        return found

    def reset(self, stream: int) -> None:
        """Begin one stream anew at time 0."""
        self.streams[stream].reset()

    def flush(self, stream: int) -> list[Detection]:
        """End one stream."""
        return self.streams[stream].flush()

    def _run(self, jobs: NDArray[np.void], is_float: bool) -> None:
        self._spot(jobs.ctypes.data, len(jobs), is_float)


def checked(samples: Samples) -> Samples:
    """One channel `[n]` in one piece of memory, float32 or int16, whose values the engine looks at itself.

    Raises `ValueError` for anything else.
    """
    if not (isinstance(samples, np.ndarray) and samples.dtype in (FLOAT32, INT16) and samples.ndim == 1):
        samples = as_float(samples)
    return samples if samples.flags.c_contiguous else samples.copy()


def check(result: int | ctypes.c_int64, path: Path, samples: Samples | None = None) -> int:
    """A result of the library that is no error, or `ModelError`; of samples it refuses, the error of `as_float`."""
    value = int(result)  # type: ignore[arg-type]
    if value == WRONG_SAMPLE and samples is not None:
        as_float(samples)
    if value < 0:
        raise ModelError(f"{path}: the C engine was given {ERRORS.get(value, f'error {value}')}")
    return value
