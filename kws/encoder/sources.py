"""Where an encoder's pieces come from: running speech, words, and what synthetic voices make of the same texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kws.data.splits import split_by_lists
from kws.encoder.pieces import Plan
from kws.recordings.speech import read_speech, says
from kws.speech.voices import speakers

ENGLISH = re.compile("[a-z' ]+")  # texts whose pronunciation espeak-ng's English voice knows
WORDS_IN_PIECE = 8  # clips of a word each
SPOKEN_WORDS, RATES, PITCHES = (1, 9), (90, 210), (20, 81)  # of a synthetic piece; words per minute; 0 .. 100


def speech_plans(table: Path, left_out: Sequence[str]) -> list[Plan]:
    """A piece for each file of English running speech that says none of `left_out`."""
    spoken = [u for u in read_speech(table, "data.speech") if ENGLISH.fullmatch(u.text)]
    return [Plan([str(u.path)], u.text) for u in spoken if not any(says(u.text, word) for word in left_out)]


def word_plans(root: Path, split: str, left_out: Sequence[str], count: int, rng: np.random.Generator) -> list[Plan]:
    """Pieces of eight clips, `count` clips in all, of a split of Speech Commands."""
    folders = [f for f in sorted(root.iterdir()) if f.is_dir() and f.name not in left_out and f.name[0] != "_"]
    names = [f"{folder.name}/{path.name}" for folder in folders for path in sorted(folder.glob("*.wav"))]
    clips = [root / name for name, of in zip(names, split_by_lists(root, names), strict=True) if of == split]
    chosen = [clips[i] for i in rng.permutation(len(clips))[:count]]
    parts = [chosen[i : i + WORDS_IN_PIECE] for i in range(0, len(chosen), WORDS_IN_PIECE)]
    return [Plan([str(path) for path in part], " ".join(path.parent.name for path in part)) for part in parts]


def spoken_plans(plans: Sequence[Plan], count: int, rng: np.random.Generator) -> list[Plan]:
    """`count` pieces of words of the texts of `plans`, in any order, by all synthetic voices."""
    words = np.array(sorted({word for plan in plans for word in plan.text.split()}))
    voices = list(speakers().values())
    return [
        Plan(
            text=" ".join(rng.choice(words, int(rng.integers(*SPOKEN_WORDS)))),
            voice=voices[int(rng.integers(len(voices)))],
            rate=int(rng.integers(*RATES)),
            pitch=int(rng.integers(*PITCHES)),
        )
        for _ in range(count)
    ]
