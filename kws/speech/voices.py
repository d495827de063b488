"""Who speaks: every voice of espeak-ng that sounds like a person, under a name like a Speech Commands speaker's."""

from __future__ import annotations

import hashlib

ACCENTS = "en en-us en-us-nyc en-gb-scotland en-gb-x-gbclan en-gb-x-gbcwmd en-gb-x-rp en-029"
# espeak-ng 1.52's variants without the robots, whispers, jokes and doubles of the default voice.
VOICES = """
    Alex Alicia Andrea Andy Annie AnxiousAndy Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Mario Michael Mike
    Nguyen Reed Storm adam anika antonio aunty belinda benjamin boris david ed edward edward2 f1 f2 f3 f4 f5 grandma
    grandpa gustave ian iven iven2 iven3 iven4 john klatt klatt2 klatt3 klatt4 klatt5 klatt6 linda m1 m2 m3 m4 m5 m6
    m7 m8 marcelo max michel miguel mike2 norbert pablo paul pedro quincy rob robert sandro shelby steph steph2 steph3
    travis victor zac
"""


def speakers() -> dict[str, str]:
    """Every speaker: eight hexadecimal digits -> voice (accent and variant)."""
    voices = [f"{accent}+{variant}" for accent in ACCENTS.split() for variant in VOICES.split()]
    return {hashlib.sha1(voice.encode()).hexdigest()[:8]: voice for voice in voices}
