"""How the encoder learns phonemes from whole texts: CTC (A. Graves et al., "Connectionist Temporal Classification",
ICML 2006) for the layers behind the pretrained ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kws.config import TrainerConfig
from kws.encoder.pieces import Pieces, trained_layers
from kws.encoder.rows import Row, Rows
from kws.model.spotter import KeywordSpotter
from kws.speech.phonemes import BLANK, phonemes
from kws.system.atomic import whole_file
from kws.training.optimization import average_weights, learning_rate, make_optimizer
from kws.training.run_files import LAST_STEP

CLIP = 1.0  # largest gradient norm
RESET = 0.1  # chance that a lane begins its next row from the zero state


class Options(NamedTuple):
    """Of a run: steps of the optimiser, rows in each, and how often to save."""

    steps: int
    rows: int = 16
    save_every: int = 25


def learn(
    encoder: KeywordSpotter,
    pieces: Pieces,
    folder: Path,
    trainer: TrainerConfig,
    options: Options,
    seed: int,
    done: Callable[[int, str], Any],
) -> KeywordSpotter:
    """The encoder with averaged weights, in evaluation mode; goes on from what `folder` keeps of the same run."""
    torch.manual_seed(seed)
    layers = trained_layers(encoder)
    averaged = average_weights(layers, trainer.average_decay)
    optimizer = make_optimizer(layers, trainer)
    kept, begun = folder / LAST_STEP, 0
    if kept.is_file():
        saved = torch.load(kept, weights_only=True)
        layers.load_state_dict(saved["layers"])
        averaged.load_state_dict(saved["averaged"])
        optimizer.load_state_dict(saved["optimizer"])
        begun = int(saved["step"])
        done(begun, "")
    rng = np.random.default_rng([seed, begun])
    rows = iter(Rows(pieces, rng))
    loss, state = 0.0, torch.zeros(options.rows, layers.state_size)
    layers.train()
    for step in range(begun, options.steps):
        rate = learning_rate(trainer, step, max(1, options.steps // trainer.epochs))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = [next(rows) for _ in range(options.rows)]
        kept_on = torch.from_numpy(rng.random(options.rows) > RESET)[:, None]
        logits, state = layers(torch.from_numpy(np.stack([row.heard for row in batch])), state * kept_on)
        state = state.detach()
        said = phoneme_loss(logits, batch)
        optimizer.zero_grad()
        said.backward()
        torch.nn.utils.clip_grad_norm_(layers.parameters(), trainer.gradient_clip or CLIP)
        optimizer.step()
        averaged.update_parameters(layers)
        loss = 0.98 * loss + 0.02 * said.item()
        done(1, f"nats a phoneme={loss / (1 - 0.98 ** (step - begun + 1)):.3f}")
        if (step + 1) % options.save_every == 0:
            with whole_file(kept) as partial:
                torch.save(
                    {"layers": layers.state_dict(), "averaged": averaged.state_dict(),
                     "optimizer": optimizer.state_dict(), "step": step + 1}, partial,
                )  # fmt: skip
    layers.load_state_dict(averaged.module.state_dict())
    return encoder.eval()


def phoneme_loss(logits: Tensor, batch: Sequence[Row]) -> Tensor:
    """The surprise `[]`, in nats for each phoneme said, at logits `[B, T, K]`."""
    numbers = {name: i for i, name in enumerate((BLANK, *phonemes()))}
    targets = torch.tensor([numbers[name] for row in batch for name in row.phonemes])
    lengths = torch.tensor([len(row.phonemes) for row in batch])
    frames = torch.full((len(batch),), logits.shape[1])
    surprise = nn.functional.ctc_loss(
        logits.log_softmax(-1).transpose(0, 1), targets, frames, lengths, reduction="sum", zero_infinity=True
    )
    return surprise / max(1, len(targets))
