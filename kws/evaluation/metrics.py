"""How good predictions and detections are: accuracy, confusion, precision and recall, intervals, events.

scipy is imported when an interval is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kws.errors import KwsError
from kws.recordings.labels import Event
from kws.system.arrays import Float64, Int64

Interval = tuple[float, float]


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Share of int `[N]` `predictions` that equal `labels`. Raises `ValueError` for no clips or unequal lengths."""
    truth, predicted = np.asarray(labels), np.asarray(predictions)
    if truth.shape != predicted.shape or truth.ndim != 1 or not truth.size:
        raise KwsError(f"labels {list(truth.shape)} and predictions {list(predicted.shape)} must be one clip each")
    return float((truth == predicted).mean())


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, n_labels: int) -> Int64:
    """int64 `[n_labels, n_labels]`: how many clips of label i (row) were predicted as j (column)."""
    truth, predicted = np.asarray(labels, np.int64), np.asarray(predictions, np.int64)
    for values in (truth, predicted):
        if values.size and not 0 <= values.min() <= values.max() < n_labels:
            raise KwsError(f"a label of {values.min()} or {values.max()} is not one of the {n_labels}")
    return np.bincount(truth * n_labels + predicted, minlength=n_labels**2).reshape(n_labels, n_labels)


class ClassScores(NamedTuple):
    """Scores of every class, float64 `[K]` each; 0 where a class was never predicted or has no clip."""

    precision: Float64
    recall: Float64
    f1: Float64


def class_scores(confusion: Int64) -> ClassScores:
    """Precision, recall and F1 of each class of a confusion matrix `[K, K]` (rows: truth)."""
    right = np.diag(confusion).astype(float)
    predicted, present = confusion.sum(axis=0), confusion.sum(axis=1)
    return ClassScores(
        right / np.maximum(predicted, 1), right / np.maximum(present, 1), 2 * right / np.maximum(predicted + present, 1)
    )


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The interval of a share (E. B. Wilson, 1927); (0, 1) without a trial."""
    if not 0 <= successes <= trials:
        raise KwsError(f"{successes} successes of {trials} trials is not a share")
    if trials == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def poisson_interval(count: int, exposure: float = 1.0, confidence: float = 0.95) -> Interval:
    """The exact interval of a rate, events per unit of exposure, of which `count` were seen (F. Garwood, 1936)."""
    if count < 0 or exposure <= 0:
        raise KwsError(f"{count} events in {exposure} is not a rate")
    from scipy.stats import chi2

    tail = (1 - confidence) / 2
    low = chi2.ppf(tail, 2 * count) / 2 if count else 0.0
    return float(low / exposure), float(chi2.ppf(1 - tail, 2 * count + 2) / 2 / exposure)


def match_events(
    detections: Sequence[tuple[str, float]], events: Sequence[Event], tolerance: float
) -> list[int | None]:
    """The event (its index in `events`) that each detection (keyword, time in seconds) found, or None: a false alarm.

    A detection finds the earliest event of its keyword that none found before and that lies about its time:
    onset <= time <= offset + tolerance. So an event is found at most once; a second detection of it is a false alarm.
    """
    by_keyword: dict[str, list[int]] = {}
    for i in sorted(range(len(events)), key=lambda i: events[i].onset):
        by_keyword.setdefault(events[i].keyword, []).append(i)
    found: list[int | None] = [None] * len(detections)
    for d in sorted(range(len(detections)), key=lambda d: detections[d][1]):
        keyword, time = detections[d]
        waiting = by_keyword.get(keyword, [])
        while waiting and events[waiting[0]].offset + tolerance < time:
            waiting.pop(0)
        if waiting and events[waiting[0]].onset <= time:
            found[d] = waiting.pop(0)
    return found


def false_rejection_at(frr: ArrayLike, fa_per_hour: ArrayLike, target: float) -> int | None:
    """The index of the operating point with the fewest misses whose false alarms per hour are at most `target`.

    `frr` and `fa_per_hour` `[P]` are the points of a DET curve, in any order; None if none is at most `target`. Of
    equal misses, the one with fewer false alarms.
    """
    misses, alarms = np.asarray(frr, float), np.asarray(fa_per_hour, float)
    allowed = np.flatnonzero(alarms <= target)
    if not len(allowed):
        return None
    return int(allowed[np.lexsort((alarms[allowed], misses[allowed]))[0]])
