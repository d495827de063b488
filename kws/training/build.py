"""The spotter that a run begins with: of its options; either normalised by its data or started from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from kws.config import TrainConfig, exact_samples
from kws.data import Clips, Corpus
from kws.errors import KwsError
from kws.model.checkpoint import load_checkpoint
from kws.model.spotter import KeywordSpotter


def build_spotter(config: TrainConfig, corpus: Corpus) -> KeywordSpotter:
    """A spotter for the labels of `corpus`, its weights drawn from torch's generator or those of `config.init_from`.

    Raises `KwsError` if clips are no whole number of its decisions, or the checkpoint is of other options.
    """
    spotter = KeywordSpotter(config.frontend, config.model, corpus.labels)
    sample_rate = config.frontend.sample_rate
    if exact_samples(config.data.clip_ms, sample_rate, "data.clip_ms") % spotter.frame_length:
        raise KwsError(
            f"data.clip_ms {config.data.clip_ms} is not a multiple of a decision every "
            f"{1000 * spotter.frame_length / sample_rate} ms (frontend.hop_ms x model.time_stride)"
        )
    if config.init_from:
        _start_from(spotter, Path(config.init_from))
    else:
        _fit_normalization(spotter, corpus.splits["train"], config.seed)
    return spotter


def _start_from(spotter: KeywordSpotter, path: Path) -> None:
    other, _ = load_checkpoint(path)
    for name in ("frontend_config", "model_config", "labels"):
        if getattr(other, name) != getattr(spotter, name):
            what = name.removesuffix("_config")
            raise KwsError(f"init_from={path} has another {what} than this run; choose the same options")
    spotter.load_state_dict(other.state_dict())


def _fit_normalization(spotter: KeywordSpotter, clips: Clips, seed: int) -> None:
    chosen = np.random.default_rng(seed).choice(len(clips), min(2000, len(clips)), replace=False)
    parts = np.array_split(np.sort(chosen), -(-len(chosen) // 200))
    spotter.fit_normalization([torch.from_numpy(clips.waveforms(part).astype(np.float32) / 32768) for part in parts])
