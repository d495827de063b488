"""What an encoder is trained on: pieces of speech as a pretrained model's first layers hear them, and their phonemes.

Made once, shard by shard, each in a process of its own; a shard that is there is not made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kws.audio.levels import saturated
from kws.config import FrontendConfig, RecurrentConfig
from kws.data.decode import read_int16
from kws.errors import DataError
from kws.model.layer import Serial
from kws.model.speech_embedding import take_pretrained
from kws.model.spotter import KeywordSpotter
from kws.speech.espeak import Espeak
from kws.speech.phonemes import BLANK, from_ipa, phonemes
from kws.system.arrays import Float16, Int16, Int64
from kws.system.atomic import whole_file
from kws.system.jobs import run_jobs
from kws.words.mixing import SAMPLE_RATE, Mixer

LEAD, GAP, END = 0.1, 0.1, 0.2  # s of faint noise before the first sound of a piece, between two, after the last
FAINT = 4.0  # RMS of it, of 32768
SHARD_PIECES = 200
FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """A piece to be made: audio files one after another, or a text that a synthetic voice says.

    text: all that is said in it.
    """

    files: list[str] = field(default_factory=list)
    text: str = ""
    voice: str = ""
    rate: int = 0
    pitch: int = 50


@dataclass
class Pieces:
    """N pieces one after another: heard float16 `[T, D]`, the frames that the trained layers get.

    ends: int64 `[N]`, the frame with which each ends; phonemes: of each.
    """

    heard: Float16
    ends: Int64
    phonemes: list[tuple[str, ...]]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Pieces:
        """The shards `paths`, joined."""
        heard, ends, said, start = [], [], [], 0
        for path in paths:
            with np.load(path) as file:
                heard.append(file["heard"])
                ends.append(file["ends"] + start)
                said += [tuple(names) for names in json.loads(str(file["phonemes"]))]
            start += len(heard[-1])
        return cls(np.concatenate(heard), np.concatenate(ends), said)


def make_pieces(
    folder: Path, plans: Sequence[Plan], layers: tuple[FrontendConfig, RecurrentConfig], copy: int, workers: int
) -> list[Path]:
    """The shards of `plans` in `folder`, made where they are missing.

    layers: of the encoder; copy: 0 for the sounds as they are, else the number of a draw of rooms, noise and the like.
    """
    folder.mkdir(parents=True, exist_ok=True)
    common = {"frontend": asdict(layers[0]), "model": asdict(layers[1]), "copy": copy}
    parts = [[asdict(plan) for plan in plans[i : i + SHARD_PIECES]] for i in range(0, len(plans), SHARD_PIECES)]
    made_by = [FORMAT, asdict(layers[0]), layers[1].speech_convs, copy]
    paths = [folder / f"{_stamp([made_by, part])}.npz" for part in parts]
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    shards = [{"plans": parts[i], "path": str(paths[i]), "seed": [copy, i]} for i in missing]
    jobs = [{**common, "shards": shards[i::workers]} for i in range(min(workers, len(shards)))]
    if jobs:
        run_jobs(__name__, jobs, workers, sum(len(parts[i]) for i in missing), "hearing speech", True)
    return paths


def _stamp(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:20]


def new_encoder(frontend: FrontendConfig, model: RecurrentConfig) -> KeywordSpotter:
    """An encoder whose first layers are pretrained; the others are drawn from torch's generator.

    Its logits are those of the blank and of each phoneme.
    """
    encoder = KeywordSpotter(frontend, model, (BLANK, *phonemes()))
    take_pretrained(encoder.normalize, encoder.classifier)
    return encoder


def trained_layers(encoder: KeywordSpotter) -> Serial:
    """What follows the pretrained layers."""
    return Serial(*list(encoder.classifier.children())[PRETRAINED:])


PRETRAINED = 3  # parts of the classifier: image, convs, frames


def work(job: dict[str, Any], done: Callable[[int], None]) -> None:
    """Make each shard of `job["shards"]`."""
    torch.set_num_threads(1)
    hear, espeak = _Ear(FrontendConfig(**job["frontend"]), RecurrentConfig(**job["model"])), Espeak()
    for shard in job["shards"]:
        rng = np.random.default_rng(shard["seed"])
        mixer = Mixer(rng, []) if job["copy"] else None
        heard, ends, said, position = [], [], [], 0
        for plan in (Plan(**values) for values in shard["plans"]):
            done(1)
            espeak.choose_voice(plan.voice or "en-us")
            try:
                names = from_ipa(espeak.ipa(plan.text)) if plan.text else ()
            except DataError:  # a foreign sound in an English text
                continue
            if plan.voice:
                samples = espeak.say(plan.text, plan.rate, plan.pitch, 50)
                sounds = [saturated(samples * 32767)]
            else:
                sounds = [read_int16(Path(path), SAMPLE_RATE) for path in plan.files]
            heard.append(hear(_joined(sounds, mixer, rng)))
            position += len(heard[-1])
            ends.append(position)
            said.append(names)
        with whole_file(Path(shard["path"])) as partial, partial.open("wb") as file:
            np.savez(file, heard=np.concatenate(heard), ends=np.array(ends), phonemes=json.dumps(said))


def _joined(sounds: Sequence[Int16], mixer: Mixer | None, rng: np.random.Generator) -> Int16:
    """The sounds with a pause around each; through `mixer`, or with faint noise."""
    parts: list[Any] = []
    for number, sound in enumerate(sounds):
        parts.append(np.zeros(round((GAP if number else LEAD) * SAMPLE_RATE), np.float32))
        parts.append(mixer.paced(sound) if mixer else sound)
    parts.append(np.zeros(round(END * SAMPLE_RATE), np.float32))
    row = np.concatenate(parts).astype(np.float32)
    if mixer:
        return mixer.heard(row)
    return saturated(row + rng.normal(0, FAINT, len(row)))


class _Ear:
    """Samples int16 `[S]` -> what the trained layers of an encoder hear, float16 `[T, D]`, as one stream.

    A last frame that is not whole is left out.
    """

    def __init__(self, frontend: FrontendConfig, model: RecurrentConfig) -> None:
        encoder = new_encoder(frontend, model).eval()
        parts = list(encoder.classifier.children())[:PRETRAINED]
        self._layers = Serial(encoder.frontend, encoder.normalize, *parts)
        self._length = encoder.frame_length
        self._state = torch.zeros(1, self._layers.state_size)

    @torch.inference_mode()
    def __call__(self, samples: Int16) -> Float16:
        whole = samples[: len(samples) // self._length * self._length].astype(np.float32) / 32768
        heard, self._state = self._layers(torch.from_numpy(whole)[None], self._state)
        return np.asarray(heard[0].numpy().astype(np.float16))
