"""False alarms an hour at thresholds that the hours heard are too few to count at: the tail of their scores, fitted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kws.system.arrays import Float64, Int64

LOUDEST = 60  # false alarms that the tail is fitted to
FEWEST = 5  # with which it can be


@dataclass(frozen=True)
class Tail:
    """How many false alarms an hour reach a threshold: as counted, and from `start` on by an exponential decay.

    Scores of rare false alarms decay like an exponential (a generalised Pareto tail of shape 0; J. Pickands, 1975), so
    the mean by which the loudest exceed `start` tells how many reach any higher threshold, the unheard included.
    """

    thresholds: Float64  # [P], ascending
    rates: Float64  # [P], an hour, falling
    start: float
    start_rate: float  # an hour
    mean_excess: float  # over `start`; 0: too few to say

    def threshold(self, rate: float) -> float:
        """The lowest threshold that at most `rate` false alarms an hour reach; the highest tried if more reach it."""
        if self.mean_excess and rate <= self.start_rate:
            return self.start + self.mean_excess * math.log(self.start_rate / rate)
        enough = np.flatnonzero(self.rates <= rate * (1 + 1e-9))
        return float(self.thresholds[enough[0] if len(enough) else -1])


def fit_tail(thresholds: Sequence[float], counts: Int64, hours: float) -> Tail:
    """The tail of false alarms int64 `[P]`, heard in `hours` at each of `thresholds` `[P]` (ascending).

    Fitted by maximum likelihood to the `LOUDEST`, each taken to lie midway between two thresholds.
    """
    at = np.asarray(thresholds, float)
    falling = np.maximum.accumulate(np.asarray(counts)[::-1])[::-1]  # a detection may block another: not by itself so
    first = int(np.argmax(falling <= max(LOUDEST, falling[-1])))
    number = int(falling[first])
    lost = falling[first:-1] - falling[first + 1 :]
    excess = float(lost @ ((at[first:-1] + at[first + 1 :]) / 2 - at[first]))
    fits = number >= FEWEST and falling[-1] == 0
    return Tail(at, falling / hours, float(at[first]), number / hours, excess / number if fits else 0.0)
