"""SIGKILL at random moments: the next run must end as one that was never killed, and leave nothing else.

    python scripts/kill.py [--kills 50] [--seed 0] [pack export scan make-stream train]     # make kill

Each task is run once in peace, which says how long it takes and what it makes. Then, as often as asked for: from the
start again, killed with its processes' parent at a random moment of that time, run once more to its end, compared.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

REPO = Path(__file__).resolve().parent.parent
KWS = [sys.executable, "-m", "kws.cli"]
FOLDER = ["data=folder", "data.root=words", "data.label_set=all", "data.cache_dir=out/cache", "data.workers=1"]
PACK = (
    "from kws.config import FolderConfig as C; from kws.data import load; "
    "load(C(root='words', cache_dir='out', label_set='all', workers=1), 16000, progress=False)"
)
TRAIN = [
    "model=tiny",
    "trainer.epochs=4",
    "trainer.batch_size=8",
    "trainer.threads=1",
    "augment=none",
    "run_dir=out/run",
]


class Task(NamedTuple):
    """commands: to begin, and to go on after a kill. made: what it made, to be compared."""

    begin: list[str]
    again: list[str]
    made: Callable[[Path], object]


def bytes_of(folder: Path) -> object:
    """Every file's name and digest."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows_of(folder: Path) -> object:
    """The rows of a scan, in any order."""
    return sorted(line for path in folder.glob("*/*.jsonl") for line in path.read_text().splitlines())


def learned(folder: Path) -> object:
    """The numbers of every epoch but for its speed."""
    with (folder / "run" / "metrics.csv").open() as file:
        rows = [
            {name: value for name, value in row.items() if name != "clips_per_second"} for row in csv.DictReader(file)
        ]
    return rows, json.loads((folder / "run" / "result.json").read_text())["validation_accuracy"]


SCAN = [*KWS, "scan", "long", "--model", "gsc12_tiny", "--output", "out/scan", "--workers", "1", "--format", "jsonl"]
STREAM = [*KWS, "make-stream", *FOLDER, "output=out/hours", "positive_hours=0.01", "negative_hours=0.01"]
EXPORT = [*KWS, "export", "gsc12_tiny", "--variant", "c", "--output", "out/c"]
LEARN = [*KWS, "train", *FOLDER, *TRAIN]
TASKS = {
    "pack": Task([sys.executable, "-c", PACK], [sys.executable, "-c", PACK], bytes_of),
    "export": Task(EXPORT, EXPORT, bytes_of),
    "scan": Task(SCAN, [*SCAN, "--resume"], rows_of),
    "make-stream": Task(STREAM, STREAM, lambda folder: bytes_of(folder / "hours")),
    "train": Task(LEARN, [*LEARN, "resume=true"], learned),
}


def prepare(work: Path) -> None:
    """Words of tones, and some files to scan."""
    rng = np.random.default_rng(0)
    for frequency, word in ((400, "low"), (1500, "high")):
        (work / "words" / word).mkdir(parents=True)
        for i in range(40):
            tone = 0.3 * np.sin(2 * np.pi * frequency * np.arange(16000) / 16000) + 0.01 * rng.standard_normal(16000)
            soundfile.write(work / "words" / word / f"s{i}_nohash_0.wav", tone, 16000)
    (work / "long").mkdir()
    for i in range(12):
        soundfile.write(work / "long" / f"{i}.wav", 0.1 * rng.standard_normal(480_000), 16000)


def run(command: list[str], work: Path, seconds: float | None = None) -> float:
    """Seconds that a command took; killed after `seconds`."""
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    with (work / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=work, env=environment, stdout=log, stderr=log)
        try:
            status = process.wait(seconds)
            if status:
                raise SystemExit(f"error: {' '.join(command)}: {status}\n{(work / 'log').read_text()[-2000:]}")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return time.monotonic() - began


def kill(name: str, kills: int, rng: np.random.Generator, work: Path) -> list[str]:
    """Kill a task so often; what was found wrong."""
    task, out, wrong = TASKS[name], work / "out", []
    shutil.rmtree(out, ignore_errors=True)
    took = run(task.begin, work)
    peace = task.made(out)
    for number in range(kills):
        shutil.rmtree(out, ignore_errors=True)
        moment = float(rng.uniform(0, took))
        run(task.begin, work, moment)
        left = [path for path in work.rglob("*.partial-*")]
        fresh = not (out / "run" / "last.safetensors").exists() and not any(out.glob("scan/files/*"))
        run(task.begin if fresh else task.again, work)
        after = [str(path) for path in work.rglob("*.partial-*")]
        if (made := task.made(out)) != peace or after:
            wrong.append(f"{name}, killed after {moment:.2f} s: {after or made}"[:2000])
        print(
            f"{name} {number + 1}/{kills}: killed after {moment:.2f} of {took:.2f} s, {len(left)} partials", flush=True
        )
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS), choices=[*TASKS, []], metavar="TASK")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    wrong, rng = [], np.random.default_rng(options.seed)
    for name in options.tasks:
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder))
            wrong += kill(name, options.kills, rng, Path(folder))
    print(*wrong, f"{options.kills} kills of {', '.join(options.tasks)}: {len(wrong)} ended otherwise", sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
