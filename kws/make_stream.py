"""Hours of audio with keywords at known times, and hours without: `python -m kws.make_stream output=DIR`.

The folder holds `*.wav` (16 kHz, 16 bits), `labels.csv` (file, onset, offset, keyword, text: all that is said, what is
no keyword as `_unknown_`) and `provenance.json`, which tells what it was made from.
"""

from __future__ import annotations

from kws import cli

if __name__ == "__main__":  # `kws make-stream`, before imports that may be missing
    cli.door("make-stream")

import csv
import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from kws import __version__, data, entry
from kws.config import is_keyword
from kws.data import Clips
from kws.data.rooms import read_noise, read_responses
from kws.data.splits import hash_split
from kws.errors import KwsError
from kws.recordings.config import MakeStreamConfig
from kws.recordings.labels import COLUMNS, LABELS_FILE
from kws.recordings.scenes import write_sounds
from kws.speech.espeak import SAMPLE_RATE
from kws.speech.voices import speakers
from kws.system.arrays import Int16
from kws.system.atomic import whole_folder
from kws.system.jobs import cores, run_jobs

BATCH = 1000  # clips read at once


def make_stream(config: MakeStreamConfig) -> Path:
    """Make a recording set by `config`; prints what it holds, returns its folder, which appears whole or not at all.

    Raises `ValueError` if the folder is there already, and what `kws.data.load` raises.
    """
    folder = Path(config.output).expanduser()
    if folder.exists():
        raise KwsError(f"{folder} is already there; delete it or choose another folder by output=...")
    # Every unknown word of the split may be said; silence is made here.
    source = replace(config.data, unknown_ratio=10.0, silence_ratio=0.0)
    corpus = data.load(source, SAMPLE_RATE, progress=True)
    clips = corpus.splits[config.split]
    plan = _plan(config)
    noise = corpus.noise[config.split]
    if config.noise_dir:
        noise = read_noise(config.noise_dir, SAMPLE_RATE, "noise_dir")
    rooms = np.zeros((0, 1), np.float32)
    if config.rir_dir:
        rooms = read_responses(config.rir_dir, SAMPLE_RATE, "rir_dir")
    with whole_folder(folder, "output") as partial, tempfile.TemporaryDirectory() as sounds:
        labels = [corpus.labels[label] for label in clips.labels]
        write_sounds(Path(sounds), _batches(clips), labels, clips.words, noise, rooms)
        common = {
            "sounds": sounds,
            "options": asdict(config),
            "labels": corpus.labels,
            "voices": [voice for name, voice in speakers().items() if hash_split(name) == config.split],
        }
        jobs = [{**common, **file, "path": str(partial / file["name"])} for file in plan]
        said = run_jobs("kws.recordings.scenes", jobs, config.workers or cores(), len(jobs), "making", True)
        with (partial / LABELS_FILE).open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out)
            writer.writerow([*COLUMNS, "text"])
            for file, rows in zip(plan, said, strict=True):
                writer.writerows([file["name"], *row] for row in rows)
        provenance = {"kws_version": __version__, "labels": corpus.labels, "config": asdict(config), "files": plan}
        (partial / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
    n_keywords = sum(is_keyword(row[2]) for rows in said for row in rows)
    print(f"{folder}: {config.positive_hours:g} h with {n_keywords} keywords, {config.negative_hours:g} h without")
    return folder


def _plan(config: MakeStreamConfig) -> list[dict[str, Any]]:
    """Name, kind, seconds and seed of every file."""
    files: list[dict[str, Any]] = []
    for number, (kind, hours) in enumerate(
        {"positive": config.positive_hours, "negative": config.negative_hours}.items()
    ):
        n_files = math.ceil(hours * 60 / config.file_minutes - 1e-9)
        for i in range(n_files):
            name, seed = f"{kind}-{i:04d}.wav", [config.seed, number, i]
            files.append({"name": name, "kind": kind, "seconds": hours * 3600 / n_files, "seed": seed})
    return files


def _batches(clips: Clips) -> Iterator[Int16]:
    for start in range(0, len(clips), BATCH):
        yield clips.waveforms(range(start, min(start + BATCH, len(clips))))


def register_schemas() -> None:
    """Make the options known to Hydra."""
    entry.register("make_stream_schema", MakeStreamConfig)
    entry.register_data_sources()


def main(arguments: Sequence[str]) -> int:
    """Entry of `kws make-stream`: the exit status."""
    register_schemas()
    return entry.main(make_stream, "make_stream", arguments)
