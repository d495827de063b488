"""How weights move: AdamW, its learning rate from step to step, and the average of the weights that is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kws.config import TrainerConfig


def make_optimizer(model: nn.Module, config: TrainerConfig) -> AdamW:
    """AdamW whose weight decay leaves biases and normalisations alone."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def learning_rate(config: TrainerConfig, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then a cosine to zero at the last step."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, config.epochs * steps_per_epoch - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """The exponential average of a model's weights, a `decay` for each step.

    The decay grows to its value, so that early averages let go of the start.
    """

    def average(averaged: Any, current: Any, n_averaged: Any) -> None:
        n = int(n_averaged)
        warmed: Callable[[Any, Any, Any], None] = get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))
        warmed(averaged, current, n_averaged)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
