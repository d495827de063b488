"""Shares of labels: an epoch holds more unknown words and silence than evaluation; the head's biases make up for it.

`log(share in evaluation / share in training)`, added to a label's log-posterior, is right for calibrated posteriors of
like clips (M. Saerens, P. Latinne, C. Decaestecker, 2002). Ours come from augmented clips and from running speech, of
which nobody knows how much is silence: neither the shares nor the temperature are known. So the biases are fitted, with
the temperature, to the validation clips: `z / T + bias` decides as `z + T * bias` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kws.config import is_keyword
from kws.model.checkpoint import load_checkpoint, save_checkpoint
from kws.model.spotter import KeywordSpotter
from kws.system.arrays import Float64, Int64

_CORRECTION, _OUTCOME = "prior_correction", "prior_correction_outcome"  # in a checkpoint's info


def correction_of(info: Mapping[str, Any], n_labels: int) -> Tensor:
    """What was added to the logits of the checkpoint with this `info`, float32 `[K]`."""
    return torch.tensor(info.get(_CORRECTION, [0.0] * n_labels))


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
        scores = (z * sharpness.exp()).index_add(1, torch.tensor(others), bias.expand(len(z), -1))
        total = torch.nn.functional.cross_entropy(scores, truth, reduction="sum")
        total = total + (sharpness.square().sum() + bias.square().sum()) / (2 * 3**2)
        total.backward()
        return total

    optimizer.step(surprise)
    correction = np.zeros(len(names))
    correction[others] = (bias / sharpness.exp()).detach().numpy()
    return correction


def attainable_accuracy(posteriors: Float64, labels: Int64, names: Sequence[str]) -> float:
    """The share of `labels` `[N]` that `posteriors` `[N, K]` get right, corrected or not, which is more."""
    corrected = np.log(posteriors + 1e-30) + fitted_correction(posteriors, labels, names)
    return max(float((scores.argmax(axis=1) == labels).mean()) for scores in (posteriors, corrected))


def correct_shares(path: Path, score: Callable[[KeywordSpotter], Float64], labels: Int64) -> tuple[float, str]:
    """Add the fitted correction to the logits of the checkpoint at `path`, or nothing.

    Nothing where validation gets worse by it; and once, since the checkpoint remembers.

    Args:
        path: a checkpoint whose `info` holds `best_accuracy`.
        score: gives the posteriors `[N, K]` of the validation clips.
        labels: theirs, int64 `[N]`.

    Returns:
        the validation accuracy, and what was done, in words.
    """
    spotter, header = load_checkpoint(path)
    info = header["info"]
    if _OUTCOME not in info:
        posteriors = score(spotter)
        correction = fitted_correction(posteriors, labels, spotter.labels)
        spotter.add_bias(torch.from_numpy(correction))
        before, after = (float((p.argmax(axis=1) == labels).mean()) for p in (posteriors, score(spotter)))
        if after >= before:
            added = ", ".join(f"{x:+.2f} {name}" for x, name in zip(correction, spotter.labels, strict=True) if x)
            info |= {_CORRECTION: correction.tolist(), "best_accuracy": after}
            info[_OUTCOME] = f"prior correction {added}: {before:.2%} without it"
        else:
            spotter, _ = load_checkpoint(path)
            info[_OUTCOME] = f"prior correction left out: {after:.2%} with it"
        save_checkpoint(path, spotter, info=info)
    return float(info["best_accuracy"]), str(info[_OUTCOME])
