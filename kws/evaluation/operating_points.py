"""What a model does at one threshold after another: misses, false alarms and delay, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.evaluation.metrics import false_rejection_at, poisson_interval, wilson_interval
from kws.evaluation.stream_scores import THRESHOLDS, Outcome, ScoredStream, with_threshold
from kws.recordings.labels import read_recordings
from kws.runtime.detector import DetectorConfig
from kws.runtime.onnx_model import SpotterModel

Columns = slice | int


def score_recordings(config: Any, model: SpotterModel) -> tuple[ScoredStream, DetectorConfig]:
    """Run the model over the stream of a configuration; with the model's detector as the configuration changes it."""
    detector = DetectorConfig.from_dict({**model.detector.to_dict(), **config.detector.to_dict()})
    files = read_recordings(Path(config.stream).expanduser(), model.labels)
    return ScoredStream(model, files, config.tolerance_ms / 1000, config.workers), detector


def operating_point(stream: ScoredStream, outcome: Outcome, keywords: Columns = slice(None)) -> dict[str, Any]:
    """What users meet under one setting: misses, false alarms and delay, with 95 % intervals; None where none can be.

    `keywords`: one of them, or all together.
    """
    events, hits = int(np.sum(stream.events[keywords])), int(np.sum(outcome.hits[keywords]))
    alarms, wrong = int(np.sum(outcome.false_alarms[keywords])), int(np.sum(outcome.wrong[keywords]))
    delays = [1000 * s for one in np.atleast_1d(np.arange(len(stream.keywords))[keywords]) for s in outcome.delays[one]]
    hours = stream.negative_hours
    low, high = wilson_interval(events - hits, events)
    return {
        "events": events,
        "misses": events - hits,
        "frr": (events - hits) / events if events else None,
        "frr_interval": [low, high] if events else None,
        "false_alarms": alarms,
        "fa_per_hour": alarms / hours if hours > 0 else None,
        "fa_interval": list(poisson_interval(alarms, hours)) if hours > 0 else None,
        "wrong_in_keyword_time": wrong,
        "delay_ms": dict(zip(("median", "p95"), np.percentile(delays, [50, 95]).tolist(), strict=True))
        if delays
        else None,
    }


class Sweep:
    """Outcomes for one threshold of all keywords after another, from the lowest."""

    def __init__(self, stream: ScoredStream, detector: DetectorConfig) -> None:
        self.stream = stream
        self.outcomes = stream.outcomes([with_threshold(detector, threshold) for threshold in THRESHOLDS])

    def curve(self, keywords: Columns = slice(None)) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """False alarms per hour and false rejection rate `[P]` of one keyword, or of all together."""
        events = max(1, int(np.sum(self.stream.events[keywords])))
        alarms = np.array([np.sum(outcome.false_alarms[keywords]) for outcome in self.outcomes])
        hits = np.array([np.sum(outcome.hits[keywords]) for outcome in self.outcomes])
        return alarms / self.stream.negative_hours, 1 - hits / events

    def at(self, target: float, keywords: Columns = slice(None)) -> dict[str, Any] | None:
        """The operating point with the fewest misses among those of at most `target` false alarms per hour."""
        alarms, misses = self.curve(keywords)
        place = false_rejection_at(misses, alarms, target)
        if place is None:
            return None
        return {"threshold": THRESHOLDS[place], **operating_point(self.stream, self.outcomes[place], keywords)}


def interval_line(title: str, point: Mapping[str, Any] | None) -> str:
    """One operating point of all keywords as a line of the table."""
    if point is None:
        return f"{title:24} not reached by any threshold"
    misses = alarms = delay = "-"
    if point["frr"] is not None:
        misses = "{:.1%} ({:.1%} to {:.1%})".format(point["frr"], *point["frr_interval"])
    if point["fa_per_hour"] is not None:
        alarms = "{:.2f} ({:.2f} to {:.2f})".format(point["fa_per_hour"], *point["fa_interval"])
    if point["delay_ms"]:
        delay = f"{point['delay_ms']['median']:.0f}, {point['delay_ms']['p95']:.0f}"
    return f"{title:24} {misses:23} {alarms:22} {delay}"
