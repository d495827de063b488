"""Scores of clips under one protocol each: isolated (from the zero state) and carried (joined into one stream)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch

from kws.config import whole_frames
from kws.data import Clips
from kws.model.spotter import KeywordSpotter
from kws.runtime.posteriors import pool_posteriors
from kws.system.arrays import Float32
from kws.system.progress import Stage

Posteriors = npt.NDArray[np.float64]

if TYPE_CHECKING:  # onnxruntime is not needed to train
    from kws.runtime.onnx_model import SpotterModel


class StepModel(Protocol):
    """Something that steps B streams at once, by any number of whole clips."""

    labels: tuple[str, ...]
    state_size: int
    pooling: str
    pool_frames: int
    isolated_batch: int  # streams that it steps at once
    carried_clips: int  # clips of a joined stream that it takes at once

    def step(self, waveform: Float32, state: Float32) -> tuple[Float32, Float32]:
        """`waveform` `[B, S]`, `state` `[B, state_size]` -> logits `[B, T, K]`, next state."""
        ...


class TorchModel:
    """A `KeywordSpotter` as a `StepModel`."""

    isolated_batch = 128
    carried_clips = 16

    def __init__(self, spotter: KeywordSpotter) -> None:
        """`spotter` must be in evaluation mode; it runs where its weights are."""
        self.spotter = spotter
        self.labels, self.state_size = spotter.labels, spotter.state_size
        self.pooling, self.pool_frames = spotter.model_config.pooling, spotter.pool_frames

    @torch.inference_mode()
    def step(self, waveform: Float32, state: Float32) -> tuple[Float32, Float32]:
        """See `StepModel`."""
        device = self.spotter.normalize.mean.device
        logits, next_state = self.spotter(torch.from_numpy(waveform).to(device), torch.from_numpy(state).to(device))
        return logits.float().cpu().numpy(), next_state.float().cpu().numpy()


class OnnxModel:
    """An ONNX file, stepped block by block as on a device, as a `StepModel`."""

    isolated_batch = 1
    carried_clips = 1

    def __init__(self, model: SpotterModel) -> None:
        """A model whose block size divides the clips that it is to score."""
        self.model = model
        self.labels, self.state_size = model.labels, model.state_size
        self.pooling = model.detector.pooling
        pool_ms = model.metadata["model"]["pool_ms"]
        self.pool_frames = whole_frames(pool_ms, model.sample_rate, model.frame_length)

    def step(self, waveform: Float32, state: Float32) -> tuple[Float32, Float32]:
        """See `StepModel`."""
        logits = []
        for block in np.split(waveform, waveform.shape[1] // self.model.block_size, axis=1):
            block_logits, state = self.model.step(block, state)
            logits.append(block_logits.copy())
            state = state.copy()
        return np.concatenate(logits, axis=1), state


def _clip_batches(clips: Clips, order: npt.NDArray[np.int64], size: int) -> Iterator[Float32]:
    for start in range(0, len(order), size):
        yield clips.waveforms(order[start : start + size]).astype(np.float32) / np.float32(32768)


def isolated_posteriors(model: StepModel, clips: Clips, progress: bool = False) -> Posteriors:
    """Posteriors `[N, K]` of every clip, each from the zero state."""
    posteriors = []
    with Stage("isolated", len(clips), show=progress) as stage:
        for waveform in _clip_batches(clips, np.arange(len(clips)), model.isolated_batch):
            logits, _ = model.step(waveform, np.zeros((len(waveform), model.state_size), np.float32))
            posteriors.append(pool_posteriors(logits[:, -model.pool_frames :], model.pooling))
            stage.advance(len(waveform))
    return np.concatenate(posteriors)


def carried_posteriors(model: StepModel, clips: Clips, seed: int = 0, progress: bool = False) -> Posteriors:
    """Posteriors `[N, K]` of every clip in one stream of all clips, in an order drawn from `seed`, never reset."""
    order = np.random.default_rng(seed).permutation(len(clips))
    state = np.zeros((1, model.state_size), np.float32)
    posteriors = []
    with Stage("carried", len(clips), show=progress) as stage:
        for waveform in _clip_batches(clips, order, model.carried_clips):
            logits, state = model.step(waveform.reshape(1, -1), state)
            by_clip = logits.reshape(len(waveform), -1, len(model.labels))
            posteriors.append(pool_posteriors(by_clip[:, -model.pool_frames :], model.pooling))
            stage.advance(len(waveform))
    shuffled = np.concatenate(posteriors)
    unshuffled = np.empty_like(shuffled)
    unshuffled[order] = shuffled
    return unshuffled
