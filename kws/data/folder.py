"""Your own recordings: one folder of audio files per word, any sample rate and number of channels."""

from __future__ import annotations

from pathlib import Path

from kws.config import FolderConfig
from kws.data.scan import Listing, scan
from kws.data.splits import split_by_hash
from kws.system.errors import DataError


def find(config: FolderConfig) -> Listing:
    """List the recordings in `config.root`; `DataError` if there are none."""
    root = Path(config.root).expanduser()
    remedy = "give the folder that holds one folder of audio files per word"
    if not root.is_dir():
        raise DataError(f"data.root {root} is not a folder; {remedy}")
    listing = scan(root)
    if not listing.clips:
        raise DataError(f"data.root {root} holds no recordings; {remedy}")
    return listing


def splits(config: FolderConfig, listing: Listing) -> list[str]:
    """The split of each clip: by speaker where names carry one (`<speaker>_nohash_<n>`), else by path."""
    return split_by_hash(listing.clips, config.validation_percent, config.test_percent)
