"""Kokoro-82M (hexgrad, 2025; Apache-2.0), a neural synthesiser, where its files are: another kind of voice.

The folder that the environment variable `KWS_KOKORO` names, or `~/.cache/kws/kokoro`, holds the model as `model.onnx`
(any of its exports) and its voices as `voices/*.bin`, float32 `[510, 1, 256]` each, as hexgrad published them.
"""

from __future__ import annotations

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
SAMPLE_RATE, STYLE_SIZE = 24000, 256
AUDIBLE = 0.02  # of the peak: speech goes from the first to the last sample above it


def folder() -> Path:
    """Where its files would be."""
    return Path(os.environ.get(SETTING, HOME)).expanduser()


def voices_of(language: str) -> list[str]:
    """Its voices that speak a language, each with the prefix; none where it is not installed."""
    if not (folder() / "model.onnx").is_file():
        return []
    names = sorted(path.stem for path in (folder() / "voices").glob("*.bin"))
    return [PREFIX + name for name in names if name[0] in ACCENTS.get(language, "")]


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
            self._session: Any = onnxruntime.InferenceSession(folder() / "model.onnx", options)
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
        name = voice.removeprefix(PREFIX)
        if name not in self._styles:
            style = np.fromfile(folder() / "voices" / f"{name}.bin", np.float32)
            self._styles[name] = style.reshape(-1, 1, STYLE_SIZE)
        tokens = [self._symbols[c] for c in ipa.replace("_", "") if c in self._symbols]
        styles = self._styles[name]
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
