"""An ONNX file of format 1 (ARCHITECTURE.md): loaded, checked, stepped. numpy and onnxruntime only."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

# onnxruntime 1.29 and later write a device id and a database into the home folder and report what they run, unless
# this is set before they are loaded. ORT_DISABLE_TELEMETRY=0 in the environment is left alone.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from kws.detector import Detector, DetectorConfig

Floats = NDArray[np.float32]
Samples = NDArray[np.float32] | NDArray[np.int16]

FORMAT = 1
SIZES = ("sample_rate", "hop_length", "frame_length", "block_size", "clip_length", "state_size")
MAX_SAMPLE = 10.0  # a float sample beyond this was never scaled to [-1, 1]


class ModelError(ValueError):
    """A file that is not a keyword spotter that this version can run."""


def open_session(model: str | bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session of an ONNX file, or of its content, set up for short steps in little memory."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False  # a step needs some kB: no memory is kept for more
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # we report errors ourselves
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class SpotterModel:
    """One ONNX file (format 1 in ARCHITECTURE.md), loaded and checked. It holds no stream, so any number may share it.

    labels: str in the order of the logits. sample_rate: Hz. block_size, hop_length, frame_length, clip_length: samples.
    state_size: numbers. metadata: every value of the file. detector: the runtime's defaults.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        """Load `path`. Raises `ModelError`, naming the file, if it is missing, no kws model, or contradicts itself."""
        self.path = Path(path)
        if not self.path.is_file():
            raise ModelError(f"{path} is not a file; give an ONNX model made by python -m kws.export")
        try:
            self.session = open_session(str(path), threads)
        except Exception as error:  # onnxruntime's own classes share no base class
            raise ModelError(f"{path} cannot be loaded as an ONNX model ({_reason(error)}); export it again") from error
        self.metadata = self._read_metadata()
        self.labels = tuple(str(label) for label in self.metadata["labels"])
        self.sample_rate, self.hop_length, self.frame_length, self.block_size, self.clip_length, self.state_size = (
            int(self.metadata[name]) for name in SIZES
        )
        self.block_frames = self.block_size // self.frame_length
        self._check_graph()
        try:
            self.detector = DetectorConfig.from_dict(self.metadata["detector"])
            Detector(self.labels, self.frame_length, self.sample_rate, self.detector)
        except ValueError as error:
            raise self._error(str(error)) from error

    def _error(self, what: str) -> ModelError:
        return ModelError(f"{self.path} is not a kws model of format {FORMAT}: {what}")

    def _read_metadata(self) -> dict[str, Any]:
        texts = self.session.get_modelmeta().custom_metadata_map
        if "kws_format" not in texts:
            raise self._error("its metadata has no kws_format; export it with python -m kws.export")
        metadata: dict[str, Any] = {}
        for key, text in texts.items():
            try:
                metadata[key] = json.loads(text)
            except json.JSONDecodeError:
                metadata[key] = text  # not ours
        if metadata["kws_format"] != FORMAT:
            raise self._error(f"its format is {metadata['kws_format']}; use the version of kws that it was made with")
        if missing := [key for key in ("labels", *SIZES, "detector") if key not in metadata]:
            raise self._error(f"its metadata has no {', '.join(missing)}")
        labels = metadata["labels"]
        if (
            not isinstance(labels, list)
            or not all(isinstance(x, str) for x in labels)
            or len(set(labels)) < len(labels)
        ):
            raise self._error(f"labels is {labels!r}, not a list of different names")
        if not any(not label.startswith("_") for label in labels) or len(labels) < 2:
            raise self._error(f"labels is {labels!r}, which needs a keyword and something else")
        for key in SIZES:
            if type(metadata[key]) is not int or metadata[key] < 1:
                raise self._error(f"{key} is {metadata[key]!r}, not a whole number above 0")
        if metadata["block_size"] % metadata["frame_length"]:
            raise self._error(
                f"block_size {metadata['block_size']} is no multiple of {metadata['frame_length']} samples"
            )
        if not isinstance(metadata["detector"], dict):
            raise self._error(f"detector is {metadata['detector']!r}, not a table")
        return metadata

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
                "export it with variant=waveform to run it here"
            )
        if set(values) != set(promised):
            raise self._error(f"its inputs and outputs are {', '.join(values)}, not {', '.join(promised)}")
        batches = set()
        for name, shape in promised.items():
            value = values[name]
            known = [size for size in value.shape[1:] if isinstance(size, int)]
            if value.type != "tensor(float)" or len(value.shape) != 1 + len(shape) or known != shape:
                raise self._error(
                    f"{name} is {value.type} {value.shape}, but its metadata promise float32 [B, {shape}]"
                )
            batches.add(value.shape[0] if isinstance(value.shape[0], int) else None)
        self.batch_size: int | None = batches.pop() if len(batches) == 1 else None  # None: any

    def step(self, waveform: Floats, state: Floats) -> tuple[Floats, Floats]:
        """One block of B streams: `[B, block_size]` in [-1, 1], `[B, state_size]` -> logits `[B, T, K]`, next state."""
        logits, next_state = self.session.run(["logits", "next_state"], {"waveform": waveform, "state": state})
        return logits, next_state

    def logits(self, waveform: Samples) -> Floats:
        """A whole stream `[S]`, float32 in [-1, 1] or int16, from the zero state -> logits `[T, K]`.

        Zeros fill its last block. The same numbers as `StreamingSpotter` works with, block by block.
        """
        stream = LogitStream(self)
        return np.concatenate([stream.feed(waveform), stream.flush()])


class LogitStream:
    """The logits of one stream. Its buffers are made once: the state goes to and fro between two of them."""

    def __init__(self, model: SpotterModel) -> None:
        """A stream at time 0. Raises `ModelError` for a model of a fixed batch other than 1."""
        if model.batch_size not in (1, None):
            raise ModelError(
                f"{model.path} steps {model.batch_size} streams at once; export it with one to use it here"
            )
        self._model = model
        self._waveform: Floats = np.zeros((1, model.block_size), np.float32)
        self._logits: Floats = np.zeros((1, model.block_frames, len(model.labels)), np.float32)
        self._states: list[Floats] = [np.zeros((1, model.state_size), np.float32) for _ in range(2)]
        self._bindings = [self._bind(*self._states), self._bind(*self._states[::-1])]
        self.reset()

    def _bind(self, state: Floats, next_state: Floats) -> Any:
        binding = self._model.session.io_binding()
        for name, array in {"waveform": self._waveform, "state": state}.items():
            binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        for name, array in {"logits": self._logits, "next_state": next_state}.items():
            binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        return binding

    def reset(self) -> None:
        """Begin a new stream at time 0."""
        self._states[0][:] = 0
        self._rest: Floats = np.zeros(0, np.float32)  # samples that do not fill a block yet

    def feed(self, samples: Samples) -> Floats:
        """The next samples `[n]`, float32 in [-1, 1] or int16 -> logits `[T, K]` of the blocks that they complete.

        Raises `ValueError` for anything else, NaN and infinity included; the stream is then as it was before.
        """
        waveform = np.concatenate([self._rest, as_float(samples)])
        whole = len(waveform) - len(waveform) % self._model.block_size
        self._rest = waveform[whole:].copy()
        blocks = waveform[:whole].reshape(-1, self._model.block_size)
        logits = np.empty((len(blocks), *self._logits.shape[1:]), np.float32)
        for block, out in zip(blocks, logits, strict=True):
            self._waveform[0] = block
            self._model.session.run_with_iobinding(self._bindings[0])
            self._bindings.reverse()
            self._states.reverse()
            out[:] = self._logits[0]
        return logits.reshape(-1, len(self._model.labels))

    def flush(self) -> Floats:
        """End the stream: the logits of its last samples, zeros to the end of a block. Then `reset`."""
        logits = self.feed(np.zeros(-len(self._rest) % self._model.block_size, np.float32))
        self.reset()
        return logits


def as_float(samples: Samples) -> Floats:
    """One channel `[n]`, float32 in [-1, 1] or int16 -> float32 `[n]`. Raises `ValueError` for anything else."""
    if not isinstance(samples, np.ndarray) or samples.dtype not in (np.float32, np.int16):
        given = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
        raise ValueError(f"samples are {given}; give a numpy array of float32 in [-1, 1] or of int16")
    if samples.ndim != 1:
        raise ValueError(f"samples have shape {list(samples.shape)}; give one channel, [n]")
    if samples.dtype == np.int16:
        return samples * np.float32(1 / 32768)
    if len(samples) and not (samples.min() >= -MAX_SAMPLE and samples.max() <= MAX_SAMPLE):  # false for NaN
        if np.isfinite(samples).all():
            raise ValueError(f"samples reach {np.abs(samples).max():g}; float samples must be scaled to [-1, 1]")
        raise ValueError("samples hold NaN or infinity; give finite numbers only")
    return samples.astype(np.float32, copy=False)


def _reason(error: Exception) -> str:
    """What onnxruntime says, without its code and the path."""
    return str(error).split(":")[-1].strip(" .") or type(error).__name__
