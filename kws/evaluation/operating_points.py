"""What a model does at one threshold after another: misses, false alarms and delay, with their intervals."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError
from kws.evaluation.metrics import false_rejection_at, poisson_interval, wilson_interval
from kws.evaluation.recording_scores import Outcome, ScoredRecordings
from kws.recordings.labels import read_recordings
from kws.recordings.speech import transcribed
from kws.runtime.detector import DetectorConfig
from kws.runtime.onnx_model import SpotterModel
from kws.system.arrays import Int64

Columns = slice | int

# Steps of a sweep. Posteriors: from 0.27 to 1 - 6e-6 in steps of log-odds, short where smoothed labels end.
LOG_ODDS = np.concatenate([np.arange(-1.0, 5.0, 0.05), np.arange(5.0, 12.01, 0.25)])
THRESHOLDS: dict[str, list[float]] = {
    "posterior": (1 / (1 + np.exp(-LOG_ODDS))).tolist(),
    "log_ratio": np.arange(-3.0, 15.05, 0.1).round(1).tolist(),
}

DETECTOR_OPTIONS = {  # of `DetectorConfig`, to be used in place of a model's own
    "smoothing_ms": "window that a score is pooled over",
    "threshold": "score that every keyword must reach",
    "unknown_bias": "added to the logit of _unknown_",
    "release": "share of the threshold below which an utterance ends",
    "min_duration_ms": "time for which the threshold must be reached",
    "refractory_ms": "from a detection to the next of the same keyword, at least",
    "hold_ms": "time that a keyword which is part of longer ones waits for them",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `score_recordings`."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX file, or the name of a model that comes with kws")
    text = "a recording set, a folder of audio with labels.csv, to count misses in"
    parser.add_argument("recordings", nargs="?", metavar="RECORDINGS", help=text)
    add = parser.add_argument
    text = "running speech with transcripts, a folder or a table, to count false alarms in (default: RECORDINGS)"
    add("--speech", metavar="DIR", help=text)
    add("--tolerance-ms", type=float, default=1000.0, metavar="MS", help="from a word's end to its detection, at most")
    add("--workers", type=int, default=0, metavar="N", help="threads (default: one per core)")
    for name, meaning in DETECTOR_OPTIONS.items():
        text = f"{meaning} (default: the model's own)"
        add(f"--{name.replace('_', '-')}", type=float, default=argparse.SUPPRESS, metavar="X", help=text)


def keyword_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """What was parsed, the detector's options in a table of their own: `detector`."""
    given = vars(options)
    detector = {name: given.pop(name) for name in DETECTOR_OPTIONS if name in given}
    return {**given, "detector": detector}


def score_recordings(
    model: SpotterModel,
    recordings: str | Path | None,
    tolerance_ms: float = 1000.0,
    workers: int = 0,
    detector: Mapping[str, Any] | None = None,
    speech: str | Path | None = None,
) -> tuple[ScoredRecordings, DetectorConfig]:
    """A model over a recording set, and its detector with what is to be changed of it.

    A detection may come `tolerance_ms` after the word's end. `workers`: threads; 0: one per core. `detector`: some of
    `DETECTOR_OPTIONS`. `speech`: running speech, a folder or a table, to count false alarms in rather than in the
    recordings; only files whose text is known count. Raises `KwsError` for values out of range and for recordings that
    cannot be used.
    """
    if recordings is None and speech is None:
        raise KwsError("there is nothing to hear; name a recording set, running speech (--speech DIR), or both")
    for name, value in {"tolerance_ms": tolerance_ms, "workers": workers}.items():
        if not value >= 0:
            raise KwsError(f"{name} is {value}; it must be at least 0")
    changes = dict(detector or {})
    if "threshold" in changes:
        changes["thresholds"] = {}
    config = DetectorConfig.from_dict({**model.detector.to_dict(), **changes})
    files = [] if recordings is None else read_recordings(Path(recordings).expanduser(), model.labels)
    running = [] if speech is None else transcribed(Path(speech).expanduser(), "speech")
    return ScoredRecordings(model, files, tolerance_ms / 1000, workers, speech=running), config


def operating_point(scored: ScoredRecordings, outcome: Outcome, keywords: Columns = slice(None)) -> dict[str, Any]:
    """What users meet under one setting: misses, false alarms and delay, with 95 % intervals; None where none can be.

    `keywords`: one of them, or all together.
    """
    events, hits = int(np.sum(scored.events[keywords])), int(np.sum(outcome.hits[keywords]))
    alarms, wrong = int(np.sum(outcome.false_alarms[keywords])), int(np.sum(outcome.wrong[keywords]))
    delays = [1000 * s for one in np.atleast_1d(np.arange(len(scored.keywords))[keywords]) for s in outcome.delays[one]]
    hours = scored.negative_hours
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

    def __init__(self, scored: ScoredRecordings, detector: DetectorConfig) -> None:
        self.scored, self.thresholds = scored, THRESHOLDS[detector.score]
        self.outcomes = scored.outcomes([detector.with_thresholds(threshold) for threshold in self.thresholds])

    def alarms(self, keywords: Columns = slice(None)) -> Int64:
        """False alarms int64 `[P]` of one keyword, or of all together."""
        return np.array([np.sum(outcome.false_alarms[keywords]) for outcome in self.outcomes], np.int64)

    def curve(self, keywords: Columns = slice(None)) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """False alarms per hour and false rejection rate `[P]` of one keyword, or of all together."""
        events = max(1, int(np.sum(self.scored.events[keywords])))
        hits = np.array([np.sum(outcome.hits[keywords]) for outcome in self.outcomes])
        return self.alarms(keywords) / self.scored.negative_hours, 1 - hits / events

    def at(self, target: float, keywords: Columns = slice(None)) -> dict[str, Any] | None:
        """The operating point with the fewest misses among those of at most `target` false alarms per hour."""
        alarms, misses = self.curve(keywords)
        index = false_rejection_at(misses, alarms, target)
        if index is None:
            return None
        return {"threshold": self.thresholds[index], **operating_point(self.scored, self.outcomes[index], keywords)}


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
