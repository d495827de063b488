"""An ONNX file (ARCHITECTURE.md): loaded, checked, stepped. numpy and onnxruntime only."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

# onnxruntime 1.29 and later write a device id and a database into the home folder and report what they run, unless
# this is set before they are loaded. ORT_DISABLE_TELEMETRY=0 in the environment is left alone.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime

from kws.errors import KwsError, ModelError
from kws.runtime.contract import FORMAT, KINDS, OLDEST_FORMAT, SIZES, contradiction
from kws.runtime.detector import DetectorConfig
from kws.runtime.graph_bounds import check_graph
from kws.runtime.onnx_reader import read_onnx
from kws.runtime.operating_points import OperatingPoint
from kws.runtime.shipped import find_model
from kws.system.arrays import Float32, Int16

Samples = Float32 | Int16

MAX_SAMPLE = 10.0  # a float sample beyond this was never scaled to [-1, 1]


def open_session(model: str | bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session of an ONNX file, or of its content, set up for short steps in little memory."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False  # a step needs some kB: no memory is kept for more
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # we report errors ourselves
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def not_ours(path: Path, what: str) -> ModelError:
    """The error that `path` is not what its metadata say."""
    return ModelError(f"{path} is not a kws model of format {OLDEST_FORMAT} or {FORMAT}: {what}")


def load(path: Path, threads: int = 1) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    """The session and the metadata of any kws model, its features variant included. Raises `ModelError`.

    onnxruntime sees a file only when its metadata are sound and what its graph takes is bounded.
    """
    graph = read_onnx(path)
    if what := contradiction(graph.metadata):
        raise not_ours(path, what)
    try:
        check_graph(graph)
        return open_session(graph.content, threads), graph.metadata
    except Exception as error:  # onnxruntime's own classes share no base class
        reason = str(error) if isinstance(error, KwsError) else _reason(error)
        raise ModelError(f"{path} cannot be loaded as an ONNX model ({reason}); export it again") from error


class DescribedModel:
    """What a model file says of itself, whatever runs it.

    labels: str in the order of the logits. sample_rate: Hz. block_size, hop_length, frame_length, clip_length: samples.
    state_size: numbers. metadata: every value of the file. detector: the runtime's defaults. operating_points: what
    the file promises, by false alarms an hour; empty if it was not calibrated, or in format 1.
    """

    def __init__(self, path: Path, metadata: dict[str, Any], kind: str = KINDS[0]) -> None:
        """The model of `path`, whose metadata contradict nothing. Raises `ModelError` for a model of another kind."""
        self.path, self.metadata = path, metadata
        if (found := metadata.get("kind", KINDS[0])) != kind:
            use = {
                "phonemes": f"it finds typed words: kws spot --model {path} --words 'computer,smart mirror' FILE",
                "commands": "name an encoder, which kws train experiment=encoder makes",
            }
            raise ModelError(f"{path} hears {found}, not {kind}; {use[found]}")
        self.labels = tuple(str(label) for label in self.metadata["labels"])
        self.sample_rate, self.hop_length, self.frame_length, self.block_size, self.clip_length, self.state_size = (
            int(self.metadata[name]) for name in SIZES
        )
        self.block_frames = self.block_size // self.frame_length
        self.detector = DetectorConfig.from_dict(self.metadata["detector"])
        self.operating_points = [OperatingPoint.from_dict(point) for point in self.metadata.get("operating_points", [])]
        if self.operating_points:
            self.detector = self.detector_at(self.metadata["fa_per_hour"])

    @property
    def is_calibrated(self) -> bool:
        """Whether its thresholds were chosen on speech."""
        return bool(self.detector.thresholds)

    def detector_at(self, fa_per_hour: float | None) -> DetectorConfig:
        """The detector with an operating point's thresholds; None: the default. Raises `ModelError` if it has none."""
        if fa_per_hour is None:
            return self.detector
        for point in self.operating_points:
            if math.isclose(point.fa_per_hour, fa_per_hour):
                return self.detector.with_thresholds(point.thresholds)
        known = ", ".join(f"{point.fa_per_hour:g}" for point in self.operating_points)
        has = f"it has those for {known}" if known else "it has none (kws calibrate writes them)"
        raise ModelError(f"{self.path} has no operating point for {fa_per_hour:g} false alarms an hour: {has}")


class SpotterModel(DescribedModel):
    """One ONNX file (see ARCHITECTURE.md), loaded and checked. It holds no stream, so any number may share it."""

    def __init__(self, path: str | Path, threads: int = 1, kind: str = KINDS[0]) -> None:
        """Load a file, or a shipped model by its name.

        Raises `ModelError`, naming the file, if it is missing, no kws model, of another `kind`, or contradicts itself.
        """
        found = find_model(path)
        self.session, metadata = load(found, threads)
        super().__init__(found, metadata, kind)
        self._check_graph()

    def _check_graph(self) -> None:
        """The graph's inputs and outputs must have the types and shapes that the metadata promise."""
        values = {value.name: value for value in (*self.session.get_inputs(), *self.session.get_outputs())}
        promised = {
            "waveform": [self.block_size],
            "state": [self.state_size],
            "logits": [self.block_frames, len(self.labels)],
            "next_state": [self.state_size],
        }
        if "features" in values:
            raise ModelError(
                f"{self.path} takes features, not audio: it is for a device that makes them itself (docs/devices.md); "
                "export it with --variant waveform to run it here"
            )
        if set(values) != set(promised):
            raise not_ours(self.path, f"its inputs and outputs are {', '.join(values)}, not {', '.join(promised)}")
        batches = set()
        for name, shape in promised.items():
            value = values[name]
            known = [size for size in value.shape[1:] if isinstance(size, int)]
            if value.type != "tensor(float)" or len(value.shape) != 1 + len(shape) or known != shape:
                raise not_ours(
                    self.path, f"{name} is {value.type} {value.shape}, but its metadata promise float32 [B, {shape}]"
                )
            batches.add(value.shape[0] if isinstance(value.shape[0], int) else None)
        self.batch_size: int | None = batches.pop() if len(batches) == 1 else None  # None: any

    def step(self, waveform: Float32, state: Float32) -> tuple[Float32, Float32]:
        """One block of B streams: `[B, block_size]` in [-1, 1], `[B, state_size]` -> logits `[B, T, K]`, next state."""
        logits, next_state = self.session.run(["logits", "next_state"], {"waveform": waveform, "state": state})
        return logits, next_state

    def logits(self, waveform: Samples) -> Float32:
        """A whole stream `[S]`, float32 in [-1, 1] or int16, from the zero state -> logits `[T, K]`.

        Zeros fill its last block. The same numbers as `StreamingSpotter` works with, block by block.
        """
        stream = LogitStream(self)
        return np.concatenate([stream.feed(waveform), stream.flush()])


class Stepper:
    """The buffers of B streams, made once: their states go to and fro between two arrays.

    waveform: float32 `[B, block_size]`, to be filled before a step. logits: float32 `[B, T, K]` of the last step.
    state: float32 `[B, state_size]` after the last step; previous: before it.
    """

    def __init__(self, model: SpotterModel, streams: int) -> None:
        """Streams at time 0. Raises `ModelError` for a model of another fixed batch."""
        if model.batch_size not in (streams, None):
            raise ModelError(
                f"{model.path} steps {model.batch_size} streams at once, not {streams}; export it with "
                f"--batch-size {streams}, or with --batch-size 0 for any number"
            )
        self._session = model.session
        self.waveform: Float32 = np.zeros((streams, model.block_size), np.float32)
        self.logits: Float32 = np.zeros((streams, model.block_frames, len(model.labels)), np.float32)
        self.state, self.previous = (np.zeros((streams, model.state_size), np.float32) for _ in range(2))
        self._next, self._after_next = self._bind(self.state, self.previous), self._bind(self.previous, self.state)

    def _bind(self, state: Float32, next_state: Float32) -> Any:
        binding = self._session.io_binding()
        for name, array in {"waveform": self.waveform, "state": state}.items():
            binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        for name, array in {"logits": self.logits, "next_state": next_state}.items():
            binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        return binding

    def step(self) -> None:
        """One block of every stream: `waveform` -> `logits`, and the states move on."""
        self._session.run_with_iobinding(self._next)
        self._next, self._after_next = self._after_next, self._next
        self.state, self.previous = self.previous, self.state


class LogitStream:
    """The logits of one stream."""

    def __init__(self, model: SpotterModel) -> None:
        """A stream at time 0. Raises `ModelError` for a model of a fixed batch other than 1."""
        self._model, self._stepper = model, Stepper(model, 1)
        self.reset()

    def reset(self) -> None:
        """Begin a new stream at time 0."""
        self._stepper.state[:] = 0
        self._filled = 0  # samples of the next block that lie in the stepper

    def feed(self, samples: Samples) -> Float32:
        """The next samples `[n]`, float32 in [-1, 1] or int16 -> logits `[T, K]` of the blocks that they complete.

        Raises `ValueError` for anything else, NaN and infinity included; the stream is then as it was before.
        """
        samples = as_float(samples)
        block_size, frames = self._model.block_size, self._model.block_frames
        blocks = (self._filled + len(samples)) // block_size
        logits = np.empty((blocks * frames, len(self._model.labels)), np.float32)
        start = 0
        for block in range(blocks):
            end = start + block_size - self._filled
            self._stepper.waveform[0, self._filled :] = samples[start:end]
            self._stepper.step()
            logits[block * frames : (block + 1) * frames] = self._stepper.logits[0]
            self._filled, start = 0, end
        rest = len(samples) - start
        self._stepper.waveform[0, self._filled : self._filled + rest] = samples[start:]
        self._filled += rest
        return logits

    def flush(self) -> Float32:
        """End the stream: the logits of its last samples, zeros to the end of a block. Then `reset`."""
        logits = self.feed(np.zeros(-self._filled % self._model.block_size, np.float32))
        self.reset()
        return logits


def as_float(samples: Samples) -> Float32:
    """One channel `[n]`, float32 in [-1, 1] or int16 -> float32 `[n]`. Raises `ValueError` for anything else."""
    if not isinstance(samples, np.ndarray) or samples.dtype not in (np.float32, np.int16):
        given = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
        raise KwsError(f"samples are {given}; give a numpy array of float32 in [-1, 1] or of int16")
    if samples.ndim != 1:
        raise KwsError(f"samples have shape {list(samples.shape)}; give one channel, [n]")
    if samples.dtype == np.int16:
        return samples * np.float32(1 / 32768)
    if len(samples) and not (samples.min() >= -MAX_SAMPLE and samples.max() <= MAX_SAMPLE):  # false for NaN
        if np.isfinite(samples).all():
            raise KwsError(f"samples reach {np.abs(samples).max():g}; float samples must be scaled to [-1, 1]")
        raise KwsError("samples hold NaN or infinity; give finite numbers only")
    return samples.astype(np.float32, copy=False)


def _reason(error: Exception) -> str:
    """What onnxruntime says, without its code and the path."""
    return str(error).split(":")[-1].strip(" .") or type(error).__name__
