"""What audio lies in a folder with one subfolder per word: found fast, never opened."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from kws.audio.suffixes import SUFFIXES
from kws.config import BACKGROUND_NOISE
from kws.errors import DataError


@dataclass(frozen=True)
class Listing:
    """The recordings below `root`: sorted relative paths `word/file`, noise recordings, and a hash of all of them."""

    root: Path
    clips: list[str]
    noise: list[str]
    fingerprint: str  # SHA-256 of paths, sizes and modification times
    elsewhere: Mapping[str, Path] = field(default_factory=dict)  # the root of words whose folder is not below `root`

    @cached_property
    def words(self) -> list[str]:
        """The spoken word of each clip: its folder."""
        return [path.split("/", 1)[0] for path in self.clips]

    @property
    def own_words(self) -> set[str]:
        """The words whose folders lie below `root`."""
        return set(self.words) - set(self.elsewhere)

    def file(self, clip: str) -> Path:
        """Where a clip lies."""
        return self.elsewhere.get(clip.split("/", 1)[0], self.root) / clip

    def joined(self, other: Listing) -> Listing:
        """These recordings and the words of `other`, none of which may be here."""
        both = hashlib.sha256(f"{self.fingerprint} {other.root.resolve()} {other.fingerprint}".encode()).hexdigest()
        return Listing(self.root, self.clips + other.clips, self.noise, both, dict.fromkeys(other.words, other.root))


def scan(root: Path, folders: tuple[str, ...] = ()) -> Listing:
    """List the audio files of every word folder of `root`, and of `folders`, whose names begin with an underscore.

    Other folders that begin with `_` or `.`, and hidden files, are passed over. Anything else in a word's folder that
    is not audio raises `DataError`: a clip in a format that cannot be read is not to be lost in silence.
    """
    clips: list[str] = []
    noise: list[str] = []
    stamps: dict[str, str] = {}
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    for name in names:
        if name.startswith((".", "_")) and name != BACKGROUND_NOISE and name not in folders:
            continue
        found = noise if name == BACKGROUND_NOISE else clips
        with os.scandir(root / name) as entries:
            for entry in entries:
                if entry.name.lower().endswith(SUFFIXES):
                    status = entry.stat()
                    path = f"{name}/{entry.name}"
                    found.append(path)
                    stamps[path] = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n"
                elif not entry.name.startswith(".") and name != BACKGROUND_NOISE:
                    kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
                    raise DataError(f"{entry.path} is not an audio file ({kinds}); convert it or move it away")
    clips.sort()
    noise.sort()
    content = "".join(stamps[path] for path in clips + noise)
    return Listing(root, clips, noise, hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest())
