"""The words, spoken by synthetic voices. What is none of them is real speech: spoken sound-alikes did harm."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.levels import saturated
from kws.errors import DataError
from kws.speech import kokoro
from kws.speech.espeak import SAMPLE_RATE, Espeak
from kws.speech.voices import voices_of
from kws.system.arrays import Int16, Int64
from kws.system.atomic import whole_file
from kws.system.jobs import run_jobs
from kws.words.words import Word, voice_of

CLIPS = 100  # of each word by Kokoro
ESPEAK_TIMES = 4  # as many by espeak-ng where it speaks alone
# Beside native voices of Kokoro it did harm; beside foreign ones it helped, with half as many scenes as theirs.
ESPEAK_BESIDE = 0.5
RATES, USUAL_RATE, PITCHES = (80, 180), 150, (20, 81)  # words per minute; 0 .. 100
LONGEST = 3.0  # s of a clip
KOKORO_SCENES = 3  # of each of its clips, which take long
Clip = dict[str, Any]  # label, text, voice, rate, pitch


def plan(said: Sequence[str], language: str, seed: int, count: int = CLIPS) -> list[Clip]:
    """What is to be spoken: dictionaries of `label` (a number of `said`), `text`, `voice`, `rate`, `pitch`.

    `said`: how each word is written for espeak-ng; `count`: clips of each.
    """
    rng = np.random.default_rng(seed)
    clips: list[Clip] = []
    neural = kokoro.voices_of(language)
    native = any(kokoro.is_native(voice, language) for voice in neural)
    for label, text in enumerate(said):
        clips += _drawn(label, text, count, neural, rng)
        if not native:
            times = round(count * (ESPEAK_BESIDE * KOKORO_SCENES if neural else ESPEAK_TIMES))
            clips += _drawn(label, text, times, voices_of(language), rng)
    names = sorted({str(clip["voice"]) for clip in clips})
    places = dict(zip(names, rng.permutation(len(names)).tolist(), strict=True))  # a part of the clips has all kinds
    return sorted(clips, key=lambda clip: places[str(clip["voice"])])


def _drawn(label: int, text: str, times: int, voices: Sequence[str], rng: np.random.Generator) -> list[Clip]:
    """A text so many times by voices in turn; none without voices."""
    clips: list[Clip] = []
    order = rng.permutation(len(voices))
    for number in range(times if len(voices) else 0):
        voice = voices[order[number % len(voices)]]
        rate, pitch = int(rng.integers(*RATES)), int(rng.integers(*PITCHES))
        clips.append({"label": label, "text": text, "voice": voice, "rate": rate, "pitch": pitch})
    return clips


def say_once(words: Sequence[Word], language: str) -> list[Int16]:
    """Each word by one voice, int16 `[S]`."""
    voice = (kokoro.voices_of(language) or voices_of(language))[0]
    clips = [{"label": 0, "text": word.said, "voice": voice, "rate": USUAL_RATE, "pitch": 50} for word in words]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.npz"
        job = {"language": voice_of(language), "shards": [{"clips": clips, "path": str(path)}]}
        run_jobs(__name__, [job], 1, len(words), "", False)
        return read_spoken(path)[0]


def read_spoken(path: Path) -> tuple[list[Int16], Int64, Int64]:
    """The clips of a file that `work` wrote, their labels, and how many scenes each is to stand in."""
    with np.load(path) as spoken:
        return np.split(spoken["samples"], spoken["ends"][:-1]), spoken["labels"], spoken["repeats"]


def work(job: dict[str, Any], done: Callable[[int], None]) -> None:
    """Speak each shard of `job["shards"]`: `clips`, of `plan`, into `path`.

    The file holds `samples` int16, and int64 `[n]` of each clip: where it `ends` in them, its number in `labels`, and
    `repeats`, the scenes that it is to stand in.
    """
    espeak = Espeak()
    neural: kokoro.Kokoro | None = None
    for shard in job["shards"]:
        sounds: list[Int16] = []
        voice = ""
        for clip in shard["clips"]:
            is_neural = clip["voice"].startswith(kokoro.PREFIX)
            if clip["voice"] != voice:
                voice = clip["voice"]
                espeak.choose_voice(job["language"] if is_neural else voice)
            if is_neural:
                neural = neural or kokoro.Kokoro()
                samples = neural.say(espeak.ipa(clip["text"]), voice, clip["rate"] / USUAL_RATE)
            else:
                samples = espeak.say(clip["text"], clip["rate"], clip["pitch"], 50)
            if not len(samples):
                raise DataError(f"espeak-ng cannot say {clip['text']!r}; write it as it sounds, with --say")
            sounds.append(saturated(samples[: round(LONGEST * SAMPLE_RATE)] * 32767))
            done(1)
        ends = np.cumsum([len(sound) for sound in sounds])
        labels = np.array([clip["label"] for clip in shard["clips"]])
        neural_clips = [clip["voice"].startswith(kokoro.PREFIX) for clip in shard["clips"]]
        repeats = np.where(neural_clips, KOKORO_SCENES, 1)
        with whole_file(Path(shard["path"])) as partial, partial.open("wb") as file:
            np.savez(file, samples=np.concatenate(sounds), ends=ends, labels=labels, repeats=repeats)
