"""How the encoder learns: phonemes by CTC, and beside them the embeddings of a model that has heard far more speech.

A. Graves et al., "Connectionist Temporal Classification", ICML 2006. The second head is left out of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from kws.config import FrontendConfig, ModelConfig, RecurrentConfig, TrainerConfig
from kws.encoder.pieces import Pieces
from kws.encoder.rows import Row, Rows
from kws.errors import KwsError
from kws.model.layer import Serial
from kws.model.spotter import KeywordSpotter
from kws.speech.phonemes import BLANK, phonemes
from kws.system.atomic import whole_file
from kws.training.optimization import average_weights, learning_rate, make_optimizer
from kws.training.run_files import LAST_STEP

CLIP = 1.0  # largest gradient norm
EMBEDDING_SIZE = 96


class Options(NamedTuple):
    """Of a run: steps of the optimiser, rows in each, weight of the embeddings in the loss, and how often to save."""

    steps: int
    rows: int = 16
    embedding_weight: float = 1.0
    save_every: int = 25


def new_encoder(frontend: FrontendConfig, model: ModelConfig) -> KeywordSpotter:
    """An encoder with weights of torch's generator: logits of the blank and of each phoneme.

    Raises `KwsError` for a model whose frames cannot be told one by one.
    """
    if not isinstance(model, RecurrentConfig):
        raise KwsError(f"an encoder is a recurrent model, not {model.architecture}; choose model=small and its sizes")
    return KeywordSpotter(frontend, model, (BLANK, *phonemes()))


class _Learner(nn.Module):
    """Features -> logits, and embeddings at the times asked for."""

    def __init__(self, encoder: KeywordSpotter) -> None:
        super().__init__()
        config = cast(RecurrentConfig, encoder.model_config)
        self.encoder, self.embed = encoder, nn.Linear(config.hidden_size, EMBEDDING_SIZE)
        self.time_stride = config.time_stride

    def forward(self, features: Tensor, times: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """`[B, T, 32]` -> logits `[B, T / 3, K]`, embeddings `[sum of times, 96]`."""
        *trunk, head = self.encoder.classifier.children()
        layers = Serial(*trunk)
        x = self.encoder.normalize(features)
        y, _ = layers(x, x.new_zeros(len(x), layers.state_size))
        logits = head(y)
        at = [(t / self.time_stride - 1).clamp(0, y.shape[1] - 1.01) for t in times]
        lane = torch.cat([torch.full((len(t),), i) for i, t in enumerate(at)])
        place = torch.cat(at)
        first, share = place.long(), place.frac()[:, None]
        return logits, self.embed(y[lane, first] * (1 - share) + y[lane, first + 1] * share)


def learn(
    encoder: KeywordSpotter,
    pieces: Pieces,
    noise: Pieces,
    folder: Path,
    trainer: TrainerConfig,
    options: Options,
    seed: int,
    done: Callable[[int, str], Any],
) -> KeywordSpotter:
    """The encoder with averaged weights, in evaluation mode; goes on from what `folder` keeps of the same run."""
    torch.manual_seed(seed)
    learner = _Learner(encoder)
    learner.encoder.normalize.fit(torch.from_numpy(pieces.features[:: max(1, len(pieces.features) // 200_000)]).float())
    averaged = average_weights(learner, trainer.average_decay)
    optimizer = make_optimizer(learner, trainer)
    kept, begun = folder / LAST_STEP, 0
    if kept.is_file():
        saved = torch.load(kept, weights_only=True)
        learner.load_state_dict(saved["learner"])
        averaged.load_state_dict(saved["averaged"])
        optimizer.load_state_dict(saved["optimizer"])
        begun = int(saved["step"])
        done(begun, "")
    rows = iter(Rows(pieces, noise, np.random.default_rng([seed, begun])))
    losses = np.zeros(2)
    learner.train()
    for step in range(begun, options.steps):
        rate = learning_rate(trainer, step, max(1, options.steps // trainer.epochs))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = [next(rows) for _ in range(options.rows)]
        said, embedded = _losses(learner, batch)
        optimizer.zero_grad()
        (said + options.embedding_weight * embedded).backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), trainer.gradient_clip or CLIP)
        optimizer.step()
        averaged.update_parameters(learner)
        losses = 0.98 * losses + 0.02 * np.array([said.item(), embedded.item()])
        share = 1 - 0.98 ** (step - begun + 1)
        done(1, f"phonemes={losses[0] / share:.3f}, embeddings={losses[1] / share:.3f}")
        if (step + 1) % options.save_every == 0:
            with whole_file(kept) as partial:
                torch.save(
                    {"learner": learner.state_dict(), "averaged": averaged.state_dict(),
                     "optimizer": optimizer.state_dict(), "step": step + 1}, partial,
                )  # fmt: skip
    return cast(KeywordSpotter, averaged.module.encoder).eval()


def _losses(learner: _Learner, batch: Sequence[Row]) -> tuple[Tensor, Tensor]:
    features = torch.from_numpy(np.stack([row.features for row in batch]))
    logits, embeddings = learner(features, [torch.from_numpy(row.times) for row in batch])
    embedded = nn.functional.mse_loss(embeddings, torch.from_numpy(np.concatenate([row.embeddings for row in batch])))
    numbers = {name: i for i, name in enumerate((BLANK, *phonemes()))}
    known = [i for i, row in enumerate(batch) if row.phonemes]
    if not known:
        return embedded.new_zeros(()), embedded
    said = [[numbers[name] for name in batch[i].phonemes or ()] for i in known]
    lengths = torch.tensor([len(row) for row in said])
    log_posteriors = logits[known].log_softmax(-1).transpose(0, 1)
    frames = torch.full((len(known),), log_posteriors.shape[0])
    targets = torch.tensor([number for row in said for number in row])
    return nn.functional.ctc_loss(log_posteriors, targets, frames, lengths, zero_infinity=True), embedded
