"""Shares of labels: an epoch holds more unknown words and silence than evaluation; the head's biases make up for it.

`log(share in evaluation / share in training)`, added to a label's log-posterior, is right for calibrated posteriors of
like clips (M. Saerens, P. Latinne, C. Decaestecker, 2002). Ours come from augmented clips and smoothed labels: on clean
clips they are too careful, and the whole correction would turn clips that are surely unknown into keywords. So the
temperature that calibrates them is found first: `z / T + correction` decides as `z + T * correction` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kws.model.checkpoint import load_checkpoint, save_checkpoint
from kws.model.spotter import KeywordSpotter
from kws.system.arrays import Float64, Int64

_CORRECTION, _OUTCOME = "prior_correction", "prior_correction_outcome"  # in a checkpoint's info


def correction_of(info: Mapping[str, Any], n_labels: int) -> Tensor:
    """What was added to the logits of the checkpoint with this `info`, float32 `[K]`."""
    return torch.tensor(info.get(_CORRECTION, [0.0] * n_labels))


def temperature(posteriors: Float64, labels: Int64, correction: Float64) -> float:
    """The T from 0.05 to 1 under which `posteriors` `[N, K]`, corrected, make `labels` `[N]` likeliest."""

    def surprise(t: float) -> float:
        z = np.log(posteriors + 1e-30) / t + correction
        z -= z.max(axis=1, keepdims=True)
        return float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(labels)), labels]).sum())

    return min(np.geomspace(1, 0.05, 60).tolist(), key=surprise)


def attainable_accuracy(posteriors: Float64, labels: Int64, correction: Float64) -> float:
    """The share of `labels` `[N]` that `posteriors` `[N, K]` get right, corrected or not, which is more."""
    corrected = np.log(posteriors + 1e-30) + temperature(posteriors, labels, correction) * correction
    return max(float((scores.argmax(axis=1) == labels).mean()) for scores in (posteriors, corrected))


def correct_shares(
    path: Path, correction: Float64, score: Callable[[KeywordSpotter], Float64], labels: Int64
) -> tuple[float, str]:
    """Add `correction` float64 `[K]` times its temperature to the logits of the checkpoint at `path`, or nothing.

    Nothing where validation gets worse by it; and once, since the checkpoint remembers.

    Args:
        path: a checkpoint whose `info` holds `best_accuracy`.
        correction: what calibrated posteriors need.
        score: gives the posteriors `[N, K]` of the validation clips.
        labels: theirs, int64 `[N]`.

    Returns:
        the validation accuracy, and what was done, in words.
    """
    spotter, header = load_checkpoint(path)
    info = header["info"]
    if _OUTCOME not in info:
        posteriors = score(spotter)
        t = temperature(posteriors, labels, correction)
        spotter.add_bias(torch.from_numpy(t * correction))
        before, after = (float((p.argmax(axis=1) == labels).mean()) for p in (posteriors, score(spotter)))
        if after >= before:
            info |= {_CORRECTION: (t * correction).tolist(), "best_accuracy": after}
            info[_OUTCOME] = f"prior correction applied at temperature {t:.2f}: {before:.2%} without it"
        else:
            spotter, _ = load_checkpoint(path)
            info[_OUTCOME] = f"prior correction left out: {after:.2%} with it"
        save_checkpoint(path, spotter, info=info)
    return float(info["best_accuracy"]), str(info[_OUTCOME])
