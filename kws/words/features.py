"""What the speech embedding makes of scenes and of hours of speech, shard by shard, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kws.audio.levels import rms
from kws.config import FrontendConfig, SpeechEmbeddingConfig
from kws.data.decode import read_int16
from kws.errors import DataError
from kws.model.layer import Serial
from kws.model.speech_embedding import take_pretrained
from kws.model.spotter import KeywordSpotter
from kws.recordings.speech import pause
from kws.system.arrays import Float32, Int16
from kws.system.atomic import whole_file
from kws.words.mixing import SAMPLE_RATE, Mixer
from kws.words.speak import read_spoken

FRAME_LENGTH = 1280  # samples of one embedding
BLOCK = 200 * FRAME_LENGTH  # samples embedded at once
FRONTEND = FrontendConfig(n_mels=32, f_min=60.0, f_max=3800.0, mel_scale="slaney", log_offset=1e-7)


def new_spotter(labels: Sequence[str], model: SpeechEmbeddingConfig) -> KeywordSpotter:
    """A spotter whose convolutions are trained and whose head is not; its weights are from torch's generator."""
    spotter = KeywordSpotter(FRONTEND, model, labels)
    take_pretrained(spotter.normalize, spotter.classifier.get_submodule("encoder"))
    return spotter


class Embedder:
    """One stream of samples int16 -> embeddings float32 `[T, 96]`."""

    def __init__(self) -> None:
        spotter = new_spotter(("_unknown_", "word"), SpeechEmbeddingConfig()).eval()
        self._layers = Serial(spotter.frontend, spotter.normalize, spotter.classifier.get_submodule("encoder"))
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self._state = torch.zeros(1, self._layers.state_size)

    @torch.inference_mode()
    def __call__(self, samples: Int16) -> Float32:
        """The next samples of the stream, `[S]`, S a multiple of `FRAME_LENGTH`."""
        parts = []
        for start in range(0, len(samples), BLOCK):
            waveform = torch.from_numpy(samples[start : start + BLOCK].astype(np.float32) / 32768)[None]
            y, self._state = self._layers(waveform, self._state)
            parts.append(y[0].numpy())
        return np.concatenate(parts)


def work(job: dict[str, Any], done: Callable[[int], None]) -> None:
    """Embed each shard of `job["shards"]`, `scenes`, a file of clips, or `speech`, audio files in one stream."""
    torch.set_num_threads(1)
    for shard in job["shards"]:
        rng = np.random.default_rng(shard["seed"])
        arrays = _scenes(shard, rng, done) if "scenes" in shard else _speech(shard, rng, done)
        with whole_file(Path(shard["path"])) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)


def _scenes(shard: dict[str, Any], rng: np.random.Generator, done: Callable[[int], None]) -> dict[str, Any]:
    """`embeddings` float16 `[sum of lengths, 96]`, and of each scene `lengths`, `labels`, `onsets`, `offsets` (frames).

    `shard["talk"]`: audio files of real speech to stand beside the clips.
    """
    talk = [read_int16(Path(path), SAMPLE_RATE) for path in shard["talk"]]
    mixer, embed = Mixer(rng, [piece for piece in talk if len(piece) > SAMPLE_RATE and piece.any()]), Embedder()
    rows, known = [], []
    clips, labels, repeats = read_spoken(Path(shard["scenes"]))
    for clip, label, repeat in zip(clips, labels.tolist(), repeats.tolist(), strict=True):
        for _ in range(repeat):
            if len(clip) < SAMPLE_RATE // 20 or not clip.any():
                continue
            scene = mixer.scene(clip)
            embed.reset()
            rows.append(embed(scene.samples[: len(scene.samples) // FRAME_LENGTH * FRAME_LENGTH]).astype(np.float16))
            known.append((len(rows[-1]), label, scene.onset / FRAME_LENGTH, scene.offset / FRAME_LENGTH))
        done(1)
    if not rows:
        raise DataError(f"{shard['scenes']} holds no sound; delete it and start again")
    columns = dict(zip(("lengths", "labels", "onsets", "offsets"), zip(*known, strict=True), strict=True))
    return {"embeddings": np.concatenate(rows), **columns}


def _speech(shard: dict[str, Any], rng: np.random.Generator, done: Callable[[int], None]) -> dict[str, Any]:
    """`embeddings` float16 `[T, 96]`, and of each file `ends`, the frame with which it ends.

    `shard["heard"]`: whether rooms, noise and levels are put upon it.
    """
    embed, mixer = Embedder(), Mixer(rng, [])
    parts, ends = [], []
    for path in shard["speech"]:
        samples = read_int16(Path(path), SAMPLE_RATE)
        if shard["heard"] and samples.any():
            samples = mixer.heard(samples.astype(np.float32) / max(float(rms(samples)), 1.0))
        row = np.concatenate([samples, pause(SAMPLE_RATE)])
        parts.append(embed(row[: len(row) // FRAME_LENGTH * FRAME_LENGTH]).astype(np.float16))
        ends.append(len(parts[-1]))
        done(1)
    return {"embeddings": np.concatenate(parts), "ends": np.cumsum(ends)}
