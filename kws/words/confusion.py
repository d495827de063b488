"""What a spotter of one's own words takes for them: sound-alikes and parts of them, spoken and counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kws.errors import DataError
from kws.recordings.speech import pause
from kws.speech.phonemes import from_ipa, pronounce
from kws.speech.sound_alikes import sound_alikes
from kws.speech.voices import voices_of
from kws.streaming import StreamingSpotter
from kws.system.jobs import run_jobs
from kws.words.mixing import SAMPLE_RATE
from kws.words.speak import read_spoken
from kws.words.words import Word, voice_of

MOST_TEXTS, VOICES = 40, 6  # for each word; of espeak-ng
RATE, PITCH = 120, 50
AROUND = 4  # pauses of 0.3 s before and behind a clip


class Confusion(NamedTuple):
    """A text that is none of the words, made from `label`: how many of the voices that said it were taken for one."""

    label: str
    text: str
    fired: int
    said: int


def confusions(
    model: Path, words: Sequence[Word], language: str, folder: Path, rng: np.random.Generator
) -> list[Confusion]:
    """Of each word its sound-alikes and parts, at the model's own thresholds; what is said as a word is left out.

    folder: where what is spoken is put.
    """
    texts: dict[str, str] = {}
    for word in words:
        found = sound_alikes(word.label)
        texts |= {found[i]: word.label for i in sorted(rng.permutation(len(found))[:MOST_TEXTS].tolist())}
    voice, names = voice_of(language), voices_of(language)
    own = {word.phonemes for word in words}
    others = [text for text, ipa in zip(texts, pronounce(list(texts), voice), strict=True) if _sounds(ipa) not in own]
    voices = sorted(names[i] for i in rng.permutation(len(names))[:VOICES])
    clips = [
        {"label": number, "text": text, "voice": name, "rate": RATE, "pitch": PITCH}
        for name in voices
        for number, text in enumerate(others)
    ]
    path = folder / "alike.npz"
    job = {"language": voice, "shards": [{"clips": clips, "path": str(path)}]}
    run_jobs("kws.words.speak", [job], 1, len(clips), "speaking sound-alikes", True)
    spotter, fired = StreamingSpotter(model, engine="onnxruntime"), np.zeros(len(others), int)
    quiet = np.tile(pause(SAMPLE_RATE), AROUND)
    for clip, number in zip(*read_spoken(path)[:2], strict=True):
        fired[number] += bool([*spotter.feed(np.concatenate([quiet, clip, quiet])), *spotter.flush()])
    counts = zip(others, fired.tolist(), strict=True)
    return [Confusion(texts[text], text, count, len(voices)) for text, count in counts]


def _sounds(ipa: str) -> tuple[str, ...]:
    try:
        return from_ipa(ipa)
    except DataError:  # a foreign sound: none of the words has it
        return (ipa,)
