"""The sound of a stream: words and sentences placed in scenes with a level, room echo and background noise.

Runs in a process of its own for each file (`kws.system.jobs`), so a file depends on its seed alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kws.config import UNKNOWN
from kws.speech.espeak import SAMPLE_RATE, Espeak, write_wav
from kws.speech.sentences import sentence

Floats = NDArray[np.float32]
Int16 = NDArray[np.int16]

MARGIN, FADE = SAMPLE_RATE * 150 // 1000, SAMPLE_RATE * 20 // 1000  # sound kept around a word, and faded at its ends
FRAME = SAMPLE_RATE // 100
LONGEST_NOISE = 10 * SAMPLE_RATE
WORDS, NOISE, INDEX = "words.npy", "noise.npy", "words.json"


def word_bounds(clips: Int16) -> NDArray[np.int64]:
    """Where the word is in each clip int16 `[N, S]` at 16 kHz, by its energy -> onset and offset in samples `[N, 2]`.

    Frames of 10 ms whose level after pre-emphasis (for s and t are faint), smoothed over three, is above a quarter of
    the way from the clip's quiet (its lowest tenth, at most 40 dB below the loudest) to its loudest, in decibels; from
    the loudest outwards, over gaps of up to 200 ms.
    """
    n_frames = clips.shape[1] // FRAME
    clear = clips.astype(np.float32)
    clear[:, 1:] -= 0.95 * clear[:, :-1]
    frames = clear[:, : n_frames * FRAME].reshape(len(clips), n_frames, FRAME)
    power = np.pad(np.square(frames).mean(axis=2), ((0, 0), (1, 1)), mode="edge")
    level = 10 * np.log10((power[:, :-2] + power[:, 1:-1] + power[:, 2:]) / 3 + 1e-3)
    loudest = level.max(axis=1, keepdims=True)
    quiet = np.maximum(np.percentile(level, 10, axis=1, keepdims=True), loudest - 40)
    spoken = level >= quiet + 0.25 * (loudest - quiet)
    bounds = np.empty((len(clips), 2), np.int64)
    for i, row in enumerate(spoken):
        found = np.flatnonzero(row)
        groups = np.split(found, np.flatnonzero(np.diff(found) > 20) + 1)
        word = next(group for group in groups if level[i].argmax() in group)
        bounds[i] = word[0] * FRAME, (word[-1] + 1) * FRAME
    return bounds


def write_bank(folder: Path, clips: Iterator[Int16], labels: list[str], words: list[str], noise: Int16) -> None:
    """Cut the word out of every clip (batches int16 `[n, S]`) and write all, and the noise, for `work` to read."""
    pieces, index = [], []
    start = 0
    for batch in clips:
        for clip, (onset, offset) in zip(batch, word_bounds(batch).tolist(), strict=True):
            first, last = max(0, onset - MARGIN), min(len(clip), offset + MARGIN)
            pieces.append(clip[first:last].copy())
            index.append(
                {"start": start, "end": start + last - first, "onset": onset - first, "offset": offset - first}
            )
            start += last - first
    for entry, label, word in zip(index, labels, words, strict=True):
        entry.update(label=label, word=word)  # type: ignore[call-overload]
    np.save(folder / WORDS, np.concatenate(pieces) if pieces else np.zeros(0, np.int16))
    np.save(folder / NOISE, noise)
    (folder / INDEX).write_text(json.dumps(index))


def fade(samples: Floats) -> Floats:
    """Raise and lower both ends in place, in powers that add up to 1 where two sounds are joined."""
    ramp = np.sin(np.linspace(0, np.pi / 2, min(FADE, len(samples) // 2), dtype=np.float32))
    samples[: len(ramp)] *= ramp
    samples[len(samples) - len(ramp) :] *= ramp[::-1]
    return samples


class Piece(NamedTuple):
    """Something said: float32 `[n]` whose speech has an RMS of 1, between `onset` and `offset` (samples)."""

    samples: Floats
    onset: int
    offset: int
    label: str
    text: str


class Maker:
    """Makes one file."""

    def __init__(self, job: dict[str, Any]) -> None:
        bank = Path(job["bank"])
        self.options, self.rng = job["options"], np.random.default_rng(job["seed"])
        self.words: Int16 = np.load(bank / WORDS, mmap_mode="r")
        noise: Int16 = np.load(bank / NOISE)
        self.noise = np.resize(noise, max(len(noise), LONGEST_NOISE))
        self.by_label: dict[str, list[dict[str, Any]]] = {}
        for entry in json.loads((bank / INDEX).read_text()):
            self.by_label.setdefault(entry["label"], []).append(entry)
        self.keywords = [label for label in job["labels"] if not label.startswith("_")]
        self.voices, self.kind, self.length = job["voices"], job["kind"], round(job["seconds"] * SAMPLE_RATE)
        self._espeak: Espeak | None = None

    def make(self) -> tuple[Int16, list[list[Any]]]:
        """The sound int16 `[S]`, and what is said: [onset s, offset s, label, text]."""
        track, said = np.zeros(self.length, np.float32), []
        start = 0
        while start < self.length:
            scene = track[start : start + round(self._draw(20, 60) * SAMPLE_RATE)]
            for onset, piece in self._scene(scene):
                times = ((start + onset + end) / SAMPLE_RATE for end in (piece.onset, piece.offset))
                said.append([*(round(time, 4) for time in times), piece.label, piece.text])
            start += len(scene)
        return np.round(track * 32767).astype(np.int16), said

    def _draw(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def _option(self, name: str) -> float:
        return self._draw(self.options[f"{name}_min"], self.options[f"{name}_max"])

    def _scene(self, scene: Floats) -> list[tuple[int, Piece]]:
        """Fill `scene` with speech, echo and noise; what is said in it, each with the sample where its piece begins."""
        placed, position = [], 0
        for pause, piece in self._pieces():
            position += round(pause * SAMPLE_RATE)
            if position + len(piece.samples) > len(scene):
                break
            scene[position : position + len(piece.samples)] = piece.samples
            placed.append((position, piece))
            position += len(piece.samples)
        level = self._option("level_db")
        if placed and self.rng.random() < self.options["echo_probability"]:
            scene[:] = self._echo(scene)
        scene *= 10 ** (level / 20)
        noise_level = level - self._option("snr_db") if placed else self._draw(-60, -25)
        scene += np.float32(10 ** (noise_level / 20)) * self._background(len(scene))
        scene *= 0.98 / max(0.98, float(np.abs(scene).max()))
        return placed

    def _pieces(self) -> Iterator[tuple[float, Piece]]:
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

    def _word(self, entry: dict[str, Any]) -> Piece:
        samples = self.words[entry["start"] : entry["end"]].astype(np.float32)
        samples /= max(1.0, float(np.sqrt(np.square(samples[entry["onset"] : entry["offset"]]).mean())))
        return Piece(fade(samples), entry["onset"], entry["offset"], entry["label"], entry["word"])

    def _voice(self) -> Callable[[str], Floats]:
        """Somebody to speak: text -> float32 `[n]` with an RMS of 1."""
        self._espeak = espeak = self._espeak or Espeak()
        espeak.choose_voice(self.voices[self.rng.integers(len(self.voices))])
        rate, pitch, pitch_range = (int(self.rng.integers(*bounds)) for bounds in ((120, 220), (20, 81), (20, 91)))

        def speak(text: str) -> Floats:
            samples = espeak.say(text, rate, pitch, pitch_range)
            return samples / np.sqrt(np.square(samples).mean())

        return speak

    def _spoken(self, entry: dict[str, Any]) -> Piece:
        samples = self._voice()(entry["word"])
        return Piece(samples, 0, len(samples), entry["label"], entry["word"])

    def _sentences(self) -> Iterator[tuple[float, Piece]]:
        """One speaker's sentences."""
        speak = self._voice()
        while True:
            sound_alike = bool(self.rng.random() < self.options["sound_alike_share"])
            text = sentence(self.rng, self.keywords, self.options["split"], sound_alike)
            samples = speak(text)
            yield self._draw(0.2, 1.5), Piece(samples, 0, len(samples), UNKNOWN, text)

    def _echo(self, dry: Floats) -> Floats:
        """Speech in a room: the direct sound, and noise that falls by 60 dB in a drawn time."""
        decay = round(self._option("rt60_ms") / 1000 * SAMPLE_RATE)
        room = self.rng.standard_normal(decay, np.float32) * 10 ** (-3 * np.arange(decay, dtype=np.float32) / decay)
        room[: SAMPLE_RATE * 3 // 1000] = 0  # the nearest wall is half a metre away
        room *= 10 ** (-self._option("direct_db") / 20) / np.sqrt(np.square(room).sum())
        room[0] = 1
        size = 1 << (len(dry) + decay).bit_length()
        return np.fft.irfft(np.fft.rfft(dry, size) * np.fft.rfft(room, size), size)[: len(dry)].astype(np.float32)

    def _background(self, length: int) -> Floats:
        """Recorded noise float32 `[length]` with an RMS of 1: pieces of up to 10 s, cross-faded, faded at the ends."""
        out, start = np.zeros(length, np.float32), 0
        while start < length - FADE:
            n = min(int(self.rng.integers(LONGEST_NOISE // 2, LONGEST_NOISE)), length - start)
            first = int(self.rng.integers(len(self.noise) - n + 1))
            piece = self.noise[first : first + n].astype(np.float32)
            piece /= max(1.0, float(np.sqrt(np.square(piece).mean())))
            out[start : start + n] += fade(piece)
            start += n - FADE
        return out


def work(job: dict[str, Any], done: Callable[[int], None]) -> list[list[Any]]:
    """Write the WAV file `job["path"]`; what is said in it."""
    samples, said = Maker(job).make()
    write_wav(Path(job["path"]), samples)
    done(1)
    return said
