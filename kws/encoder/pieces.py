"""What an encoder is trained on: pieces of speech as log-mel features, their phonemes, another model's embeddings.

Made once, shard by shard, each in a process of its own; a shard that is there is not made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kws.config import SpeechEmbeddingConfig
from kws.data.decode import read_int16
from kws.errors import DataError
from kws.speech.espeak import Espeak
from kws.speech.phonemes import from_ipa
from kws.system.arrays import Float16, Int16, Int64
from kws.system.atomic import whole_file
from kws.system.jobs import run_jobs
from kws.words.features import FRAME_LENGTH, new_spotter

SAMPLE_RATE, HOP_LENGTH = 16000, 160
HOPS = FRAME_LENGTH // HOP_LENGTH  # feature frames for each embedding
LEAD, GAP, END = 0.1, 0.1, 0.2  # s of faint noise before the first sound of a piece, between two, after the last
FAINT = 4.0  # RMS of it, of 32768
SHARD_PIECES = 200


@dataclass(frozen=True)
class Plan:
    """A piece to be made: audio files one after another, or a text that a synthetic voice says.

    `text`: what is said in it, "" where nobody knows.
    """

    files: list[str] = field(default_factory=list)
    text: str = ""
    voice: str = ""
    rate: int = 0
    pitch: int = 50


@dataclass
class Pieces:
    """N pieces one after another: features float16 `[T, 32]` every 10 ms, embeddings float16 `[T / 8, 96]`.

    ends: int64 `[N]`, the frame with which each ends; phonemes: of each, None where they are unknown.
    """

    features: Float16
    embeddings: Float16
    ends: Int64
    phonemes: list[tuple[str, ...] | None]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Pieces:
        """The shards `paths`, joined."""
        features, embeddings, ends, phonemes, start = [], [], [], [], 0
        for path in paths:
            with np.load(path) as file:
                features.append(file["features"])
                embeddings.append(file["embeddings"])
                ends.append(file["ends"] + start)
                phonemes += [None if said is None else tuple(said) for said in json.loads(str(file["phonemes"]))]
            start += len(features[-1])
        return cls(np.concatenate(features), np.concatenate(embeddings), np.concatenate(ends), phonemes)


def make_pieces(folder: Path, plans: Sequence[Plan], workers: int, seed: int) -> list[Path]:
    """The shards of `plans` in `folder`; made where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [plans[i : i + SHARD_PIECES] for i in range(0, len(plans), SHARD_PIECES)]
    paths = [folder / f"pieces-{i:03d}.npz" for i in range(len(parts))]
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    shards = [{"plans": [asdict(p) for p in parts[i]], "path": str(paths[i]), "seed": [seed, i]} for i in missing]
    jobs = [{"shards": shards[i::workers]} for i in range(min(workers, len(shards)))]
    if jobs:
        run_jobs(__name__, jobs, workers, sum(len(parts[i]) for i in missing), "hearing speech", True)
    return paths


def work(job: dict[str, Any], done: Callable[[int], None]) -> None:
    """Make each shard of `job["shards"]`."""
    torch.set_num_threads(1)
    ear, espeak = _Ear(), Espeak()
    for shard in job["shards"]:
        rng = np.random.default_rng(shard["seed"])
        features, embeddings, ends, phonemes, position = [], [], [], [], 0
        for plan in (Plan(**values) for values in shard["plans"]):
            ipa = ""
            if plan.text or plan.voice:
                espeak.choose_voice(plan.voice or "en-us")
                ipa = espeak.ipa(plan.text)
            if plan.voice:
                samples = espeak.say(plan.text, plan.rate, plan.pitch, 50)
                sounds = [np.clip(samples * 32767, -32768, 32767).astype(np.int16)]
            else:
                sounds = [read_int16(Path(path), SAMPLE_RATE) for path in plan.files]
            heard, embedded = ear(_joined(sounds, rng))
            features.append(heard)
            embeddings.append(embedded)
            position += len(heard)
            ends.append(position)
            phonemes.append(_phonemes(ipa) if ipa else None)
            done(1)
        with whole_file(Path(shard["path"])) as partial, partial.open("wb") as file:
            np.savez(file, features=np.concatenate(features), embeddings=np.concatenate(embeddings),
                     ends=np.array(ends), phonemes=json.dumps(phonemes))  # fmt: skip


def _phonemes(ipa: str) -> tuple[str, ...] | None:
    try:
        return from_ipa(ipa)
    except DataError:  # a foreign sound in an English text
        return None


def _joined(sounds: Sequence[Int16], rng: np.random.Generator) -> Int16:
    """The sounds with faint noise around them, a whole number of embeddings long."""
    starts, position = [], round(LEAD * SAMPLE_RATE)
    for sound in sounds:
        starts.append(position)
        position += len(sound) + round(GAP * SAMPLE_RATE)
    length = position + round((END - GAP) * SAMPLE_RATE)
    row = rng.normal(0, FAINT, -(-length // FRAME_LENGTH) * FRAME_LENGTH)
    for start, sound in zip(starts, sounds, strict=True):
        row[start : start + len(sound)] += sound
    return np.clip(np.round(row), -32768, 32767).astype(np.int16)


class _Ear:
    """Samples int16 `[S]` -> features and embeddings float16; each call goes on with the stream of the one before."""

    def __init__(self) -> None:
        spotter = new_spotter(("_unknown_", "word"), SpeechEmbeddingConfig()).eval()
        self._frontend, self._normalize = spotter.frontend, spotter.normalize
        encoder: Any = spotter.classifier.get_submodule("encoder")
        self._encoder = encoder
        self._states = [torch.zeros(1, int(size)) for size in (self._frontend.state_size, encoder.state_size)]

    @torch.inference_mode()
    def __call__(self, samples: Int16) -> tuple[Float16, Float16]:
        waveform = torch.from_numpy(samples.astype(np.float32) / 32768)[None]
        features, heard = self._frontend(waveform, self._states[0])
        embeddings, embedded = self._encoder(self._normalize(features), self._states[1])
        self._states = [heard, embedded]
        return features[0].numpy().astype(np.float16), embeddings[0].numpy().astype(np.float16)
