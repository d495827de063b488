"""The loss of a batch against the same written out lane by lane."""

from types import MappingProxyType

import numpy as np
import pytest
import torch

from kws.training.loss import lane_loss

LANES, FRAMES, LABELS, OTHERS, POOL = 6, 50, 4, (0, 1), 25


@pytest.fixture
def logits():
    return torch.randn(LANES, FRAMES, LABELS, generator=torch.Generator().manual_seed(0))


def pooled(logits):
    return logits[:, -POOL:].log_softmax(-1).logsumexp(1)


def flags(*lanes):
    return torch.tensor([lane in lanes for lane in range(LANES)])


def loss(logits, running, fresh, targets=None, smoothing=0.0, said=MappingProxyType({}), margin=0.0):
    targets = torch.arange(LANES) % LABELS if targets is None else targets
    allowed = torch.tensor([[k in (*OTHERS, said.get(lane)) for k in range(LABELS)] for lane in range(LANES)])
    return lane_loss(logits, pooled(logits), targets, running, fresh, allowed, POOL, smoothing, margin)


def test_without_running_speech_it_is_the_cross_entropy(logits):
    expected = torch.nn.functional.cross_entropy(pooled(logits), torch.arange(LANES) % LABELS, label_smoothing=0.1)
    torch.testing.assert_close(loss(logits, flags(), flags(), smoothing=0.1), expected)


def test_running_speech_is_no_keyword_in_every_frame(logits):
    p, scores = logits.softmax(-1), pooled(logits).log_softmax(-1)
    none = -(p[..., 0] + p[..., 1]).log()
    lanes = [-scores[lane, lane % LABELS] for lane in (0, 2, 5)]
    lanes += [none[3].mean(), none[4].mean(), none[1, -POOL:].mean()]
    torch.testing.assert_close(loss(logits, flags(1, 3, 4), flags(1)), sum(lanes) / LANES)


def test_a_keyword_that_the_text_says_may_be_heard(logits):
    p = logits.softmax(-1)
    lanes = [-(p[lane, :, :2].sum(1) + p[lane, :, 3] * (lane == 4)).log().mean() for lane in range(LANES)]
    torch.testing.assert_close(loss(logits, flags(*range(LANES)), flags(), said={4: 3}), sum(lanes) / LANES)


def test_a_margin_multiplies_what_is_allowed(logits):
    odds = logits.exp()
    none = odds[..., :2].sum(-1) * np.exp(3)
    lanes = -(none / (none + odds[..., 2:].sum(-1))).log().mean(1)
    torch.testing.assert_close(loss(logits, flags(*range(LANES)), flags(), margin=3), lanes.mean())


def test_targets_may_be_distributions(logits):
    taught = torch.nn.functional.one_hot(torch.arange(LANES) % LABELS, LABELS).float()
    running, fresh = flags(1, 2), flags(2)
    torch.testing.assert_close(loss(logits, running, fresh, taught), loss(logits, running, fresh))


def test_running_speech_is_taught_in_every_frame(logits):
    taught = torch.rand(LANES, FRAMES, LABELS, generator=torch.Generator().manual_seed(1)).softmax(-1)
    running, allowed = flags(1, 3), torch.ones(LANES, LABELS, dtype=torch.bool)
    targets = torch.arange(LANES) % LABELS
    heard = lane_loss(logits, pooled(logits), targets, running, flags(), allowed, POOL, taught=taught, weight=0.25)
    imitation = -(taught * logits.log_softmax(-1)).sum(-1).mean(1)
    clips = -pooled(logits).log_softmax(-1)[torch.arange(LANES), targets]
    torch.testing.assert_close(heard, torch.where(running, 0.25 * imitation, clips).mean())


def test_frames_that_still_hear_the_clip_before_carry_no_gradient(logits):
    logits.requires_grad_()
    loss(logits, flags(0, 1), flags(1)).backward()
    assert (logits.grad[0].abs().sum(1) > 0).all()
    assert (logits.grad[1, :-POOL] == 0).all()
    assert (logits.grad[1, -POOL:].abs().sum(1) > 0).all()
