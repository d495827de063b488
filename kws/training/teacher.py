"""Distillation: targets from a trained model that hears what the student hears (Hinton et al., 2015)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from kws.config import DistillationConfig
from kws.errors import KwsError
from kws.model.checkpoint import load_checkpoint
from kws.model.spotter import KeywordSpotter


class Teacher:
    """A trained spotter."""

    def __init__(self, config: DistillationConfig, student: KeywordSpotter, device: torch.device) -> None:
        """Raises `KwsError` if `config.teacher` does not know the student's labels at its sample rate."""
        path = Path(config.teacher)
        self.spotter, _ = load_checkpoint(path)
        theirs = {"labels": list(self.spotter.labels), "sample rate": self.spotter.frontend_config.sample_rate}
        ours = {"labels": list(student.labels), "sample rate": student.frontend_config.sample_rate}
        for what, value in theirs.items():
            if value != ours[what]:
                raise KwsError(
                    f"distillation.teacher={path} has the {what} {value}, this run {ours[what]}; "
                    "choose a teacher that was trained on the same data"
                )
        self.weight = config.weight
        self.spotter.to(device)

    def initial_state(self, batch_size: int) -> Tensor:
        """The start of `batch_size` streams."""
        return self.spotter.initial_state(batch_size)

    @torch.no_grad()
    def targets(self, waveform: Tensor, state: Tensor, labels: Tensor, adjustment: Tensor) -> tuple[Tensor, Tensor]:
        """Labels int64 `[B]` mixed with the teacher's posteriors of `waveform`, float32 `[B, K]`; its next state.

        `adjustment` `[K]`: added to the teacher's scores, as to the student's.
        """
        logits, state = self.spotter(waveform, state)
        taught = (self.spotter.pool(logits.float()) + adjustment).softmax(dim=1)
        hard = nn.functional.one_hot(labels, taught.shape[1]).to(taught)
        return torch.lerp(hard, taught, self.weight), state.float()
