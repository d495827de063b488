from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy import stats
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from kws.evaluation.metrics import (
    Event,
    accuracy,
    class_scores,
    confusion_matrix,
    false_rejection_at,
    match_events,
    poisson_interval,
    wilson_interval,
)
from kws.evaluation.plots import plot_confusion

TRUTH, PREDICTED = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2]


def test_accuracy() -> None:
    assert accuracy(TRUTH, PREDICTED) == pytest.approx(4 / 6)
    for labels, predictions in (([], []), ([1], [1, 2]), ([[1]], [[1]])):
        with pytest.raises(ValueError, match="one clip each"):
            accuracy(labels, predictions)


def test_confusion_and_class_scores() -> None:
    confusion = confusion_matrix(TRUTH, PREDICTED, 4)
    assert confusion.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    scores = class_scores(confusion)
    np.testing.assert_allclose(scores.precision, [1, 1 / 2, 1 / 2, 0])
    np.testing.assert_allclose(scores.recall, [2 / 3, 1 / 2, 1, 0])
    np.testing.assert_allclose(scores.f1, [4 / 5, 1 / 2, 2 / 3, 0])
    with pytest.raises(ValueError, match="not one of the 2"):
        confusion_matrix(TRUTH, PREDICTED, 2)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (3, 10), (4743, 4890), (1, 1)])
def test_wilson_interval(successes: int, trials: int) -> None:
    """By its definition: the shares from which the one that was seen is 1.96 standard deviations away."""
    z, seen = NormalDist().inv_cdf(0.975), successes / trials
    for share, end in zip(wilson_interval(successes, trials), (0.0, 1.0), strict=True):
        assert share == end == seen or (seen - share) ** 2 == pytest.approx(z**2 * share * (1 - share) / trials)


def test_wilson_interval_of_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="5 successes of 4"):
        wilson_interval(5, 4)


@pytest.mark.parametrize("count", [0, 1, 3, 30, 1000, 20000])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_poisson_interval(count: int, confidence: float) -> None:
    """By its definition: the means with which so few, or so many, are seen with half of what is left of 1."""
    low, high = (5 * rate for rate in poisson_interval(count, 5.0, confidence))
    assert stats.poisson.cdf(count, high) == pytest.approx((1 - confidence) / 2)
    assert low == 0 if count == 0 else stats.poisson.sf(count - 1, low) == pytest.approx((1 - confidence) / 2)


def test_poisson_interval_refuses_nonsense() -> None:
    for count, exposure in ((-1, 1.0), (1, 0.0)):
        with pytest.raises(ValueError, match="is not a rate"):
            poisson_interval(count, exposure)


def test_match_events() -> None:
    events = [Event("yes", 1.0, 1.5), Event("no", 2.0, 2.5), Event("yes", 5.0, 5.5), Event("yes", 6.0, 6.5)]
    detections = [
        ("yes", 0.9),  # before its onset
        ("yes", 1.6),
        ("yes", 1.7),  # a second time
        ("no", 3.1),  # too late
        ("no", 2.2),
        ("yes", 6.2),  # the tolerance of the third event is over
        ("maybe", 1.2),
    ]
    assert match_events(detections, events, 0.5) == [None, 0, None, None, 1, 3, None]
    assert match_events(detections, events, 1.0)[5] == 2
    assert match_events([], events, 0.5) == []
    assert match_events(detections, [], 0.5) == [None] * 7


def test_false_rejection_at() -> None:
    frr, fa = [0.2, 0.1, 0.05, 0.05, 0.01], [0.1, 0.4, 0.5, 0.45, 3.0]
    assert false_rejection_at(frr, fa, 0.5) == 3
    assert false_rejection_at(frr, fa, 0.1) == 0
    assert false_rejection_at(frr, fa, 0.05) is None
    assert false_rejection_at(frr, fa, 10) == 4


def test_confusion_picture(tmp_path: Path) -> None:
    plot_confusion(confusion_matrix(TRUTH, PREDICTED, 4), ["a", "b", "c", "_unknown_"], tmp_path / "c.png", "tiny")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "c.png").stat().st_size > 10_000


def test_class_scores_equal_torchmetrics() -> None:
    rng = np.random.default_rng(3)
    truth, predicted = rng.integers(0, 5, (2, 500))
    confusion = confusion_matrix(truth, predicted, 5)
    scores = class_scores(confusion)
    arguments = (torch.from_numpy(predicted), torch.from_numpy(truth), 5)
    np.testing.assert_array_equal(confusion, multiclass_confusion_matrix(*arguments))
    for ours, theirs in zip(scores, (multiclass_precision, multiclass_recall, multiclass_f1_score), strict=True):
        np.testing.assert_allclose(ours, theirs(*arguments, average="none"), rtol=1e-6)
