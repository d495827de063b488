"""Distillation: targets from trained models that hear what the student hears (Hinton et al., 2015)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from kws.config import DistillationConfig
from kws.errors import KwsError
from kws.model.checkpoint import load_checkpoint
from kws.model.spotter import KeywordSpotter


class Teacher:
    """One or several trained spotters, whose posteriors are averaged."""

    def __init__(
        self, config: DistillationConfig, student: KeywordSpotter, device: torch.device, every_frame: bool = False
    ) -> None:
        """Raises `KwsError` if one of `config.teachers` does not know the student's labels at its sample rate.

        `every_frame`: its frames will be taught too, so they have to be the student's.
        """
        self.spotters = [load_checkpoint(Path(path))[0].to(device) for path in config.teachers]
        ours = _facts(student, every_frame)
        for path, spotter in zip(config.teachers, self.spotters, strict=True):
            for what, value in _facts(spotter, every_frame).items():
                if value != ours[what]:
                    raise KwsError(
                        f"distillation.teachers: {path} has the {what} {value}, this run {ours[what]}; "
                        "choose a teacher that was trained on the same data"
                    )
        self.weight = config.weight

    def initial_state(self, batch_size: int) -> Tensor:
        """The start of `batch_size` streams: every teacher's state, side by side."""
        return torch.cat([spotter.initial_state(batch_size) for spotter in self.spotters], dim=1)

    @torch.no_grad()
    def targets(
        self, waveform: Tensor, state: Tensor, labels: Tensor, adjustment: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What a batch is to be taught, of labels int64 `[B]`, and the teachers' next state.

        The labels mixed with the teachers' posteriors of a clip, float32 `[B, K]`, `adjustment` `[K]` added to their
        scores as to the student's, and their posteriors in every frame, float32 `[B, T, K]`.
        """
        sizes = [spotter.state_size for spotter in self.spotters]
        heard = [spotter(waveform, own) for spotter, own in zip(self.spotters, state.split(sizes, dim=1), strict=True)]
        scores = [spotter.pool(logits.float()) for spotter, (logits, _) in zip(self.spotters, heard, strict=True)]
        taught = (torch.stack(scores) + adjustment).softmax(dim=-1).mean(dim=0)
        hard = nn.functional.one_hot(labels, taught.shape[1]).to(taught)
        frames = torch.stack([logits.float().softmax(dim=-1) for logits, _ in heard]).mean(dim=0)
        state = torch.cat([state for _, state in heard], dim=1).float()
        return torch.lerp(hard, taught, self.weight), frames, state


def _facts(spotter: KeywordSpotter, every_frame: bool) -> dict[str, object]:
    facts = {"labels": list(spotter.labels), "sample rate": spotter.frontend_config.sample_rate}
    return facts | ({"samples a frame": spotter.frame_length} if every_frame else {})
