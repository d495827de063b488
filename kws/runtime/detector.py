"""Scores of a stream -> detections: thresholds, one detection per utterance, phrases. numpy only, no clock.

Every number that decides is computed in an order fixed by the frame's number in the stream, so detections and scores
are the same, bit for bit, however the frames are cut into calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kws.config import UNKNOWN, is_keyword, whole_frames
from kws.errors import KwsError
from kws.runtime.posteriors import MAX_LOGIT, POOLINGS, Smoothed, Smoother, pool_posteriors
from kws.runtime.scores import BOUNDS, SCORES, Score
from kws.system.arrays import Bool, Float64, Int64

__all__ = ["Detection", "Detector", "DetectorConfig", "longer_keywords", "pool_posteriors"]


LONGEST_MS = 60_000  # of what a detector remembers or waits


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True)
class DetectorConfig:
    """How scores become detections. Durations in milliseconds are rounded up to whole frames.

    What a score is: `kws.runtime.scores.Score`.
    """

    pooling: str = "sum"  # as the model was trained: sum | mean
    smoothing_ms: float = 1000.0  # window that a score is pooled over
    score: str = "posterior"  # posterior | log_ratio
    threshold: float = 0.7  # score that a keyword must reach ...
    thresholds: Mapping[str, float] = field(default_factory=dict)  # ... and for single keywords
    unknown_bias: float = 0.0  # added to the logit of `_unknown_`: a room holds more other speech than clips do
    release: float = 0.8  # an utterance goes on while a frame alone gives at least this times the posterior (or ratio)
    min_duration_ms: float = 0.0  # time for which the threshold must be reached
    refractory_ms: float = 500.0  # from a detection to the next of the same keyword, at least
    suppress: Mapping[str, Sequence[str]] | None = None  # keyword -> longer ones it is part of; None: by their words
    hold_ms: float = 800.0  # a keyword that is part of longer ones waits so long for one of them

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise KwsError(f"detector.pooling is {self.pooling!r}; choose one of {', '.join(POOLINGS)}")
        if self.score not in SCORES:
            raise KwsError(f"detector.score is {self.score!r}; choose one of {', '.join(SCORES)}")
        suppress = {} if self.suppress is None else self.suppress
        for name, table in {"thresholds": self.thresholds, "suppress": suppress}.items():
            if not isinstance(table, Mapping):
                raise KwsError(f"detector.{name} is {table!r}, not a table")
        for keyword, longer in suppress.items():
            if not isinstance(longer, list | tuple) or not all(isinstance(name, str) for name in longer):
                raise KwsError(f"detector.suppress[{keyword}] is {longer!r}, not a list of names")
        if not (_is_number(self.release) and 0 < self.release <= 1):
            raise KwsError(f"detector.release is {self.release!r}; it must be above 0 and at most 1")
        named = {f"thresholds[{keyword}]": value for keyword, value in self.thresholds.items()}
        low, high = BOUNDS[self.score]
        for name, value in {"threshold": self.threshold, **named}.items():
            if not (_is_number(value) and low < value <= high):
                raise KwsError(f"detector.{name} is {value!r}; it must be above {low:g} and at most {high:g}")
        if not (_is_number(self.unknown_bias) and abs(self.unknown_bias) <= MAX_LOGIT):
            raise KwsError(f"detector.unknown_bias is {self.unknown_bias!r}; it must be a number")
        for name in ("smoothing_ms", "min_duration_ms", "refractory_ms", "hold_ms"):
            if not (_is_number(value := getattr(self, name)) and 0 <= value <= LONGEST_MS):
                raise KwsError(f"detector.{name} is {value!r}; it must be at least 0 and at most {LONGEST_MS}")

    def with_thresholds(self, thresholds: Mapping[str, float] | float | None) -> DetectorConfig:
        """Other thresholds: those of single keywords, or one for all of them; None: the same."""
        if isinstance(thresholds, Mapping):
            return replace(self, thresholds={**self.thresholds, **thresholds})
        return self if thresholds is None else replace(self, threshold=thresholds, thresholds={})

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DetectorConfig:
        """What `to_dict` gave. Raises `ValueError` for a name or a value that is not one of this class."""
        if unknown := sorted(set(values) - set(cls.__dataclass_fields__)):
            known = ", ".join(cls.__dataclass_fields__)
            raise KwsError(f"detector has no option {', '.join(unknown)}; it has {known}")
        try:
            return cls(**values)
        except TypeError as error:
            raise KwsError(f"detector holds a value of a wrong type: {error}") from error


class Detection(NamedTuple):
    """One utterance of a keyword. Times are seconds from the start of the stream.

    `start` and `end` bracket the evidence that led to it: the first and the last frame of the window that speak for
    the keyword at least a tenth as strongly as the strongest. The word itself begins earlier: a model knows it late.
    """

    keyword: str
    score: float  # when the threshold was reached
    start: float
    end: float
    time: float  # when it was reported: the end of the block of audio that decided


@dataclass
class _Track:
    """Where one keyword stands; frames are counted from the start of the stream."""

    active: bool = False  # within an utterance that was reported
    release_from: int = 0  # first frame that may end it
    fresh_from: int = -(1 << 62)  # evidence before this frame was reported and counts no more
    run: int = 0  # frames in a row that reached the threshold
    last: int = -(1 << 62)  # frame of the last detection


class Detector:
    """The detections of one stream of logits.

    A keyword is detected when its score, pooled over the last `smoothing_ms`, reaches its threshold for
    `min_duration_ms`. Evidence is reported once: what a keyword had gathered until the utterance ends is left out of
    its later scores, so a word that stays in the window is not detected twice, and one said again soon is. The
    utterance ends `refractory_ms` after the detection or later, with the first frame that alone gives less than
    `release` times the threshold's level (`kws.runtime.scores`). Labels that begin with `_` are never detected.
    """

    def __init__(
        self,
        labels: Sequence[str],
        frame_length: int,
        sample_rate: int,
        config: DetectorConfig | None = None,
        block_size: int = 0,
    ) -> None:
        """A detector for logits `[T, len(labels)]`, one frame for each `frame_length` samples.

        `block_size`: samples (a multiple of `frame_length`) that arrive together, for `Detection.time`; 0: one frame.
        Raises `ValueError` if the configuration names a keyword that is not in `labels`.
        """
        self.labels, self.sample_rate, self.frame_length = tuple(labels), sample_rate, frame_length
        self.config = config = config or DetectorConfig()
        self.keywords = {name: k for k, name in enumerate(self.labels) if is_keyword(name)}
        self.block_size = block_size or frame_length
        self.longer = longer_keywords(list(self.keywords)) if config.suppress is None else config.suppress
        for name in [*config.thresholds, *self.longer, *(name for names in self.longer.values() for name in names)]:
            if name not in self.keywords:
                raise KwsError(f"detector names {name!r}; the model's keywords are {', '.join(self.keywords)}")
        self.thresholds = np.full(len(self.labels), np.inf)
        for name, k in self.keywords.items():
            self.thresholds[k] = config.thresholds.get(name, config.threshold)
        self._score = Score(config.score, self.labels)
        self._limits = self._score.level(self.thresholds)
        durations = (config.smoothing_ms, config.min_duration_ms, config.refractory_ms, config.hold_ms)
        counts = (whole_frames(ms, sample_rate, frame_length) for ms in durations)
        self.window, self.min_frames, self.refractory, self.hold = counts  # frames
        self.bias = [config.unknown_bias if name == UNKNOWN else 0.0 for name in self.labels]  # of each label's logits
        self.smoother = Smoother(len(self.labels), self.window, config.pooling, self.bias)
        self.reset()

    def reset(self) -> None:
        """Begin a new stream at time 0."""
        self.smoother.reset()
        self._position = 0  # frames seen
        self._tracks = {k: _Track() for k in self.keywords.values()}
        self._held: list[tuple[int, int, Detection]] = []  # last frame to wait, label, detection
        self.posteriors: Float64 = np.zeros(len(self.labels))  # pooled over the last window, [K]; at first zeros

    def process(self, logits: ArrayLike) -> list[Detection]:
        """The next frames' logits `[T, len(labels)]`, any T -> the detections they bring, in order of time.

        Raises `ValueError` for logits of another shape and for NaN.
        """
        return [detection for frames in self.smoother.push(logits) for detection in self.follow(frames)]

    @property
    def scores(self) -> Float64:
        """What each keyword scores in the last window, float64 `[K]`; of other labels it has no meaning."""
        return self.scores_of(self.posteriors)

    def scores_of(self, posteriors: Float64) -> Float64:
        """What each keyword scores in a window of such posteriors `[K]`; zeros, before any frame, count as equal."""
        levels = self._score.levels((posteriors if posteriors.any() else np.ones_like(posteriors))[None])[0]
        return np.array([self._score.of_level(level) for level in levels.tolist()])

    def flush(self) -> list[Detection]:
        """End the stream: the detections that still waited for a longer keyword."""
        return self._release_held(1 << 62)

    def follow(self, frames: Smoothed) -> list[Detection]:
        """`process` for frames that a smoother of the same pooling and window gave: detectors may share one."""
        self.posteriors = frames.posteriors[-1]
        reached = (self._score.levels(frames.sums).max(axis=0) >= self._limits).tolist()
        triggers: list[tuple[int, int, Detection]] = []
        for k, track in self._tracks.items():
            if reached[k] or track.active:
                triggers += self._follow(k, track, frames)
            else:
                track.run = 0
        self._position += len(frames.posteriors)
        found: list[Detection] = []
        for frame, k, detection in sorted(triggers, key=lambda trigger: trigger[:2]):
            found += self._release_held(frame)
            found += self._arrange(frame, k, detection)
        return found + self._release_held(self._position)

    def _follow(self, k: int, track: _Track, frames: Smoothed) -> list[tuple[int, int, Detection]]:
        """The detections of label `k` in the newest frames, as (frame, label, detection).

        By turns: within an utterance that was reported, the frame that ends it is sought; outside, the frame with which
        the score has reached the threshold for long enough.
        """
        triggers: list[tuple[int, int, Detection]] = []
        frame, end = self._position, self._position + len(frames.posteriors)
        while frame < end:
            if track.active:
                quiet = self._first_quiet(k, max(frame, track.release_from), frames)
                if quiet is None:
                    break
                track.active, track.fresh_from, frame = False, quiet, quiet
            levels = self._fresh_levels(k, track.fresh_from, frame, frames)
            leads = self._score.leads(k, frames.sums[frame - self._position :])
            runs = _run_lengths((levels >= self._limits[k]) & leads, track.run)
            ready = np.flatnonzero(runs >= self.min_frames)
            if not len(ready):
                track.run = int(runs[-1])
                break
            frame += int(ready[0])
            triggers.append((frame, k, self._detection(k, track.fresh_from, frame, float(levels[ready[0]]), frames)))
            track.active, track.release_from, track.run = True, frame + self.refractory, 0
            frame += 1
        return triggers

    def _origin(self, frames: Smoothed) -> int:
        """The frame of the stream to which `frames.evidence[0]` belongs."""
        return self._position + len(frames.posteriors) - len(frames.evidence)

    def _first_quiet(self, k: int, frame: int, frames: Smoothed) -> int | None:
        """The first frame from `frame` on that gives label `k` less than its limit times `release` by itself."""
        alone = frames.evidence[frame - self._origin(frames) :]
        quiet = np.flatnonzero(self._score.levels(alone)[:, k] < self._limits[k] * self.config.release)
        return frame + int(quiet[0]) if len(quiet) else None

    def _fresh_levels(self, k: int, fresh_from: int, frame: int, frames: Smoothed) -> Float64:
        """Levels of label `k` at each frame from `frame` on, without its own evidence from before `fresh_from`."""
        sums = frames.sums[frame - self._position :]
        levels = self._score.levels(sums)[:, k]
        n_mixed = min(fresh_from + self.window - 1 - frame, len(levels))  # frames whose window reaches farther back
        if n_mixed > 0:
            first, last = (at - self._origin(frames) for at in (fresh_from, frame + n_mixed))
            fresh = np.add.accumulate(frames.evidence[first:last, k])[-n_mixed:]
            levels[:n_mixed] = self._score.fresh_levels(k, fresh, sums[:n_mixed])
        return levels

    def _detection(self, k: int, fresh_from: int, frame: int, level: float, frames: Smoothed) -> Detection:
        """What is reported when label `k` is detected with `frame`."""
        score = self._score.of_level(level)
        since = max(fresh_from, frame - self.window + 1, 0)
        own = frames.evidence[since - self._origin(frames) : frame - self._origin(frames) + 1, k]
        strong = np.flatnonzero(own >= 0.1 * own.max()) + since
        start, end = self._seconds(int(strong[0])), self._seconds(int(strong[-1]) + 1)
        return Detection(self.labels[k], score, start, end, self._decided(frame))

    def _arrange(self, frame: int, k: int, detection: Detection) -> list[Detection]:
        """Report a detection now, hold it back, or drop it: one of a longer keyword silences those it is made of."""
        self._tracks[k].last = frame
        name = detection.keyword
        self._held = [held for held in self._held if name not in self.longer.get(held[2].keyword, ())]
        if not (longer := self.longer.get(name)):
            return [detection]
        if all(frame - self._tracks[self.keywords[other]].last > self.hold for other in longer):
            self._held.append((frame + self.hold, k, detection))
        return []

    def _release_held(self, frame: int) -> list[Detection]:
        """The held detections whose last frame to wait is before `frame`, reported then."""
        due = sorted((held for held in self._held if held[0] < frame), key=lambda held: held[:2])
        self._held = [held for held in self._held if held[0] >= frame]
        return [detection._replace(time=self._decided(min(last, self._position - 1))) for last, _, detection in due]

    def _seconds(self, frame: int) -> float:
        return frame * self.frame_length / self.sample_rate

    def _decided(self, frame: int) -> float:
        """When a frame is known: the end of its block, seconds."""
        return -(-(frame + 1) * self.frame_length // self.block_size) * self.block_size / self.sample_rate


def _run_lengths(reached: Bool, before: int) -> Int64:
    """How many frames in a row have reached it, up to each of bool `[T]`; `before`: those ahead of the first."""
    frames = np.arange(len(reached))
    return frames - np.maximum.accumulate(np.where(reached, -1 - before, frames))


def longer_keywords(keywords: Sequence[str]) -> dict[str, list[str]]:
    """Each keyword whose words stand together within longer keywords, and those: {"stop": ["stop music"]}."""
    spoken = {k: f" {re.sub('[ _-]+', ' ', k)} " for k in keywords}
    longer = {k: [o for o in keywords if spoken[k] != spoken[o] and spoken[k] in spoken[o]] for k in keywords}
    return {k: others for k, others in longer.items() if others}
