"""What to say that is none of one's own words: sound-alikes and parts of them, and everyday words and phrases."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from kws.speech.sentences import grammar, holds

# Beginnings of words; those in a group sound alike: `kat` is no other word than `cat`.
BEGINNINGS = "b|d|f ph|g|h|j|k c q|l|m|n kn|p|r wr|s c z|t|v|w wh|st|tr"
VOWELS = "a|ee|i|o|oo|ow|y"
SYLLABLE = "[^aeiouy]*[aeiouy]+(?:[^aeiouy](?![aeiouy]))*"
EVERYDAY = ("who", "thing", "things", "adjective", "where", "when", "number")


def other_texts(keywords: Collection[str]) -> list[str]:
    """Texts to speak as `_unknown_`, none of which says one of `keywords`: sound-alikes, then everyday ones."""
    texts = [text for keyword in keywords for text in sound_alikes(keyword)]
    texts += [text for name in EVERYDAY for text in grammar()[name]]
    return [text for text in dict.fromkeys(texts) if not holds(text, keywords)]


def sound_alikes(keyword: str) -> list[str]:
    """What could be taken for `keyword`: another beginning or first vowel, a part; of a phrase, also each word alone.

    Changed by spelling, as a synthesiser reads it: a made-up word is as good as a real one.
    """
    words = keyword.lower().split()
    changed = {word: list(_changed(word)) for word in words}
    if len(words) == 1:
        return changed[words[0]]
    swapped = (
        " ".join([*words[:i], other, *words[i + 1 :]]) for i, word in enumerate(words) for other in changed[word]
    )
    return [*words, *swapped]


def _changed(word: str) -> Iterator[str]:
    if not (found := re.match("([^aeiouy]*)([aeiouy]+)(.*)", word)):
        return
    start, vowel, rest = found.groups()
    for group in map(str.split, BEGINNINGS.split("|")):
        if start not in group:
            yield group[0] + vowel + rest
    for other in VOWELS.split("|"):
        if other[0] != vowel[0] and rest:
            yield start + other + rest
    if len(syllables := re.findall(SYLLABLE, word)) > 1:
        yield "".join(syllables[:-1])
        yield "".join(syllables[1:])
