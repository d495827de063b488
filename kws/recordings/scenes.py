"""The sound of a recording: words and sentences in scenes, each with a level, room echo and background noise.

Runs in a process of its own for each file (`kws.system.jobs`), so a file depends on its seed alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kws.audio.levels import amplitude, rms, to_int16
from kws.config import UNKNOWN, keywords_of
from kws.recordings.echo import convolved, decaying_room
from kws.speech.espeak import SAMPLE_RATE, Espeak, write_wav
from kws.speech.sentences import sentence
from kws.system.arrays import Float32, Int16, Int64

MARGIN, FADE = SAMPLE_RATE * 150 // 1000, SAMPLE_RATE * 20 // 1000  # sound kept around a word, and faded at its ends
LONGEST_NOISE = 10 * SAMPLE_RATE
WORDS, NOISE, ROOMS, INDEX = (
    "words.npy",
    "noise.npy",
    "rooms.npy",
    "words.json",
)  # what `write_sounds` leaves for `work`

FRAME = SAMPLE_RATE // 100  # of the search for a word: 10 ms
PRE_EMPHASIS = 0.95  # s and t are faint
FAINTEST = 0.03  # in steps of int16: what is below counts as this
DEEPEST_QUIET_DB = 40.0  # quiet is taken to be at most so far below the loudest frame
SPEECH_SHARE = 0.25  # speech is louder than quiet by at least this share of the way to the loudest frame, in dB
LONGEST_GAP = 20  # frames within a word


def word_bounds(clips: Int16) -> Int64:
    """Where the word is in each clip int16 `[N, S]` at 16 kHz -> onset and offset in samples, int64 `[N, 2]`.

    Levels are those of frames of 10 ms, after pre-emphasis, averaged over three. A clip's levels lie between its quiet
    (a tenth of the frames are below) and its loudest frame; of that range in decibels the lowest quarter is no speech
    and the rest is. The word is all speech around the loudest frame, across gaps of up to 200 ms.
    """
    from librosa import amplitude_to_db
    from librosa.effects import preemphasis
    from librosa.feature import rms as frame_rms

    whole = clips[:, : clips.shape[1] // FRAME * FRAME].astype(np.float32)
    emphasised = preemphasis(whole, coef=PRE_EMPHASIS, zi=np.zeros((len(clips), 1)))
    padded = np.pad(emphasised, ((0, 0), (FRAME, FRAME)), mode="symmetric")
    smooth = frame_rms(y=padded, frame_length=3 * FRAME, hop_length=FRAME, center=False)[:, 0]
    level = amplitude_to_db(smooth, amin=FAINTEST, top_db=None)
    loudest = level.max(axis=1, keepdims=True)
    quiet = np.maximum(np.percentile(level, 10, axis=1, keepdims=True), loudest - DEEPEST_QUIET_DB)
    is_speech = level >= quiet + SPEECH_SHARE * (loudest - quiet)
    bounds = np.empty((len(clips), 2), np.int64)
    for i, row in enumerate(is_speech):
        speech = np.flatnonzero(row)
        stretches = np.split(speech, np.flatnonzero(np.diff(speech) > LONGEST_GAP) + 1)
        word = next(stretch for stretch in stretches if level[i].argmax() in stretch)
        bounds[i] = word[0] * FRAME, (word[-1] + 1) * FRAME
    return bounds


def write_sounds(
    folder: Path, clips: Iterator[Int16], labels: list[str], words: list[str], noise: Int16, rooms: Float32
) -> None:
    """Cut the word out of every clip (batches int16 `[n, S]`) and write all, noise and rooms, for `work` to read.

    `rooms`: impulse responses float32 `[R, L]`; R may be 0.
    """
    cut: list[Int16] = []
    index: list[dict[str, Any]] = []
    start = 0
    for batch in clips:
        for clip, (onset, offset) in zip(batch, word_bounds(batch).tolist(), strict=True):
            first, last = max(0, onset - MARGIN), min(len(clip), offset + MARGIN)
            cut.append(clip[first:last].copy())
            label, word = labels[len(index)], words[len(index)]
            bounds = {"start": start, "end": start + last - first, "onset": onset - first, "offset": offset - first}
            index.append({**bounds, "label": label, "word": word})
            start += last - first
    np.save(folder / WORDS, np.concatenate(cut) if cut else np.zeros(0, np.int16))
    np.save(folder / NOISE, noise)
    np.save(folder / ROOMS, rooms)
    (folder / INDEX).write_text(json.dumps(index))


def fade(samples: Float32) -> Float32:
    """Raise and lower both ends in place, in powers that add up to 1 where two sounds are joined."""
    ramp = np.sin(np.linspace(0, np.pi / 2, min(FADE, len(samples) // 2), dtype=np.float32))
    samples[: len(ramp)] *= ramp
    samples[len(samples) - len(ramp) :] *= ramp[::-1]
    return samples


class Sound(NamedTuple):
    """Something said: float32 `[n]` whose speech has an RMS of 1, from sample `onset` to sample `offset`."""

    samples: Float32
    onset: int
    offset: int
    label: str
    text: str


class Mixer:
    """Mixes one recording, scene by scene. `job`: see `work`."""

    def __init__(self, job: dict[str, Any]) -> None:
        folder = Path(job["sounds"])
        self.options, self.rng = job["options"], np.random.default_rng(job["seed"])
        self.words: Int16 = np.load(folder / WORDS, mmap_mode="r")
        noise: Int16 = np.load(folder / NOISE)
        self.noise = np.resize(noise, max(len(noise), LONGEST_NOISE))
        self.rooms: Float32 = np.load(folder / ROOMS)
        self.by_label: dict[str, list[dict[str, Any]]] = {}
        for entry in json.loads((folder / INDEX).read_text()):
            self.by_label.setdefault(entry["label"], []).append(entry)
        self.keywords = keywords_of(job["labels"])
        self.voices, self.kind, self.length = job["voices"], job["kind"], round(job["seconds"] * SAMPLE_RATE)
        self._espeak: Espeak | None = None

    def mix(self) -> tuple[Int16, list[list[Any]]]:
        """The sound int16 `[S]`, and what is said: [onset s, offset s, label, text]."""
        track, said = np.zeros(self.length, np.float32), []
        start = 0
        while start < self.length:
            scene = track[start : start + round(self._draw(20, 60) * SAMPLE_RATE)]
            for begin, sound in self._scene(scene):
                times = ((start + begin + end) / SAMPLE_RATE for end in (sound.onset, sound.offset))
                said.append([*(round(time, 4) for time in times), sound.label, sound.text])
            start += len(scene)
        return to_int16(track), said

    def _draw(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def _option(self, name: str) -> float:
        return self._draw(self.options[f"{name}_min"], self.options[f"{name}_max"])

    def _scene(self, scene: Float32) -> list[tuple[int, Sound]]:
        """Fill `scene` with speech, echo and noise; what is said in it, each with the sample with which it begins."""
        said, position = [], 0
        for pause, sound in self._sounds():
            position += round(pause * SAMPLE_RATE)
            if position + len(sound.samples) > len(scene):
                break
            scene[position : position + len(sound.samples)] = sound.samples
            said.append((position, sound))
            position += len(sound.samples)
        level = self._option("level_db")
        if said and self.rng.random() < self.options["echo_probability"]:
            scene[:] = self._echo(scene)
        scene *= amplitude(level)
        noise_level = level - self._option("snr_db") if said else self._draw(-60, -25)
        scene += np.float32(amplitude(noise_level)) * self._background(len(scene))
        scene *= 0.98 / max(0.98, float(np.abs(scene).max()))
        return said

    def _sounds(self) -> Iterator[tuple[float, Sound]]:
        """What may be said in a scene, without end, each after a pause in seconds."""
        kind = "words" if self.kind == "positive" else self._kind()
        if kind == "speech":
            yield from self._sentences()
        unknown = self.by_label.get(UNKNOWN, [])
        while kind == "words":
            keyword = self.kind == "positive" and (self.rng.random() < self.options["keyword_share"] or not unknown)
            choices = self.by_label[self.keywords[self.rng.integers(len(self.keywords))]] if keyword else unknown
            if not choices:
                return
            entry, pause = choices[self.rng.integers(len(choices))], self._option("pause_ms") / 1000
            spoken = self.rng.random() < self.options["spoken_share"]
            yield pause, self._spoken(entry) if spoken else self._word(entry)

    def _kind(self) -> str:
        share = self.rng.random()
        if share < self.options["speech_share"]:
            return "speech"
        return "words" if share < self.options["speech_share"] + self.options["word_share"] else "noise"

    def _word(self, entry: dict[str, Any]) -> Sound:
        samples = self.words[entry["start"] : entry["end"]].astype(np.float32)
        samples /= max(1.0, float(rms(samples[entry["onset"] : entry["offset"]])))
        return Sound(fade(samples), entry["onset"], entry["offset"], entry["label"], entry["word"])

    def _voice(self) -> Callable[[str], Float32]:
        """Somebody to speak: text -> float32 `[n]` with an RMS of 1."""
        self._espeak = espeak = self._espeak or Espeak()
        espeak.choose_voice(self.voices[self.rng.integers(len(self.voices))])
        rate, pitch, pitch_range = (int(self.rng.integers(*bounds)) for bounds in ((120, 220), (20, 81), (20, 91)))

        def speak(text: str) -> Float32:
            samples = espeak.say(text, rate, pitch, pitch_range)
            return samples / np.float32(rms(samples))

        return speak

    def _spoken(self, entry: dict[str, Any]) -> Sound:
        samples = self._voice()(entry["word"])
        return Sound(samples, 0, len(samples), entry["label"], entry["word"])

    def _sentences(self) -> Iterator[tuple[float, Sound]]:
        """One speaker's sentences."""
        speak = self._voice()
        while True:
            sound_alike = bool(self.rng.random() < self.options["sound_alike_share"])
            text = sentence(self.rng, self.keywords, self.options["split"], sound_alike)
            samples = speak(text)
            yield self._draw(0.2, 1.5), Sound(samples, 0, len(samples), UNKNOWN, text)

    def _echo(self, dry: Float32) -> Float32:
        """Speech in a room: by one of the impulse responses, or by the direct sound and noise that decays."""
        if not len(self.rooms):
            room = decaying_room(self.rng, self._option("rt60_ms") / 1000, self._option("direct_db"), SAMPLE_RATE)
            return convolved(dry, room)
        heard = convolved(dry, self.rooms[self.rng.integers(len(self.rooms))])
        return (heard * (rms(dry) / max(float(rms(heard)), 1e-9))).astype(np.float32)

    def _background(self, length: int) -> Float32:
        """Recorded noise float32 `[length]`, RMS 1: stretches of up to 10 s, cross-faded, faded at the ends."""
        out, start = np.zeros(length, np.float32), 0
        while start < length - FADE:
            n = min(int(self.rng.integers(LONGEST_NOISE // 2, LONGEST_NOISE)), length - start)
            first = int(self.rng.integers(len(self.noise) - n + 1))
            stretch = self.noise[first : first + n].astype(np.float32)
            stretch /= max(1.0, float(rms(stretch)))
            out[start : start + n] += fade(stretch)
            start += n - FADE
        return out


def work(job: dict[str, Any], done: Callable[[int], None]) -> list[list[Any]]:
    """Write the WAV file `job["path"]`; what is said in it: rows of onset s, offset s, label and text.

    `job`: `sounds`, the folder of `write_sounds`; `options` of `MakeStreamConfig`; the `labels` and espeak-ng's
    `voices`; `kind` (positive or negative), `seconds` and `seed` of this recording.
    """
    samples, said = Mixer(job).mix()
    write_wav(Path(job["path"]), samples)
    done(1)
    return said
