"""Running English sentences from a small grammar, free of any given keywords, for hours of speech without them.

Every third pattern, word and sound-alike is kept for evaluation, so that nothing is measured on what was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np

from kws.errors import KwsError
from kws.system.lists import read_lists


def grammar() -> dict[str, tuple[str, ...]]:
    """Patterns of sentences (`sentence`), and the words and phrases that their `<name>` stand for."""
    return read_lists("kws.speech", "grammar.txt")


def sound_alike_sentences() -> tuple[str, ...]:
    """Sentences that hold a sound-alike of a core word of Speech Commands."""
    return read_lists("kws.speech", "sound_alikes.txt")["sentence"]


def of_split(choices: Sequence[str], split: str) -> Sequence[str]:
    """Those of `choices` that a split may say: every third is for evaluation, the others are for training."""
    return [choice for i, choice in enumerate(choices) if (i % 3 == 2) == (split != "train")] or choices


def holds(text: str, keywords: Collection[str]) -> bool:
    """Whether `text` says one of `keywords`, as whole words."""
    spoken = " ".join(["", *re.findall(r"[a-z']+", text.lower()), ""])
    return any(f" {keyword.lower()} " in spoken for keyword in keywords)


def sentence(rng: np.random.Generator, keywords: Collection[str], split: str, sound_alike: bool = False) -> str:
    """One sentence of a split without any of `keywords`; with `sound_alike`, one with a sound-alike of a keyword.

    Raises `ValueError` where the grammar has nothing to say without them.
    """

    def one_of(choices: Sequence[str]) -> str:
        choices = of_split(choices, split)
        return choices[int(rng.integers(len(choices)))]

    for _ in range(1000):
        text = one_of(sound_alike_sentences() if sound_alike else grammar()["sentence"])
        while name := re.search("<([a-z]+)>", text):
            text = text[: name.start()] + one_of(grammar()[name[1]]) + text[name.end() :]
        if not holds(text, keywords):
            return text
    raise KwsError(f"no sentence can be made without {', '.join(sorted(keywords))}; set speech_share=0")
