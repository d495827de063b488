"""espeak-ng in a process of its own: its state cannot be reset, so only a fresh process gives the same sound again."""

from __future__ import annotations

import ctypes
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.levels import INT16_FULL_SCALE, amplitude
from kws.audio.resample import resampled
from kws.errors import DataError
from kws.system.arrays import Float32, Int16

AUDIO_OUTPUT_SYNCHRONOUS, CHARS_UTF8, PHONEMES, IPA = 2, 1, 0x100, 2  # of espeak-ng's speak_lib.h, like the next line
RATE, PITCH, RANGE = 1, 3, 4
USUAL = 100
FASTEST = 450  # words per minute
AUDIBLE = 0.01  # of full scale: speech goes from the first to the last sample above it
SAMPLE_RATE = 16000


class Espeak:
    """The espeak-ng library of this process; make one and only one."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise DataError("synthetic speech needs espeak-ng; install it with: pip install 'kws[synth]'") from error
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.sample_rate = int(self._library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, data, 0))
        if self.sample_rate <= 0:
            raise DataError("espeak-ng does not start; try: pip install --force-reinstall espeakng-loader")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # its breath noise is seeded by the clock
        # text, its size, start, kind of start, end, flags, identifier, user data
        self._library.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int,
            ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        # address of the text, which moves on; its coding; how phonemes are written
        self._library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._sound: list[bytes] = []
        prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
        self._callback = prototype(self._receive)  # kept, or it is collected while the library holds it
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._sound.append(ctypes.string_at(samples, 2 * count))
        return 0

    def choose_voice(self, voice: str) -> None:
        """Speak as `<accent>+<variant>` from now on, at that voice's own pitch and speed."""
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise DataError(f"espeak-ng has no language or voice {voice!r}; choose another, such as en-us, de or fr")

    def ipa(self, text: str) -> str:
        """How the chosen voice pronounces `text`: IPA with `_` between phonemes, spaces between words.

        Phonemes may stand in `[[` and `]]` as in `say`; what follows the first that there is not is left out.
        """
        return self._phonemes(text, IPA | ord("_") << 8)

    def notation(self, text: str) -> str:
        """The same in espeak-ng's own ASCII notation, which `say` takes in brackets: `k@mpj'u:t3`."""
        return self._phonemes(text, 0)

    def _phonemes(self, text: str, mode: int) -> str:
        if "[[" in text:
            self.say("", USUAL, USUAL, USUAL)  # the library keeps from that call that it is to understand brackets
        rest, clauses = ctypes.c_char_p(text.encode() + b"\0"), []
        while rest.value:
            clause = self._library.espeak_TextToPhonemes(ctypes.byref(rest), CHARS_UTF8, mode)
            clauses.append((clause or b"").decode().strip())
        return " ".join(filter(None, clauses))

    def say(self, text: str, rate: int, pitch: int, pitch_range: int) -> Float32:
        """Speak `text`: rate in words per minute, pitch and range 0 .. 100 -> float32 `[S]` at 16 kHz.

        Silence is cut off at both ends; a text without sound gives an empty array. Phonemes of the voice's language
        may stand in `[[` and `]]`, in espeak-ng's own ASCII notation: `[[k@mpj'u:t3]]`.
        """
        for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._sound.clear()
        content = text.encode() + b"\0"
        self._library.espeak_Synth(content, len(content), 0, 0, 0, CHARS_UTF8 | PHONEMES, None, None)
        samples = np.frombuffer(b"".join(self._sound), np.int16).astype(np.float32) * np.float32(1 / INT16_FULL_SCALE)
        loud = np.flatnonzero(np.abs(samples) > AUDIBLE)
        if len(loud) == 0:
            return np.zeros(0, np.float32)
        return resampled(samples[loud[0] : loud[-1] + 1], self.sample_rate, SAMPLE_RATE)


def _speak_clip(espeak: Espeak, clip: dict[str, Any], clip_length: int) -> Int16:
    """One planned clip, int16 `[clip_length]`; spoken faster where it would not fit."""
    rate = clip["rate"]
    while True:
        speech = espeak.say(clip["text"], rate, clip["pitch"], clip["range"])
        if len(speech) == 0:
            raise DataError(f"espeak-ng cannot speak {clip['text']!r}; change data.words to English words")
        if len(speech) <= clip_length:
            break
        if rate == FASTEST:
            raise DataError(f"{clip['text']!r} does not fit into {clip_length / SAMPLE_RATE:g} s; raise data.clip_ms")
        rate = min(FASTEST, int(rate * 1.05 * len(speech) / clip_length) + 1)
    samples = np.zeros(clip_length, np.float32)
    start = int(clip["position"] * (clip_length - len(speech)))
    samples[start : start + len(speech)] = speech * (amplitude(clip["level_db"]) / np.abs(speech).max())
    return np.round(samples * 32767).astype(np.int16)


def write_wav(path: Path, samples: Int16) -> None:
    """Mono 16-bit WAV at 16 kHz of int16 `[S]`; by `wave`, as soundfile waits for the disk at every file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())


def work(job: dict[str, Any], done: Callable[[int], None]) -> None:
    """Write the WAV files of `job["clips"]`, voice by voice, below the folder `job["root"]`."""
    espeak = Espeak()
    voice = None
    for number, clip in enumerate(job["clips"], 1):
        if clip["voice"] != voice:
            voice = clip["voice"]
            espeak.choose_voice(voice)
        write_wav(Path(job["root"]) / clip["path"], _speak_clip(espeak, clip, job["clip_length"]))
        if number % 100 == 0 or number == len(job["clips"]):
            done(number % 100 or 100)
