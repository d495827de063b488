"""Who speaks: every voice of espeak-ng that sounds like a person, under a name like a Speech Commands speaker's."""

from __future__ import annotations

import hashlib

from kws.system.lists import read_lists


def speakers() -> dict[str, str]:
    """Every speaker: eight hexadecimal digits -> voice (accent and variant)."""
    lists = read_lists("kws.speech", "voices.txt")
    voices = [f"{accent}+{variant}" for accent in lists["accents"] for variant in lists["variants"]]
    return {hashlib.sha1(voice.encode()).hexdigest()[:8]: voice for voice in voices}


def voices_of(language: str) -> list[str]:
    """The voices that speak a language (`en`: all accents of the list): `<accent>+<variant>`."""
    lists = read_lists("kws.speech", "voices.txt")
    accents = lists["accents"] if language == "en" else (language,)
    return [f"{accent}+{variant}" for accent in accents for variant in lists["variants"]]
