"""A clip in a scene: a room, a level, a microphone's colour, noise, and perhaps somebody who goes on talking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import fft

from kws.audio.levels import amplitude, rms, saturated
from kws.data.noise import generated_noise
from kws.recordings.echo import convolved, decaying_room
from kws.system.arrays import Float32, Int16

SAMPLE_RATE = 16000
SCENE = 2.88  # s: 36 frames of 80 ms
AFTER = 0.65  # s of a scene that follow its word, at least
LEVEL_DB, SNR_DB, DIRECT_DB, RT60 = (-36.0, -16.0), (3.0, 30.0), (-2.0, 12.0), (0.15, 0.7)
ECHO_SHARE, TALK_SHARE, NOISE_SHARE, COLOUR_DB = 0.5, 0.5, 0.85, 6.0
NOISE_COLOURS = 8  # of each kind of noise
HEARD_THROUGH = repr((LEVEL_DB, SNR_DB, DIRECT_DB, RT60, ECHO_SHARE, NOISE_SHARE, COLOUR_DB))  # of `Mixer.heard`
SPEED = 0.15  # played faster or slower by at most


class Scene(NamedTuple):
    """int16 `[S]`, and where the clip lies in it, samples."""

    samples: Int16
    onset: int
    offset: int


class Mixer:
    """Scenes drawn one after another from one generator."""

    def __init__(self, rng: np.random.Generator, talk: Sequence[Int16]) -> None:
        """`talk`: pieces of real speech int16, to stand beside a clip and behind it; none: noise alone."""
        self.rng, self.talk = rng, talk
        kinds = [noise.astype(np.float32) for noise in generated_noise(rng, 20.0, SAMPLE_RATE).values()]
        self.noise = [kind if i == 0 else self._coloured(kind, 2.0) for kind in kinds for i in range(NOISE_COLOURS)]

    def scene(self, clip: Int16, seconds: float = SCENE) -> Scene:
        """A clip, whole, in a scene of `seconds`, or of its own length and 1 s where that is longer."""
        rng, sound = self.rng, self.paced(clip)
        length = max(round(seconds * SAMPLE_RATE), len(sound) + SAMPLE_RATE)
        latest = length - len(sound) - round(AFTER * SAMPLE_RATE)
        onset = int(rng.integers(latest // 2, max(latest, latest // 2 + 1)))
        track = np.zeros(length, np.float32)
        track[onset : onset + len(sound)] = sound
        if self.talk and rng.random() < TALK_SHARE:
            self._surround(track, onset, onset + len(sound))
        return Scene(self.heard(track), onset, onset + len(sound))

    def paced(self, clip: Int16) -> Float32:
        """A clip faster or slower, its pitch with it, of RMS 1: float32."""
        speed = 1 + self.rng.uniform(-SPEED, SPEED)
        sound = np.interp(np.arange(0, len(clip) - 1, speed), np.arange(len(clip)), clip).astype(np.float32)
        return sound / np.float32(max(float(rms(sound)), 1e-3))

    def heard(self, track: Float32) -> Int16:
        """What a microphone hears of dry speech float32 `[S]` of about RMS 1: int16 `[S]`."""
        rng = self.rng
        if rng.random() < ECHO_SHARE:
            track = convolved(track, decaying_room(rng, rng.uniform(*RT60), rng.uniform(*DIRECT_DB), SAMPLE_RATE))
        track = self._coloured(track)
        level = rng.uniform(*LEVEL_DB)
        if rng.random() < NOISE_SHARE:
            track = track + amplitude(-rng.uniform(*SNR_DB)) * self._background(len(track))
        track = track * np.float32(amplitude(level)) + rng.normal(0, 1e-4, len(track)).astype(np.float32)
        return saturated(track * 32768)

    def _surround(self, track: Float32, onset: int, offset: int) -> None:
        """Real speech before the clip, behind it, or both, a short pause away."""
        sides = int(self.rng.integers(1, 4))
        for side, room in ((1, onset), (2, len(track) - offset)):
            pause = round(self.rng.uniform(0.03, 0.4) * SAMPLE_RATE)
            n = room - pause
            if not sides & side or n < SAMPLE_RATE // 10:
                continue
            piece = self._piece(n) * np.float32(amplitude(self.rng.uniform(-8, 3)))
            if side == 1:
                track[:n] = piece
            else:
                track[offset + pause :] = piece[:n]

    def _piece(self, n: int) -> Float32:
        talk = self.talk[int(self.rng.integers(len(self.talk)))]
        start = int(self.rng.integers(max(1, len(talk) - n)))
        piece = np.resize(talk[start : start + n], n).astype(np.float32)
        return piece / np.float32(max(float(rms(piece)), 1.0))

    def _background(self, n: int) -> Float32:
        """Noise of RMS 1: one of the generated kinds, coloured anew, or somebody talking."""
        if self.talk and self.rng.random() < 0.3:
            return self._piece(n)
        noise = self.noise[int(self.rng.integers(len(self.noise)))]
        start = int(self.rng.integers(max(1, len(noise) - n)))
        sound = np.resize(noise[start : start + n], n)
        return sound / np.float32(max(float(rms(sound)), 1.0))

    def _coloured(self, sound: Float32, strength: float = 1.0) -> Float32:
        """Another gain in each octave, at about the RMS of before."""
        spectrum = fft.rfft(sound)
        octaves = np.log2(np.maximum(fft.rfftfreq(len(sound), 1 / SAMPLE_RATE), 30) / 30)
        gains = amplitude(np.interp(octaves, np.arange(10), self.rng.normal(0, strength * COLOUR_DB / 2, 10)))
        shaped = fft.irfft(spectrum * gains.astype(np.float32), len(sound))
        return (shaped * (rms(sound) / max(float(rms(shaped)), 1e-9))).astype(np.float32)
