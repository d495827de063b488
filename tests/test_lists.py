"""Lists that come with the package: as they stand in the file, and free of what could not be drawn or spoken."""

from __future__ import annotations

import re
from pathlib import Path

from kws.speech.sentences import grammar, sound_alike_sentences
from kws.speech.voices import speakers
from kws.system.lists import read_lists

SPEECH = Path(__file__).parent.parent / "kws" / "speech"


def test_every_line_is_read_in_its_order() -> None:
    for name in ("grammar.txt", "sound_alikes.txt", "voices.txt"):
        lines = [line for line in (SPEECH / name).read_text().splitlines() if line and line[0] not in "#["]
        assert [entry for entries in read_lists("kws.speech", name).values() for entry in entries] == lines


def test_the_grammar_names_only_lists_that_there_are() -> None:
    named = {name for entries in grammar().values() for entry in entries for name in re.findall("<(.*?)>", entry)}
    assert named == set(grammar()) - {"sentence"}
    assert all(re.fullmatch(r"[A-Za-z<>', ]+", entry) for entries in grammar().values() for entry in entries)
    assert len(set(sound_alike_sentences())) == len(sound_alike_sentences())


def test_each_voice_is_a_speaker() -> None:
    lists = read_lists("kws.speech", "voices.txt")
    assert len(speakers()) == len(lists["accents"]) * len(lists["variants"])
