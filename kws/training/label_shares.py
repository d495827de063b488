"""Shares of labels: an epoch holds more unknown words and silence than evaluation, and what it holds is believed.

Training on `scores + adjustment`, with `adjustment = log(share in training / share in evaluation)`, makes `scores` fit
the shares of evaluation (logit adjustment; A. K. Menon et al., 2021). With running speech the shares of training are
not known, since nobody knows how much of it is silence. So after each epoch the biases that validation still asks for
are fitted, and the adjustment moves by half of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kws.config import is_keyword
from kws.system.arrays import Float64, Int64

STEP, MOST = 0.5, 4.0  # of what is asked for, and of the adjustment


def next_adjustment(
    adjustment: Sequence[float], posteriors: Float64, labels: Int64, names: Sequence[str]
) -> list[float]:
    """What to add to each label's score in the next epoch; 0 for keywords.

    `posteriors` `[N, K]` of validation clips whose labels are `labels` `[N]`, after an epoch with `adjustment`.
    """
    moved = np.asarray(adjustment) - STEP * fitted_correction(posteriors, labels, names)
    return moved.clip(-MOST, MOST).tolist()


def fitted_correction(posteriors: Float64, labels: Int64, names: Sequence[str]) -> Float64:
    """What to add to each label's log-posterior, float64 `[K]`: what is fitted, and 0 for keywords.

    Under a temperature and these biases, `posteriors` `[N, K]` make `labels` `[N]` likeliest (maximum a posteriori:
    their logarithms are normal about 0 with a deviation of 3, which matters for a handful of clips).
    """
    z, truth = torch.from_numpy(np.log(posteriors + 1e-30)), torch.from_numpy(np.asarray(labels, np.int64))
    others = [k for k, name in enumerate(names) if not is_keyword(name)]
    sharpness, bias = (torch.zeros(n, dtype=torch.float64, requires_grad=True) for n in (1, len(others)))
    optimizer = torch.optim.LBFGS([sharpness, bias], max_iter=100, line_search_fn="strong_wolfe")

    def surprise() -> Tensor:
        optimizer.zero_grad()
        scores = (z * sharpness.exp()).index_add(1, torch.tensor(others, dtype=torch.int64), bias.expand(len(z), -1))
        total = torch.nn.functional.cross_entropy(scores, truth, reduction="sum")
        total = total + (sharpness.square().sum() + bias.square().sum()) / (2 * 3**2)
        total.backward()
        return total

    optimizer.step(surprise)
    correction = np.zeros(len(names))
    correction[others] = (bias / sharpness.exp()).detach().numpy()
    return correction
