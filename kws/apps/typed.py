"""Typed words, heard at once: an encoder (`kws train experiment=encoder`), its phonemes, a decoder; no training."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.config import UNKNOWN
from kws.errors import KwsError
from kws.runtime.detector import Detection
from kws.runtime.onnx_model import LogitStream, Samples, SpotterModel
from kws.runtime.phrases import PhraseDetector, PhraseScorer, threshold_of
from kws.speech.phonemes import from_ipa, pronounce

FEWEST_PHONEMES = 4
PREVIEW = "note: typed words are a preview; a spotter made by kws new misses fewer and raises fewer false alarms"


class TypedSpotter:
    """One stream of audio in which typed words are found; it is used as a `kws.streaming.StreamingSpotter`."""

    def __init__(
        self,
        texts: Sequence[str],
        encoder: str | Path,
        thresholds: Mapping[str, float] | float | None = None,
        language: str = "en-us",
    ) -> None:
        """A stream at time 0.

        Args:
            texts: words or phrases, as they are written.
            encoder: an ONNX file of the kind `phonemes`.
            thresholds: of single words, or one for all, between 0 and 1; the encoder's own hold for the rest.
            language: the voice of espeak-ng that pronounces them.

        Raises:
            KwsError: for a word that cannot be said, is too short or given twice, for another kind of model, without
                espeak-ng.
        """
        names = [" ".join(text.lower().split()) for text in texts]
        if not names or not all(names):
            raise KwsError("--words holds an empty word; give words with a comma between them")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise KwsError(f"--words names {twice!r} twice; give each word once")
        self.model = SpotterModel(encoder, kind="phonemes")
        self.labels = (UNKNOWN, *names)
        numbers = {label: number for number, label in enumerate(self.model.labels)}
        self.pronounced = dict(zip(names, pronounce(names, language), strict=True))
        said = [[numbers[phoneme] for phoneme in from_ipa(ipa)] for ipa in self.pronounced.values()]
        for name, phonemes in zip(names, said, strict=True):
            if len(phonemes) < FEWEST_PHONEMES:
                raise KwsError(
                    f"{name!r} has {len(phonemes)} phonemes ({self.pronounced[name]}); typed words need "
                    f"{FEWEST_PHONEMES} or more: choose a longer one, or make it with kws new"
                )
        seconds = self.model.frame_length / self.model.sample_rate
        self.thresholds = {
            name: threshold_of(self.model.metadata, len(phonemes)) for name, phonemes in zip(names, said, strict=True)
        }
        given = dict.fromkeys(names, thresholds) if isinstance(thresholds, float) else dict(thresholds or {})
        if unknown := sorted(set(given) - set(names)):
            raise KwsError(f"--threshold names {unknown[0]!r}, which is none of the words: {', '.join(names)}")
        self.thresholds |= given
        self._logits = LogitStream(self.model)
        self._detector = PhraseDetector(
            names, PhraseScorer(said, 0, seconds), [self.thresholds[name] for name in names], seconds
        )

    @property
    def scores(self) -> NDArray[np.float64]:
        """What each word scores now, float64 `[K]`, that of `_unknown_` first."""
        return np.concatenate([[0.0], self._detector.scores])

    def reset(self) -> None:
        """Begin a new stream at time 0."""
        self._logits.reset()
        self._detector.reset()

    def feed(self, samples: Samples) -> list[Detection]:
        """As `StreamingSpotter.feed`."""
        return self._detector.process(self._logits.feed(samples))

    def flush(self) -> list[Detection]:
        """As `StreamingSpotter.flush`."""
        found = self._detector.process(self._logits.flush())
        self.reset()
        return found


def typed_spotter(words: str, encoder: str, thresholds: Mapping[str, float] | float | None) -> TypedSpotter:
    """The words of `--words`; says how they are pronounced, and that this is a preview, on standard error."""
    spotter = TypedSpotter(words.split(","), encoder, thresholds)
    for name, ipa in spotter.pronounced.items():
        print(f"{name}: {ipa.replace('_', '')}", file=sys.stderr)
    print(PREVIEW, file=sys.stderr)
    return spotter
