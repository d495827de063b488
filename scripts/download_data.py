"""Downloads what the recipes hear beside Speech Commands: `python scripts/download_data.py DIR`, kept in ~/.cache/kws.

Some 19 GB. DIR gets the tables that `scripts/make_models.py` takes: speech/{train,calibrate,check}.csv (LibriSpeech's
train-clean-100, dev-clean and test-clean, no speaker in two), noise/{train,check}.csv and music.csv (MUSAN) and
rooms/{train,check}.csv (RIRS_NOISES, measured and simulated). CC BY 4.0, public domain, Apache-2.0.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from kws.data.public import public
from kws.recordings.speech import TRANSCRIPT_COLUMNS, Utterance, read_speech

REMEDY = "name tables of your own instead (scripts/make_models.py --help)"
SPEECH = {
    "train": "librispeech/train-clean-100",
    "calibrate": "librispeech/dev-clean",
    "check": "librispeech/test-clean",
}
CHECK_SHARE = 0.2
ROOMS = 2000  # most of the 60,000 simulated responses are much alike


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.exit(__doc__)
    place = Path(arguments[0])
    for part, name in SPEECH.items():
        write(place / "speech" / f"{part}.csv", read_speech(public(name, REMEDY), "DIR"))
    musan, rooms = public("musan", REMEDY) / "audio", public("rirs_noises", REMEDY) / "audio"
    write(place / "music.csv", (Utterance(path, "music") for path in find(musan, "music/*/*.wav")))
    # A simulated room is a folder, of which all or nothing is for checking.
    measured = [path for path in find(rooms, "real_rirs*/*.wav") if "noise" not in path.name]
    responses = [*measured, *sorted(find(rooms, "simulated_rirs/*/Room*/*.wav"), key=digest)[:ROOMS]]
    for kind, files in {"noise": find(musan, "noise/*/*.wav"), "rooms": responses}.items():
        for part, check in {"train": False, "check": True}.items():
            group = (Utterance(path, "") for path in files if checks(path, kind) is check)
            write(place / kind / f"{part}.csv", group)


def find(folder: Path, pattern: str) -> list[Path]:
    """What a set holds by its pattern; the archive's top folder has any name. Ends the program if that is nothing."""
    found = sorted(folder.glob(f"*/{pattern}"))
    return found or sys.exit(f"{folder} holds no {pattern}; remove {folder.parent} to download it again")


def digest(path: Path) -> str:
    return hashlib.sha256("/".join(path.parts[-3:]).encode()).hexdigest()


def checks(path: Path, kind: str) -> bool:
    """Whether a file belongs to what training does not hear."""
    group = path.parent if kind == "rooms" and path.parent.name.startswith("Room") else path
    return int(digest(group)[:8], 16) / 2**32 < CHECK_SHARE


def write(table: Path, rows: Iterable[Utterance]) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(TRANSCRIPT_COLUMNS)
        writer.writerows(rows)
    print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
