"""A model over a recording set: its logits once, then detections and their outcome for any detector settings."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.audio.files import blocks
from kws.config import is_keyword, keywords_of, whole_frames
from kws.evaluation.metrics import match_events
from kws.recordings.labels import Recording
from kws.recordings.speech import pause, says
from kws.runtime.detector import Detection, Detector, DetectorConfig
from kws.runtime.onnx_model import LogitStream, SpotterModel
from kws.runtime.posteriors import Smoother
from kws.system.arrays import Int64
from kws.system.jobs import cores
from kws.system.progress import Stage


@dataclass
class Outcome:
    """What became of events and detections under one setting, by keyword `[K]` of `ScoredRecordings`.

    The first detection of the event's keyword, from its onset until the tolerance after its end, is a hit. Others in
    that time are wrong (another keyword, or a second time); those in the rest, the negative time, are false alarms: but
    a keyword that the text of other speech holds was said, though nobody knows just when, and is neither. Where false
    alarms are counted in running speech, those of other recordings are `beside` it.
    """

    hits: Int64
    false_alarms: Int64
    wrong: Int64
    delays: list[list[float]] = field(default_factory=list)  # by keyword: from a hit word's end to its detection, s
    verdicts: list[tuple[Recording, Detection, str]] = field(
        default_factory=list
    )  # hit | wrong | said | beside | false alarm


class ScoredRecordings:
    """The logits of a model over every recording; thread by thread, each recording from the zero state."""

    def __init__(
        self,
        model: SpotterModel,
        recordings: Sequence[Recording],
        tolerance: float,
        workers: int = 0,
        progress: bool = True,
        speech: Sequence[Recording] = (),
    ) -> None:
        """`model` over `recordings` and `speech` in `workers` threads (0: one per core); `tolerance` in seconds.

        Where there is `speech`, false alarms are counted in it alone.
        """
        self.model, self.files, self.tolerance = model, [*recordings, *speech], tolerance
        self._negative = list(speech or recordings)
        self.keywords = keywords_of(model.labels)
        self.events = np.array(
            [sum(e.keyword == k for f in self.files for e in f.keywords) for k in self.keywords], np.int64
        )
        self.seconds = sum(file.seconds for file in self.files)
        self.negative_seconds = sum(file.seconds - self._covered(file) for file in self._negative)
        self._workers = workers or cores()
        self._progress = progress

    @cached_property
    def logits(self) -> list[NDArray[np.float32]]:
        """Of each file `[T, K]`, made when they are first asked for. Raises `AudioError`."""
        return self._map(self._logits_of, self.files, "listening" if self._progress else "")

    @property
    def negative_hours(self) -> float:
        """Hours that are no keyword's time."""
        return self.negative_seconds / 3600

    def _map(self, task: Any, items: Sequence[Any], title: str = "") -> list[Any]:
        results = []
        with Stage(title, len(items), "file", show=bool(title)) as stage, ThreadPoolExecutor(self._workers) as pool:
            for result in pool.map(task, items):
                results.append(result)
                stage.advance()
        return results

    def _logits_of(self, file: Recording) -> NDArray[np.float32]:
        stream, rate = LogitStream(self.model), self.model.sample_rate
        logits = []
        for part in file.parts:
            logits += [stream.feed(block) for block in blocks(part.path, rate)]
            if len(file.parts) > 1:
                logits.append(stream.feed(pause(rate)))
        return np.concatenate([*logits, stream.flush()])

    def _covered(self, file: Recording) -> float:
        """Seconds of a file that are within the time of a keyword."""
        covered, end = 0.0, 0.0
        for event in file.keywords:
            until = min(event.offset + self.tolerance, file.seconds)
            covered += max(0.0, until - max(event.onset, end))
            end = max(end, until)
        return covered

    def posteriors(self, window_ms: float, pooling: str) -> list[NDArray[np.float64]]:
        """What the window that ends with each frame gives each label, file by file, float64 `[T, K]`."""
        window = whole_frames(window_ms, self.model.sample_rate, self.model.frame_length)
        return [
            np.concatenate([part.posteriors for part in Smoother(len(self.model.labels), window, pooling).push(logits)])
            for logits in self.logits
        ]

    def outcomes(self, configs: Sequence[DetectorConfig]) -> list[Outcome]:
        """The outcome under each setting. All must smooth alike: they share the smoothed posteriors."""
        n = len(self.keywords)
        results = [
            Outcome(np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64), [[] for _ in range(n)])
            for _ in configs
        ]
        detections = self._map(lambda logits: self._detect(logits, configs), self.logits)
        for file, by_config in zip(self.files, detections, strict=True):
            for result, found in zip(results, by_config, strict=True):
                self._judge(file, found, result)
        return results

    def _detect(self, logits: NDArray[np.float32], configs: Sequence[DetectorConfig]) -> list[list[Detection]]:
        model = self.model
        detectors = [
            Detector(model.labels, model.frame_length, model.sample_rate, config, model.block_size)
            for config in configs
        ]
        found: list[list[Detection]] = [[] for _ in configs]
        for frames in detectors[0].smoother.push(logits):
            for detector, mine in zip(detectors, found, strict=True):
                mine += detector.follow(frames)
        for detector, mine in zip(detectors, found, strict=True):
            mine += detector.flush()
        return found

    def _judge(self, file: Recording, found: Sequence[Detection], result: Outcome) -> None:
        events = file.keywords
        starts = np.array([event.onset for event in events])
        matches = match_events([(d.keyword, d.time) for d in found], events, self.tolerance)
        for detection, match in zip(found, matches, strict=True):
            k = self.keywords.index(detection.keyword)
            if match is not None:
                result.hits[k] += 1
                result.delays[k].append(detection.time - events[match].offset)
                verdict = "hit"
            else:
                before = int(np.searchsorted(starts, detection.time, side="right")) - 1
                inside = before >= 0 and detection.time <= events[before].offset + self.tolerance
                if inside:
                    verdict = "wrong"
                    result.wrong[k] += 1
                elif self._was_said(file, detection):
                    verdict = "said"
                elif file not in self._negative:
                    verdict = "beside"
                else:
                    verdict = "false alarm"
                    result.false_alarms[k] += 1
            result.verdicts.append((file, detection, verdict))

    def _was_said(self, file: Recording, detection: Detection) -> bool:
        """Whether the text of speech that is heard then, or ended within the tolerance, holds the keyword."""
        return any(
            event.onset <= detection.time <= event.offset + self.tolerance and says(event.text, detection.keyword)
            for event in file.events
            if not is_keyword(event.keyword)
        )
