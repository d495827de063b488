"""The parts that a run begins with: its batches, its augmentation, and a spotter, normalised by the data or loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from kws.config import SpeechEmbeddingConfig, TrainConfig, exact_samples
from kws.data import Clips, Corpus
from kws.data.batches import TrainBatches
from kws.data.rooms import read_noise, read_responses
from kws.data.speech import RunningSpeech
from kws.errors import KwsError
from kws.model.checkpoint import load_checkpoint
from kws.model.speech_embedding import take_pretrained
from kws.model.spotter import KeywordSpotter
from kws.recordings.speech import read_speech
from kws.system.arrays import Int16
from kws.training.augment import WaveformAugmenter


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
    elif isinstance(config.model, SpeechEmbeddingConfig):
        take_pretrained(spotter.normalize, spotter.classifier.get_submodule("encoder"))
    else:
        _fit_normalization(spotter, corpus.splits["train"], config.seed)
    return spotter


def make_batches(config: TrainConfig, corpus: Corpus, device: Any) -> TrainBatches:
    """Batches, of which this process gets its rows, with the noise that is added to them; `device` as of `connect`.

    Raises `KwsError` if the batch is no multiple of the processes.
    """
    batch_size, sample_rate = config.trainer.batch_size, config.frontend.sample_rate
    if batch_size % device.world_size:
        raise KwsError(f"trainer.batch_size {batch_size} is not a multiple of the {device.world_size} processes")
    folder = config.augment.noise_dir
    noise = read_noise(folder, sample_rate, "augment.noise_dir") if folder else None
    return TrainBatches(
        corpus, config.data, batch_size, config.seed, device.global_rank, device.world_size, sample_rate, noise
    )


def make_augmenter(config: TrainConfig, noise: Int16, device: torch.device) -> WaveformAugmenter:
    """What changes waveforms in training; `noise` int16 `[N]`."""
    folder, sample_rate = config.augment.rir_dir, config.frontend.sample_rate
    sound = torch.from_numpy(noise.astype(np.float32) / 32768).to(device)
    responses = None
    if folder:
        responses = torch.from_numpy(read_responses(folder, sample_rate, "augment.rir_dir")).to(device)
    return WaveformAugmenter(config.augment, sample_rate, sound, responses)


def validation_speech(config: TrainConfig, corpus: Corpus) -> RunningSpeech | None:
    """The speech of `data.speech_validation`, if that names any. Raises `KwsError` for what training hears, too."""
    place, heard = config.data.speech_validation, config.data.speech
    if not place:
        return None
    setting = "data.speech_validation"
    ours, theirs = (
        {utterance.path.resolve() for utterance in read_speech(Path(folder).expanduser(), option)} if folder else set()
        for folder, option in ((place, setting), (heard, "data.speech"))
    )
    if both := ours & theirs:
        raise KwsError(f"{setting} and data.speech both name {min(both)}; choose by speech that training does not hear")
    return RunningSpeech(place, config.frontend.sample_rate, config.data.cache_dir, setting, corpus.labels)


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
