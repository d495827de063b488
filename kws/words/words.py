"""The words asked for: what they may be, how they are said, and what is likely to go wrong with them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kws.errors import KwsError
from kws.speech.phonemes import distance, from_ipa, pronounce, written
from kws.speech.sentences import grammar

LONGEST_WORDS, LONGEST_PHONEMES, FEWEST_PHONEMES, SHORT_PHONEMES = 5, 30, 3, 6
NEAR_SHARE = 0.25  # of a word's phonemes, at least one: a word that differs in so many is one to be warned of
LATIN = ("en", "de", "fr", "es", "it", "pt", "nl", "sv", "nb", "da", "fi", "pl", "cs", "hu", "ro", "tr", "vi")
SILENT = "_: "  # pauses in espeak-ng's notation
ANY_PHONEME = "m"  # that every voice has
ALIKE_SHARE = 0.2  # two of one's own words may not be so near


@dataclass(frozen=True)
class Word:
    """One of the words: its label, what the synthesiser is given to say, its IPA and espeak-ng's, its phonemes."""

    label: str
    said: str
    ipa: str
    notation: str
    phonemes: tuple[str, ...]


def read_words(texts: Sequence[str], say: Mapping[str, str], language: str) -> list[Word]:
    """The words, pronounced. `say`: espeak-ng's own notation of a word's phonemes, where it says it wrongly.

    Raises `KwsError`, one sentence, for what is no word, cannot be said, is too short or too long, is said as another.
    """
    labels = [" ".join(text.lower().split()) for text in texts]
    for text, label in zip(texts, labels, strict=True):
        _check_spelling(text, label)
        _check_script(label, language)
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise KwsError(f"{twice!r} is given twice; give each word once")
    if unknown := sorted(set(say) - set(labels)):
        raise KwsError(f"--say names {unknown[0]!r}, which is none of the words: {', '.join(labels)}")
    said = [f"[[{''.join(say[label].split())}]]" if label in say else label for label in labels]
    words = []
    for label, text, (ipa, notation) in zip(labels, said, _pronounced(said, voice_of(language)), strict=True):
        phonemes = from_ipa(ipa)
        if not phonemes:
            raise KwsError(f"espeak-ng cannot say {label!r} in the language {language!r}; spell it as it sounds")
        words.append(Word(label, text, ipa.replace("_", ""), notation.strip(SILENT), phonemes))
        if not FEWEST_PHONEMES <= len(phonemes) <= LONGEST_PHONEMES:
            which = "short" if len(phonemes) < FEWEST_PHONEMES else "long"
            raise KwsError(
                f"{label!r} is too {which}: it has {len(phonemes)} phoneme{'s' * (len(phonemes) > 1)}, and a keyword "
                f"needs {FEWEST_PHONEMES} to {LONGEST_PHONEMES}; choose another"
            )
    for i, one in enumerate(words):
        for other in words[i + 1 :]:
            if distance(one.phonemes, other.phonemes) <= ALIKE_SHARE * len(one.phonemes):
                raise KwsError(f"{one.label!r} and {other.label!r} sound alike; choose words that differ more")
    return words


def _pronounced(said: Sequence[str], voice: str) -> list[tuple[str, str]]:
    """The IPA and the notation of what is said. Raises `KwsError` for phonemes that are none of the voice's.

    espeak-ng stops at the first that it does not know, so that another behind it changes nothing.
    """
    told = [number for number, text in enumerate(said) if text.startswith("[[")]
    found = written([*said, *(f"{said[number][:-2]}{ANY_PHONEME}]]" for number in told)], voice)
    for number, longer in zip(told, found[len(said) :], strict=True):
        phonemes = said[number][2:-2]
        if longer == found[number] or set(phonemes) & set("[]"):
            raise KwsError(
                f"--say {phonemes!r} holds what is no phoneme of espeak-ng's voice {voice}; write it as in k@mpj'u:t3"
            )
    return found[: len(said)]


def voice_of(language: str) -> str:
    """The voice of espeak-ng that tells how a language is pronounced."""
    return "en-us" if language == "en" else language


def _check_spelling(text: str, label: str) -> None:
    if not label:
        raise KwsError("a word is empty; give something to say")
    if any(not (c.isalpha() or unicodedata.combining(c) or c in " '’-") for c in label) or not label[0].isalpha():
        raise KwsError(f"{text!r} is not made of letters; write it as it is said, e.g. 'forty two'")
    if len(label.split()) > LONGEST_WORDS:
        raise KwsError(f"{text!r} has {len(label.split())} words; a keyword has at most {LONGEST_WORDS}")
    if len(label) > 100:
        raise KwsError(f"{text[:30]!r}... has {len(label)} letters; a keyword has at most 100")


def _check_script(label: str, language: str) -> None:
    """espeak-ng would say the names of letters that its language does not have: `Chinese letter`."""
    foreign = [c for c in label if c.isalpha() and not unicodedata.name(c, "").startswith("LATIN")]
    if foreign and language.split("-")[0] in LATIN:
        raise KwsError(f"{label!r} has letters that the language {language!r} does not; name its own with --language")


def warnings_of(words: Sequence[Word], lexicon: Collection[str], language: str) -> list[str]:
    """What the user should know before he waits, a sentence each: short words, near ones, parts of others."""
    found = []
    for word in words:
        if len(word.phonemes) < SHORT_PHONEMES:
            found.append(
                f"{word.label!r} is short ({len(word.phonemes)} phonemes): expect more misses and false alarms than of "
                f"a word of {SHORT_PHONEMES} or more"
            )
        for other in words:
            if other is not word and re.search(rf"\b{re.escape(word.label)}\b", other.label):
                found.append(f"{word.label!r} is part of {other.label!r}: it waits 0.8 s for the longer one")
    common = sorted({*lexicon, *(w for texts in grammar().values() for t in texts for w in re.findall("[a-z']+", t))})
    if language != "en" or not common:
        return found
    known = {}
    for text, ipa in zip(common, pronounce(common), strict=True):
        known[text] = from_ipa(ipa)
    for word in words:
        parts = set(re.findall("[a-z']+", word.label))
        near = [
            text
            for text, phonemes in known.items()
            if text not in parts and distance(word.phonemes, phonemes) <= max(1, NEAR_SHARE * len(word.phonemes))
        ]
        if near:
            found.append(f"{word.label!r} sounds like {', '.join(near[:6])}: expect it to be taken for that")
    return found
