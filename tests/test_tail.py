"""The fitted tail against scores that truly decay exponentially, and against scipy's fit of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import expon

from kws.evaluation.operating_points import THRESHOLDS
from kws.evaluation.tail import LOUDEST, fit_tail

GRID = THRESHOLDS["log_ratio"]


def counts(scores: np.ndarray) -> np.ndarray:
    return (scores[None] >= np.array(GRID)[:, None]).sum(axis=1)


def test_it_promises_what_other_hours_of_the_same_source_keep() -> None:
    """A hundred draws of 3 h: at the threshold for 1 an hour, and for 0.2, the true rate is that on average."""
    rng = np.random.default_rng(0)
    true: dict[float, list[float]] = {0.2: [], 1.0: [], 5.0: []}
    for _ in range(100):
        tail = fit_tail(GRID, counts(rng.exponential(1.2, rng.poisson(300)) - 2), hours=3.0)
        for rate, found in true.items():
            found.append(100 * np.exp(-(tail.threshold(rate) + 2) / 1.2))
    for rate, found in true.items():
        assert np.median(found) == pytest.approx(rate, rel=0.15)


def test_it_is_the_maximum_likelihood_fit() -> None:
    scores = np.random.default_rng(1).exponential(1.5, 500) - 1
    tail = fit_tail(GRID, counts(scores), hours=5.0)
    loudest = scores[scores >= tail.start]
    assert LOUDEST / 2 < len(loudest) <= LOUDEST
    _, scale = expon.fit(loudest, floc=tail.start)
    assert tail.mean_excess == pytest.approx(scale, abs=0.05)
    assert tail.start_rate == len(loudest) / 5


def test_rates_that_were_heard_are_counted() -> None:
    scores = np.repeat(np.arange(10.0), 30)  # thirty at each whole number
    tail = fit_tail(GRID, counts(scores), hours=10.0)
    assert tail.threshold(30.0) == -3  # every threshold does
    assert tail.threshold(12.0) == pytest.approx(5.1)  # 120 at 6 and above
    assert tail.threshold(tail.start_rate) == pytest.approx(tail.start)


def test_too_few_to_fit() -> None:
    tail = fit_tail(GRID, counts(np.array([0.55, 1.55, 2.55])), hours=10.0)
    assert tail.mean_excess == 0
    assert tail.threshold(0.2) == pytest.approx(0.6)
    assert tail.threshold(0.01) == pytest.approx(2.6)
    stuck = fit_tail(GRID, np.full(len(GRID), 8), hours=1.0)  # alarms that no threshold ends
    assert stuck.threshold(1.0) == GRID[-1]
