"""Clips decoded once into one flat int16 file, keyed by what was packed, and read from it by row."""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.data.scan import Listing
from kws.errors import DataError
from kws.system.arrays import Int16
from kws.system.atomic import whole_folder
from kws.system.jobs import cores, run_jobs

FORMAT = 1
CLIPS, NOISE, INDEX = "clips.int16", "noise.int16", "index.json"


class Rows:
    """A file of int16 rows `[N, length]`, read by position: no mapped page stays in the process's memory.

    A process that forks or unpickles it may read at the same time.
    """

    def __init__(self, path: Path, length: int) -> None:
        self.path, self.length = path, length
        self._file: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "length": self.length, "_file": None}

    def read(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> Int16:
        """Rows by number -> int16 `[len(rows), length]`, a fresh array."""
        if not hasattr(os, "preadv"):  # Windows
            return np.memmap(self.path, "<i2", "r").reshape(-1, self.length)[np.asarray(rows)]
        if self._file is None:
            self._file = os.open(self.path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)
        out = np.empty((len(rows), self.length), "<i2")
        for row, number in zip(out, rows, strict=True):
            if os.preadv(self._file, [row.data], int(number) * row.nbytes) != row.nbytes:
                raise DataError(f"{self.path} ends before row {number}; delete {self.path.parent} and run again")
        return out


@dataclass(frozen=True)
class Pack:
    """What `pack_clips` made: the listing it holds, its rows, and the noise recordings."""

    listing: Listing
    rows: Rows
    noise: list[Int16]  # one array per recording


def pack_clips(
    listing: Listing, sample_rate: int, clip_length: int, cache_dir: Path, workers: int = 0, progress: bool = True
) -> Pack:
    """Decode the clips and noise of `listing` into `cache_dir`, or find them there from an earlier run.

    Short clips are padded with zeros at the end, of longer ones the loudest `clip_length` samples are kept. `workers`
    processes decode; 0 means one per core. Raises `DataError` naming a file that cannot be used, and `DiskFullError`;
    nothing is kept then.
    """
    what = f"{FORMAT} {sample_rate} {clip_length} {listing.root.resolve()} {listing.fingerprint}"
    folder = cache_dir / f"pack-{hashlib.sha256(what.encode(errors='surrogateescape')).hexdigest()[:20]}"
    if not folder.is_dir():
        with whole_folder(folder, "data.cache_dir") as partial:
            _write(listing, sample_rate, clip_length, partial, workers or cores(), progress)
    return _open(listing, folder, clip_length)


def _write(listing: Listing, sample_rate: int, clip_length: int, folder: Path, workers: int, progress: bool) -> None:
    from kws.data.decode import read_int16

    file = folder / CLIPS
    file.touch()
    starts = np.linspace(0, len(listing.clips), min(workers, len(listing.clips)) + 1).astype(int).tolist()
    common = {"file": str(file), "sample_rate": sample_rate, "clip_length": clip_length}
    paths = [str(listing.file(clip)) for clip in listing.clips]
    jobs = [{**common, "row": start, "paths": paths[start:end]} for start, end in pairwise(starts)]
    run_jobs("kws.data.decode", jobs, workers, len(listing.clips), "decoding", progress)
    recordings = [read_int16(listing.root / path, sample_rate) for path in listing.noise]
    with (folder / NOISE).open("wb") as out:
        for recording in recordings:
            out.write(recording.astype("<i2").tobytes())
    index = {
        "format": FORMAT,
        "sample_rate": sample_rate,
        "clip_length": clip_length,
        "root": str(listing.root.resolve()),
        "clips": listing.clips,
        "noise": {path: len(recording) for path, recording in zip(listing.noise, recordings, strict=True)},
    }
    (folder / INDEX).write_text(json.dumps(index))


def _open(listing: Listing, folder: Path, clip_length: int) -> Pack:
    try:
        index = json.loads((folder / INDEX).read_text())
        noise = np.fromfile(folder / NOISE, "<i2")
        bounds = np.cumsum([0, *index["noise"].values()])
        whole = (folder / CLIPS).stat().st_size == len(listing.clips) * clip_length * 2 and len(noise) == bounds[-1]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} is damaged ({error}); delete it and run again") from error
    if not whole or index["clips"] != listing.clips:
        raise DataError(f"{folder} is damaged (its files do not match its index); delete it and run again")
    recordings = [noise[start:end] for start, end in pairwise(bounds)]
    return Pack(listing, Rows(folder / CLIPS, clip_length), recordings)
