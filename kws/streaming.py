"""Streams of audio through a model: samples in, detections out. The C engine, or onnxruntime, its reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.c.choice import load_model
from kws.c.engine import CDetectionStream, CLogitStream, CModel
from kws.errors import ModelError
from kws.runtime.detector import Detection, Detector, DetectorConfig
from kws.runtime.onnx_model import LogitStream, Samples, SpotterModel
from kws.runtime.shipped import DEFAULT, find_model

__all__ = [
    "CModel",
    "Detection",
    "DetectorConfig",
    "ModelError",
    "SpotterModel",
    "StreamingSpotter",
    "default_model",
    "logit_stream",
]


def default_model() -> Path:
    """The model that is used where none is named. Raises `ModelError` where kws ships none."""
    return find_model(DEFAULT)


def logit_stream(model: SpotterModel | CModel) -> LogitStream | CLogitStream:
    """A stream of `model` without a detector: `feed`, `flush` and `reset`."""
    return CLogitStream(model) if isinstance(model, CModel) else LogitStream(model)


class _DetectionStream:
    """The detections of one stream on onnxruntime: the reference of `CDetectionStream`."""

    def __init__(self, model: SpotterModel, detector: Detector) -> None:
        self._logits, self._detector = LogitStream(model), detector

    def reset(self) -> None:
        self._logits.reset()
        self._detector.reset()

    @property
    def posteriors(self) -> NDArray[np.float64]:
        return self._detector.posteriors

    def feed(self, samples: Samples) -> list[Detection]:
        return self._detector.process(self._logits.feed(samples))

    def flush(self) -> list[Detection]:
        found = self._detector.process(self._logits.flush()) + self._detector.flush()
        self.reset()
        return found


class StreamingSpotter:
    """One stream of audio through a model: feed it samples as they come, get detections.

        spotter = StreamingSpotter("model.onnx")
        for detection in spotter.feed(samples): ...

    Results do not depend on how the samples are cut into calls. Streams that share a model share nothing else.
    """

    def __init__(
        self,
        model: SpotterModel | CModel | str | Path | None = None,
        *,
        fa_per_hour: float | None = None,
        thresholds: Mapping[str, float] | float | None = None,
        detector: DetectorConfig | None = None,
        engine: str | None = None,
    ) -> None:
        """A stream at time 0.

        Args:
            model: a loaded model, its file, or the name of one that comes with kws; None: `gsc12`.
            fa_per_hour: the model's operating point for so many false alarms an hour; None: its default.
            thresholds: for single keywords, or one for all of them; the model's own hold for the rest.
            detector: replaces the model's detector configuration.
            engine: what computes a model given by its file: `onnxruntime`, the reference, or `c`, whose logits differ
                by less than 1e-4, compiled once where it is not there; None: `c` where it is there and has the model.

        Raises:
            ModelError: if the file is not a model to be used here, or has no such operating point.
            KwsError: for another engine, or where the C engine cannot be made.
            ValueError: for a threshold that no score reaches or of an unknown keyword.
        """
        self.model = load_model(model, engine)
        config = (detector or self.model.detector_at(fa_per_hour)).with_thresholds(thresholds)
        self._detector = Detector(
            self.model.labels, self.model.frame_length, self.model.sample_rate, config, self.model.block_size
        )
        self._stream: CDetectionStream | _DetectionStream
        if isinstance(self.model, CModel):
            self._stream = CDetectionStream(self.model, self._detector)
        else:
            self._stream = _DetectionStream(self.model, self._detector)

    def create_stream(self) -> StreamingSpotter:
        """Another stream at time 0, with the same model and detector configuration."""
        return StreamingSpotter(self.model, detector=self._detector.config)

    def reset(self) -> None:
        """Begin a new stream at time 0."""
        self._stream.reset()

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's labels, in the order of `posteriors`."""
        return self.model.labels

    @property
    def thresholds(self) -> dict[str, float]:
        """The threshold of each keyword."""
        return {name: float(self._detector.thresholds[k]) for name, k in self._detector.keywords.items()}

    @property
    def posteriors(self) -> NDArray[np.float64]:
        """float64 `[K]`: what the last smoothing window gives each label, as of the last whole block."""
        return self._stream.posteriors

    @property
    def scores(self) -> NDArray[np.float64]:
        """What each keyword scores in the last window, float64 `[K]`, on the scale of the thresholds."""
        return self._detector.scores_of(self._stream.posteriors)

    def feed(self, samples: Samples) -> list[Detection]:
        """The next samples of the stream, any number -> the detections they bring.

        `samples`: `[n]` at the model's sample rate, float32 in [-1, 1] or int16. Raises `ValueError` for anything else,
        NaN and infinity included; the stream is then as it was before.
        """
        return self._stream.feed(samples)

    def flush(self) -> list[Detection]:
        """End the stream: its last samples, zeros to the end of a block, and what was held back. Then `reset`."""
        return self._stream.flush()
