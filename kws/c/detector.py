"""The C engine's detector behind Python: what `kws.runtime.detector.Detector` does, on its options. numpy only."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError
from kws.runtime.detector import Detection, Detector
from kws.runtime.posteriors import POOLINGS
from kws.runtime.scores import SCORES
from kws.system.arrays import Float32

DETECTION = np.dtype([("label", "u4"), ("score", "f4"), ("start", "u8"), ("end", "u8"), ("time", "u8")])


class Options(ctypes.Structure):
    """`kws_detector_options` of kws_detector.h."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("n_labels", "frame_length", "block_frames", "pooling", "score")),
        *((name, ctypes.c_uint32) for name in ("window", "min_frames", "refractory", "hold")),
        ("release", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("thresholds", "bias", "is_keyword", "longer")),
        ("n_longer", ctypes.c_uint32),
    )


def tables(detector: Detector) -> dict[str, NDArray[np.generic]]:
    """The arrays of `kws_detector_options`, by name; a label that is no keyword has a threshold of 0, unused."""
    keywords = detector.keywords
    pairs = {(keywords[name], keywords[longer]) for name, others in detector.longer.items() for longer in others}
    return {
        "thresholds": np.where(np.isfinite(detector.thresholds), detector.thresholds, 0).astype(np.float32),
        "bias": np.array(detector.bias, np.float32),
        "is_keyword": np.array([name in keywords for name in detector.labels], np.uint8),
        "longer": np.array(sorted(pairs), np.uint32).reshape(-1, 2),
    }


def numbers(detector: Detector) -> dict[str, int | float]:
    """The numbers of `kws_detector_options`, in its order."""
    return {
        "n_labels": len(detector.labels),
        "frame_length": detector.frame_length,
        "block_frames": detector.block_size // detector.frame_length,
        "pooling": POOLINGS.index(detector.config.pooling),
        "score": SCORES.index(detector.config.score),
        "window": detector.window,
        "min_frames": detector.min_frames,
        "refractory": detector.refractory,
        "hold": detector.hold,
        "release": detector.config.release,
    }


def most_held(detector: Detector) -> int:
    """Most detections that wait at once for a longer keyword."""
    parts = sum(bool(longer) for longer in detector.longer.values())
    return parts * (detector.hold // (detector.refractory + detector.min_frames - 1) + 1)


def memory_size(detector: Detector) -> int:
    """Bytes of memory of one detector, as `kws_detector_memory_size`: what is held, tracks, evidence and its sums."""
    return 40 * most_held(detector) + (20 + 4 * (detector.window + 1)) * len(detector.labels)


class CDetector:
    """The detections of one stream of logits, by the options of a `Detector`, which is only read."""

    def __init__(self, detector: Detector, library: ctypes.CDLL) -> None:
        """A detector at time 0."""
        self._library, self._labels, self._rate = library, detector.labels, detector.sample_rate
        self._tables = tables(detector)  # the options point into it
        pointers = {name: table.ctypes.data for name, table in self._tables.items()}
        self._options = Options(**numbers(detector), **pointers, n_longer=len(self._tables["longer"]))
        self.options_pointer = ctypes.addressof(self._options)
        size = library.kws_host_detector_memory_bytes(self.options_pointer)
        self._memory = np.zeros(-(-size // 8), np.uint64)
        self._detector = np.zeros(-(-library.kws_host_detector_bytes() // 8), np.uint64)
        self.pointer = self._detector.ctypes.data
        error = library.kws_host_detector_init(
            self.pointer, self.options_pointer, self._memory.ctypes.data, self._memory.nbytes
        )
        if error:
            raise KwsError(f"the C engine does not take the detector's options: error {error}")
        self._n_keywords, self._most_held = len(detector.keywords), most_held(detector)
        self._refractory = detector.refractory
        self.found, self._address, self._frames = np.zeros(0, DETECTION), 0, -1

    def room_for(self, frames: int) -> int:
        """Where as many detections as so many frames may bring can be written: an address."""
        if frames > self._frames:
            self.found = np.zeros(self._n_keywords * (frames // self._refractory + 1) + self._most_held, DETECTION)
            self._address, self._frames = self.found.ctypes.data, frames
        return self._address

    def reset(self) -> None:
        """Begin a new stream at time 0."""
        self._library.kws_host_detector_reset(self.pointer)

    @property
    def posteriors(self) -> NDArray[np.float64]:
        """float64 `[K]`: what the last smoothing window gives each label."""
        posteriors = np.zeros(len(self._labels), np.float32)
        self._library.kws_host_posteriors(self.pointer, posteriors.ctypes.data)
        return posteriors.astype(np.float64)

    def process(self, logits: Float32) -> list[Detection]:
        """The next frames' logits float32 `[T, K]` -> the detections they bring. Raises `ValueError` for NaN."""
        rows, to = np.ascontiguousarray(logits, np.float32), self.room_for(len(logits))
        return self.detections(self._library.kws_host_detect(self.pointer, rows.ctypes.data, len(rows), to))

    def flush(self) -> list[Detection]:
        """End the stream: the detections that still waited for a longer keyword. Then `reset`."""
        return self.detections(self._library.kws_host_end(None, self.pointer, self.room_for(0)))

    def detections(self, count: int) -> list[Detection]:
        """The first `count` of what was written. Raises `KwsError` for an error in place of a count."""
        if count == 0:
            return []
        if count < 0:
            raise KwsError("logits hold NaN or infinity; the model's output cannot be used")
        rate = self._rate
        return [
            Detection(self._labels[label], score, start / rate, end / rate, time / rate)
            for label, score, start, end, time in self.found[:count].tolist()
        ]
