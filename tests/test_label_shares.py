"""The correction for shares of labels: what it makes of posteriors whose truth is known, and when it is left out."""

import numpy as np
import pytest
import torch

from kws.config import FrontendConfig, RecurrentConfig
from kws.model.checkpoint import load_checkpoint, save_checkpoint
from kws.model.spotter import KeywordSpotter
from kws.training.label_shares import correct_shares, correction_of, fitted_correction

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


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    spotter = KeywordSpotter(FrontendConfig(), RecurrentConfig(hidden_size=4, conv_channels=[2]), LABELS)
    save_checkpoint(tmp_path / "best.safetensors", spotter, info={"best_accuracy": 0.5})
    return tmp_path / "best.safetensors"


def scorer(checkpoint, posteriors):
    """Posteriors to which the spotter's biases add what the head has more than that of `checkpoint`."""
    first = load_checkpoint(checkpoint)[0].classifier.head.bias.detach().clone()

    def score(spotter):
        z = np.log(posteriors) + (spotter.classifier.head.bias.detach() - first).double().numpy()
        return np.exp(z) / np.exp(z).sum(1, keepdims=True)

    return score


def test_it_is_applied_once_where_it_helps(checkpoint):
    labels, posteriors = drawn(20_000, 1.0)
    before = (posteriors.argmax(1) == labels).mean()
    score = scorer(checkpoint, posteriors)
    best, outcome = correct_shares(checkpoint, score, labels)
    assert best > before
    assert outcome.startswith("prior correction -")
    assert outcome.endswith(f"{before:.2%} without it")
    spotter, header = load_checkpoint(checkpoint)
    assert header["info"]["best_accuracy"] == best
    added = correction_of(header["info"], 3)
    assert added.numpy() == pytest.approx(CORRECTION, rel=0.1)
    assert correct_shares(checkpoint, score, labels) == (best, outcome)
    assert torch.equal(load_checkpoint(checkpoint)[0].classifier.head.bias, spotter.classifier.head.bias)


def test_it_is_left_out_where_validation_gets_worse(checkpoint):
    """Pooled posteriors need not follow the biases of single frames: here one more clip is wrong for it."""
    labels = np.array([0, 0, 1, 1, 2, 2, 2])
    posteriors = np.full((7, 3), 0.25) + 0.25 * np.eye(3)[labels]
    posteriors[0] = [0.34, 0.33, 0.33]
    answers = iter([posteriors, np.roll(posteriors, 1, axis=0)])
    before, _ = load_checkpoint(checkpoint)
    best, outcome = correct_shares(checkpoint, lambda _: next(answers), labels)
    assert outcome == f"prior correction left out: {4 / 7:.2%} with it"
    assert best == 0.5  # as the run measured it
    after, header = load_checkpoint(checkpoint)
    assert torch.equal(after.classifier.head.bias, before.classifier.head.bias)
    assert not correction_of(header["info"], 3).any()
