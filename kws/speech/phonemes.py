"""Text to phonemes: espeak-ng's pronunciation, its accents and languages merged to the forty of `phonemes.txt`."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from kws.errors import DataError
from kws.speech.espeak import Espeak
from kws.system.jobs import run_jobs
from kws.system.lists import read_lists

BLANK = "_blank_"  # label of a frame that brings no new phoneme (CTC)
UNSAID = "ˈˌ.|‿_-ˑ˞ʲʷʰᵝ͡"  # marks in IPA that are no phoneme


@cache
def phonemes() -> tuple[str, ...]:
    """The phonemes that an encoder tells apart, in the order of its labels, without `BLANK`."""
    return read_lists("kws.speech", "phonemes.txt")["phonemes"]


@cache
def _symbols() -> dict[str, tuple[str, ...]]:
    symbols: dict[str, tuple[str, ...]] = {name: (name,) for name in phonemes()}
    for entry in read_lists("kws.speech", "phonemes.txt")["ipa"]:
        symbol, *named = entry.split(" ")
        symbols[unicodedata.normalize("NFC", symbol)] = tuple(name for name in named if name)
    return symbols


def from_ipa(ipa: str) -> tuple[str, ...]:
    """The phonemes of IPA, `_` or nothing between its symbols: `k_ə_m_p_j_ˈuː_ɾ_ɚ` -> k ə m p j u t ɚ.

    Raises `DataError` for a symbol that `phonemes.txt` does not know.
    """
    found: list[str] = []
    for word in unicodedata.normalize("NFC", ipa).split():
        for token in word.split("_"):
            rest = "".join(character for character in token if character not in UNSAID)
            while rest:
                size = next((n for n in (3, 2, 1) if rest[:n] in _symbols()), 0)
                if not size and rest[0] != "ː" and not unicodedata.combining(rest[0]) and not rest[0].isdigit():
                    raise DataError(f"the pronunciation {ipa!r} holds {rest[0]!r}, which is no phoneme that kws knows")
                found += _symbols()[rest[:size]] if size else ()
                rest = rest[size or 1 :]
    return tuple(found)


def pronounce(texts: Sequence[str], voice: str = "en-us") -> list[str]:
    """How espeak-ng's `voice` pronounces each text, in IPA (`Espeak.ipa`), found in a process of its own."""
    return [ipa for ipa, _ in written(texts, voice)]


def written(texts: Sequence[str], voice: str) -> list[tuple[str, str]]:
    """Each text in IPA (`Espeak.ipa`) and in espeak-ng's own notation (`Espeak.notation`)."""
    [found] = run_jobs(__name__, [{"texts": list(texts), "voice": voice}], 1, 1, "", False)
    return [(str(ipa), str(notation)) for ipa, notation in found]


def distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Phonemes to be put in, left out or changed to make the one the other (V. Levenshtein, 1966)."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def work(job: dict[str, Any], done: Callable[[int], None]) -> list[list[str]]:
    """IPA and notation of `job["texts"]` as `job["voice"]` speaks."""
    espeak = Espeak()
    espeak.choose_voice(job["voice"])
    return [[espeak.ipa(text), espeak.notation(text)] for text in job["texts"]]
