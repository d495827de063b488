"""Public sets of sound, downloaded once and kept in the user's cache: running speech with its text, noise, rooms."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import NamedTuple

from kws.data.download import fetch_whole
from kws.recordings.speech import TRANSCRIPT_COLUMNS, TRANSCRIPTS_FILE
from kws.system.atomic import whole_file, whole_folder

HOME = Path("~/.cache/kws")
SEEN = (
    "sha256.json"  # of archives for which no checksum is known: that of the first download, which later ones must have
)


class Archive(NamedTuple):
    """Where a set is to be had, and its SHA-256 where one is known."""

    url: str
    sha256: str = ""


OPENSLR = "https://www.openslr.org/resources/"
ARCHIVES = {
    # Mini LibriSpeech and LibriSpeech (V. Panayotov et al., 2015), CC BY 4.0; checksums as torchaudio 2.11 has them.
    "mini_librispeech/train-clean-5": Archive(OPENSLR + "31/train-clean-5.tar.gz"),
    "mini_librispeech/dev-clean-2": Archive(OPENSLR + "31/dev-clean-2.tar.gz"),
    "librispeech/train-clean-100": Archive(
        OPENSLR + "12/train-clean-100.tar.gz", "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2"
    ),
    "librispeech/dev-clean": Archive(
        OPENSLR + "12/dev-clean.tar.gz", "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3"
    ),
    "librispeech/test-clean": Archive(
        OPENSLR + "12/test-clean.tar.gz", "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23"
    ),
    # MUSAN (D. Snyder et al., 2015): noise, music and speech, CC BY 4.0 and public domain.
    "musan": Archive(OPENSLR + "17/musan.tar.gz"),
    # Impulse responses of measured and simulated rooms (T. Ko et al., 2017), Apache-2.0.
    "rirs_noises": Archive(OPENSLR + "28/rirs_noises.zip"),
}


def public(name: str, remedy: str, progress: bool = True) -> Path:
    """The folder of one of `ARCHIVES`, with `transcripts.csv` where it holds LibriSpeech's texts.

    Raises `DataError`, which ends in `remedy`, where it can't be downloaded, and where it is another file than before.
    """
    home = HOME.expanduser()
    target = home / name
    if not target.is_dir():
        archive = ARCHIVES[name]
        seen = json.loads((home / SEEN).read_text()) if (home / SEEN).exists() else {}
        expected = archive.sha256 or seen.get(archive.url, "")
        with whole_folder(target, "the cache") as partial:
            found = fetch_whole(archive.url, expected, partial / "audio", remedy, progress)
            write_transcripts(partial)
        if not expected:
            with whole_file(home / SEEN) as partial:
                partial.write_text(json.dumps({**seen, archive.url: found}, indent=2) + "\n")
    return target


def write_transcripts(folder: Path) -> None:
    """LibriSpeech's `*.trans.txt`, a line each of identifier and text, as one `transcripts.csv`, if there are any."""
    listings = sorted(folder.rglob("*.trans.txt"))
    if not listings:
        return
    with (folder / TRANSCRIPTS_FILE).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(TRANSCRIPT_COLUMNS)
        for listing in listings:
            for line in listing.read_text(encoding="utf-8").splitlines():
                identifier, _, text = line.partition(" ")
                path = (listing.parent / f"{identifier}.flac").relative_to(folder)
                rows.writerow([path.as_posix(), text.lower()])
