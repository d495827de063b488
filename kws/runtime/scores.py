"""What a keyword scores in a window of evidence: its posterior, or its log ratio to what else was said."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kws.config import is_keyword
from kws.runtime.posteriors import total
from kws.system.arrays import Bool, Float64

SCORES = ("posterior", "log_ratio")
BOUNDS = {"posterior": (0.0, 1.0), "log_ratio": (-100.0, 100.0)}  # of thresholds; a posterior of 0 is none
SCALES = {"posterior": (0.0, 1.0), "log_ratio": (-5.0, 15.0)}  # of a bar or a slider: the scores that tell something
TINY = float(np.finfo(np.float64).tiny)


class Score:
    """One kind of score, computed as a level that is never below 0, from evidence `[n, K]` summed over windows.

    `posterior`: the keyword's share of all evidence; the level is the score. `log_ratio`: the natural logarithm of the
    level, the keyword's evidence over that of the labels that are no keywords (those that begin with `_`), or of all
    other labels where there are none; in a window, only the keyword that has most of it counts. Posteriors of a model
    that was trained with smoothed labels all end just below 1; log ratios tell them apart.
    """

    def __init__(self, kind: str, labels: Sequence[str]) -> None:
        self._is_ratio = kind == "log_ratio"
        self._keywords = [k for k, name in enumerate(labels) if is_keyword(name)]
        self._rivals = [k for k, name in enumerate(labels) if not is_keyword(name)] if self._is_ratio else []

    def level(self, score: Float64) -> Float64:
        """The level of a score."""
        return np.exp(score) if self._is_ratio else score

    def of_level(self, level: float) -> float:
        """The score of a level."""
        return math.log(max(level, TINY)) if self._is_ratio else level

    def levels(self, sums: Float64) -> Float64:
        """Of all labels `[n, K]`; what it says of labels that are no keywords has no meaning."""
        if not self._is_ratio:
            return sums / total(sums)
        rival = total(sums[:, self._rivals]) if self._rivals else total(sums) - sums
        return sums / np.maximum(rival, TINY)

    def fresh_levels(self, k: int, own: Float64, sums: Float64) -> Float64:
        """Of label `k` alone `[n]`, with `own` `[n]` in place of its evidence in `sums`."""
        others = total(sums[:, self._rivals] if self._rivals else np.delete(sums, k, axis=1))[:, 0]
        return own / np.maximum(others, TINY) if self._is_ratio else own / (own + others)

    def leads(self, k: int, sums: Float64) -> Bool:
        """Whether no other keyword stands in the way of `k`, bool `[n]`: for log ratios, none has more evidence."""
        return sums[:, k] >= sums[:, self._keywords].max(axis=1) if self._is_ratio else np.ones(len(sums), bool)
