"""The adjustment for shares of labels: what it makes of posteriors whose truth is known."""

import numpy as np
import pytest

from kws.training.label_shares import fitted_correction, next_adjustment

LABELS = ("_unknown_", "yes", "no")
CORRECTION = np.log([0.4, 1, 1])  # unknown words are 2.5 times as frequent in training


def drawn(n, sharpness, seed=0):
    """Labels at the shares of evaluation, and posteriors at those of training that are `sharpness` times too careful.

    Each clip shows three normal numbers, its label's about 3 and the others' about 0, so log-posteriors are known.
    """
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=np.exp(CORRECTION) / np.exp(CORRECTION).sum())
    seen = rng.normal(size=(n, 3)) + 3 * np.eye(3)[labels]
    z = 3 * seen * sharpness
    return labels, np.exp(z) / np.exp(z).sum(1, keepdims=True)


@pytest.mark.parametrize("sharpness", [1.0, 0.5, 0.2])
def test_what_the_formula_says_of_careful_posteriors_is_found(sharpness):
    labels, posteriors = drawn(20_000, sharpness)
    found = fitted_correction(posteriors, labels, LABELS)
    np.testing.assert_allclose(found, sharpness * CORRECTION, atol=0.15 * sharpness)
    assert found[1] == found[2] == 0


def test_the_fitted_correction_is_the_better_one():
    labels, posteriors = drawn(20_000, 0.2)
    found = fitted_correction(posteriors, labels, LABELS)
    unseen, scores = drawn(20_000, 0.2, seed=1)
    right = [((np.log(scores) + correction).argmax(1) == unseen).mean() for correction in (0, found, CORRECTION)]
    assert right[1] > right[0]  # than none
    assert right[1] > right[2] + 0.005  # than the formula


def test_a_handful_of_clips_does_not_run_away():
    posteriors = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
    assert np.abs(fitted_correction(posteriors, np.arange(3), LABELS)).max() < 1


def test_the_adjustment_settles_where_nothing_is_asked_for():
    """A model that learns what it is told: its log-posteriors are those of training less the adjustment."""
    labels, posteriors = drawn(20_000, 1.0)
    adjustment = [0.0, 0.0, 0.0]
    for _ in range(12):
        learned = np.log(posteriors) - adjustment
        learned = np.exp(learned) / np.exp(learned).sum(1, keepdims=True)
        adjustment = next_adjustment(adjustment, learned, labels, LABELS)
    np.testing.assert_allclose(adjustment, -CORRECTION, atol=0.1)
    np.testing.assert_allclose(fitted_correction(learned, labels, LABELS), 0, atol=0.01)


def test_it_is_bounded():
    labels = np.zeros(100, int)  # all unknown, and the model is sure that they are not
    posteriors = np.tile([0.001, 0.9, 0.099], (100, 1))
    adjustment = [0.0, 0.0, 0.0]
    for _ in range(20):
        adjustment = next_adjustment(adjustment, posteriors, labels, LABELS)
    assert adjustment == [-4.0, 0.0, 0.0]
