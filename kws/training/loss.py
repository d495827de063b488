"""The loss of a batch: a clip is judged as a whole, running speech in every frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def lane_loss(
    logits: Tensor,
    scores: Tensor,
    targets: Tensor,
    running: Tensor,
    fresh: Tensor,
    allowed: Tensor,
    pool_frames: int,
    label_smoothing: float = 0.0,
    margin: float = 0.0,
    taught: Tensor | None = None,
    weight: float = 0.0,
) -> Tensor:
    """The mean over lanes of their cross-entropy.

    Of a lane that hears a clip: between its pooled `scores` `[B, K]` and its target, a label int64 `[B]` or a
    distribution `[B, K]`. Of a `running` lane, bool `[B]`: the mean over the frames of `logits` `[B, T, K]` of
    `-log p(allowed)`, the lane's `allowed` labels, bool `[B, K]`, together: those that are no keywords, for nobody
    knows which frames are pauses, and keywords that its text says, for nobody knows when. They are
    granted `margin`: a frame weighs little before a keyword's log ratio to them comes near it. Of that, `weight` parts
    are the cross-entropy with what a teacher hears in each frame, `taught` float32 `[B, T, K]`. A `fresh` lane, which
    still remembers the clip before, is judged by its last `pool_frames` alone.
    """
    clips = nn.functional.cross_entropy(
        scores[~running], targets[~running], label_smoothing=label_smoothing, reduction="sum"
    )
    if not running.any():
        return clips / len(scores)
    granted = allowed[running][:, None]
    p = (logits[running] + margin * granted).log_softmax(dim=-1)
    surprise = -p.masked_fill(~granted, -torch.inf).logsumexp(dim=-1)
    if taught is not None:
        imitation = nn.functional.cross_entropy(
            logits[running].transpose(1, 2), taught[running].transpose(1, 2), reduction="none"
        )
        surprise = torch.lerp(surprise, imitation, weight)
    early = torch.arange(logits.shape[1], device=logits.device) < logits.shape[1] - pool_frames
    judged = ~(fresh[running][:, None] & early)
    return (clips + ((surprise * judged).sum(1) / judged.sum(1)).sum()) / len(scores)
