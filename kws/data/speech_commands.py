"""Google Speech Commands v0.01 and v0.02: where it lies, where it comes from, and the official test archive."""

from __future__ import annotations

from pathlib import Path

from kws.config import BACKGROUND_NOISE, SILENCE, UNKNOWN, SpeechCommandsConfig
from kws.data.labels import word_set
from kws.data.scan import Listing, scan
from kws.data.splits import LISTS
from kws.errors import DataError

URL = "http://download.tensorflow.org/data/speech_commands_{version}.tar.gz"
SHA256 = {
    "v0.01": "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
    "v0.02": "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
}


def looks_like_speech_commands(folder: Path) -> bool:
    """Whether `folder` holds the data set itself: its noise, one of its lists, or a folder of one of its words."""
    marks = (BACKGROUND_NOISE, *LISTS.values(), *word_set("35"))
    return folder.is_dir() and any((folder / mark).exists() for mark in marks)


def find(config: SpeechCommandsConfig, progress: bool = True) -> Listing:
    """List the data set in `config.root`, after downloading it if it is not there and `config.download` allows it.

    Only the default folder is made: one that is named and is not there is more often misspelt than meant.

    It lies in `root/SpeechCommands/speech_commands_<version>` (as torchaudio puts it),
    `root/speech_commands_<version>` or `root` itself. Raises `DataError` if it is not there and cannot be had.
    """
    name, root = f"speech_commands_{config.version}", Path(config.root).expanduser()
    home = root / "SpeechCommands" / name
    folder = next((folder for folder in (home, root / name, root) if looks_like_speech_commands(folder)), None)
    if folder is None:
        remedy = "choose data=synthetic (made here, nothing to download) or set data.root to a local copy"
        if not config.download:
            raise DataError(f"{root} holds no Speech Commands {config.version}, and data.download is false; {remedy}")
        if not root.is_dir() and config.root != SpeechCommandsConfig.root:
            raise DataError(f"data.root {root} is not a folder; {remedy}, or make that folder to download into it")
        from kws.data.download import fetch

        url = config.url or URL.format(version=config.version)
        fetch(url, SHA256[config.version], home, looks_like_speech_commands, remedy, progress)
        folder = home
    listing = scan(folder)
    if not listing.clips:
        raise DataError(f"{folder} holds no clips; remove it to download the data again, or set data.root to another")
    return listing


def find_test(test_dir: str) -> Listing:
    """List the official test archive unpacked in `test_dir`: keyword folders, `_unknown_` and `_silence_`."""
    folder = Path(test_dir).expanduser()
    if not folder.is_dir():
        raise DataError(f"data.test_dir {folder} is not a folder; unpack the official test archive and name its folder")
    listing = scan(folder, (UNKNOWN, SILENCE))
    if not listing.clips:
        raise DataError(f"data.test_dir {folder} holds no folder of clips; unpack the official test archive there")
    return listing
