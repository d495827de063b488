"""One stream of a client: the words asked for, each heard by the spotter of its model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from wyoming.audio import AudioChunk

from kws.apps.reactions import ClipSaver
from kws.apps.wake.catalogue import Loaded, Word
from kws.audio.pcm import Pcm
from kws.runtime.detector import Detection
from kws.streaming import StreamingSpotter
from kws.system.arrays import Float32

BEFORE_SECONDS = 1.8  # kept before a word's end: the word, and the second before it


class Heard(NamedTuple):
    """A word that was asked for as `name`, and what its model said of it."""

    name: str
    detection: Detection


class _Ear:
    """A model's spotter, the names of the words that it is to hear, and what keeps them."""

    def __init__(self, loaded: Loaded, names: Mapping[str, list[str]], save: Path | None) -> None:
        self._spotter = StreamingSpotter(loaded.model, detector=loaded.detector)
        self._names, self.rate = names, loaded.model.sample_rate
        self._saver = ClipSaver(save, self.rate, BEFORE_SECONDS) if save else None

    def feed(self, samples: Float32) -> list[Heard]:
        return self._chosen(samples, self._spotter.feed(samples))

    def flush(self, samples: Float32) -> list[Heard]:
        heard = [*self.feed(samples), *self._chosen(samples[:0], self._spotter.flush())]
        self.close()
        return heard

    def close(self) -> None:
        if self._saver:
            self._saver.flush()

    def _chosen(self, samples: Float32, found: list[Detection]) -> list[Heard]:
        found = [detection for detection in found if detection.keyword in self._names]
        if self._saver:
            self._saver.add(samples, found)
        return [Heard(name, detection) for detection in found for name in self._names[detection.keyword]]


class WakeStream:
    """A stream at time 0, from `audio-start` to `audio-stop`."""

    def __init__(self, words: Mapping[str, Word], save: Path | None = None) -> None:
        """words: by the name that is told of them. save: the folder that keeps what is heard."""
        asked: dict[str, tuple[Loaded, dict[str, list[str]]]] = {}
        for name, word in words.items():
            _, names = asked.setdefault(word.loaded.name, (word.loaded, {}))
            names.setdefault(word.keyword, []).append(name)
        self._ears = [_Ear(loaded, names, save) for loaded, names in asked.values()]
        # By the rate of a model; that of no model checks the format where no word is heard.
        self._pcm: dict[int, Pcm] = {}
        self._format: tuple[int, int, int] | None = None
        self.heard_any = False

    def feed(self, chunk: AudioChunk) -> list[Heard]:
        """The next chunk -> what is heard with it. Raises `KwsError` for a format that there is not."""
        form, heard = (chunk.rate, chunk.width, chunk.channels), []
        if form != self._format:  # at first, or a client that changes its mind
            new = {rate: Pcm(*form, rate) for rate in {16000, *(ear.rate for ear in self._ears)}}
            heard = [found for ear in self._ears if self._pcm for found in ear.feed(self._pcm[ear.rate].flush())]
            self._format, self._pcm = form, new
        samples = {rate: pcm.process(chunk.audio) for rate, pcm in self._pcm.items()}
        return self._noted([*heard, *(found for ear in self._ears for found in ear.feed(samples[ear.rate]))])

    def stop(self) -> list[Heard]:
        """The end: what the last samples bring."""
        rest = {rate: pcm.flush() for rate, pcm in self._pcm.items()}
        return self._noted([heard for ear in self._ears if ear.rate in rest for heard in ear.flush(rest[ear.rate])])

    def close(self) -> None:
        """The client has gone: what is to be kept is kept."""
        for ear in self._ears:
            ear.close()

    def _noted(self, heard: list[Heard]) -> list[Heard]:
        self.heard_any = self.heard_any or bool(heard)
        return heard
