"""A stream of audio -> detections that can be ranked: each with the highest score that its utterance reached."""

from __future__ import annotations

import numpy as np

from kws.runtime.detector import Detection, Detector, DetectorConfig
from kws.runtime.onnx_model import Samples
from kws.runtime.scores import Score
from kws.streaming import CModel, SpotterModel, logit_stream
from kws.system.arrays import Float32


class RankingSpotter:
    """The detections of `StreamingSpotter`, a window later and with another score: one to sort by.

    `Detection.score` is what the score was when the threshold was reached, so nearly the threshold. Here it is the
    highest from there to the end of one smoothing window, through which the whole word passes.
    """

    def __init__(self, model: SpotterModel | CModel, config: DetectorConfig) -> None:
        """A stream at time 0."""
        self._logits = logit_stream(model)
        self._detector = Detector(model.labels, model.frame_length, model.sample_rate, config, model.block_size)
        self._score = Score(config.score, model.labels)
        self._block_frames = model.block_frames
        self._kept = self._detector.hold + self._detector.window + 2 * self._block_frames  # frames of levels
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self._logits.reset()
        self._detector.reset()
        self._levels = np.zeros((0, len(self._detector.labels)))  # of the last frames
        self._position = 0  # frames seen
        self._waiting: list[tuple[int, Detection]] = []  # first frame of the window, detection

    def feed(self, samples: Samples) -> list[Detection]:
        """The next samples `[n]` -> the detections whose window they complete. Raises `ValueError` as `LogitStream`."""
        return self._follow(self._logits.feed(samples))

    def flush(self) -> list[Detection]:
        """End the stream, as `StreamingSpotter.flush`."""
        found = self._follow(self._logits.flush())
        self._wait_for(self._detector.flush())
        found += self._ranked(1 << 62)
        self.reset()
        return found

    def _follow(self, logits: Float32) -> list[Detection]:
        found: list[Detection] = []
        for frames in self._detector.smoother.push(logits):
            self._levels = np.concatenate([self._levels[-self._kept :], self._score.levels(frames.sums)])
            self._position += len(frames.sums)
            self._wait_for(self._detector.follow(frames))
            found += self._ranked(self._position)
        return found

    def _wait_for(self, detections: list[Detection]) -> None:
        detector = self._detector
        for found in detections:
            decided = round(found.time * detector.sample_rate / detector.frame_length)
            self._waiting.append((max(decided - self._block_frames, 0), found))

    def _ranked(self, position: int) -> list[Detection]:
        """The detections whose windows end by the frame `position`."""
        ready = [item for item in self._waiting if item[0] + self._detector.window <= position]
        self._waiting = [item for item in self._waiting if item[0] + self._detector.window > position]
        first = self._position - len(self._levels)
        found = []
        for frame, detection in ready:
            k = self._detector.keywords[detection.keyword]
            levels = self._levels[frame - first : frame - first + self._detector.window, k]
            score = max(detection.score, self._score.of_level(float(levels.max(initial=0))))
            found.append(detection._replace(score=score))
        return found
