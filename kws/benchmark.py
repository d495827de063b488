"""What models cost at run time, beside peers, each in its own process: `kws benchmark MODEL...`."""

from __future__ import annotations

from kws import cli

if __name__ == "__main__":  # `kws benchmark`, before imports that may be missing
    cli.door("benchmark")

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kws.apps.info import describe
from kws.errors import KwsError
from kws.runtime.shipped import find_model
from kws.system.atomic import write_whole

PEERS = ("pymicro-wakeword", "silero-vad", "pyopen-wakeword", "pocketsphinx")


def benchmark(models: Sequence[str | Path], peers: bool = True, output: str | Path | None = None) -> dict[str, Any]:
    """Measure models: prints the tables and returns the figures.

    Args:
        models: ONNX files, names of shipped models, or checkpoints; a checkpoint is exported in float32, in int8 and
            for batches, in a process of its own (which needs torch; we do not). For other blocks export it yourself.
        peers: measure those of the extra `bench` too that are installed.
        output: a JSON file for the figures.
    """
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    streams: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for given in map(find_model, models):
            files = [given] if given.suffix == ".onnx" else _exports(given, Path(folder))
            for file in files:
                if describe(file)["batch_size"] == 1:
                    whole = _run("whole-file", file)
                    title = f"kws {file.stem if len(files) > 1 else file.name}"
                    rows.append({**_run("kws", file), "title": title, "times_real_time": whole["times_real_time"]})
                    try:
                        whole = _run("whole-file-c", file)
                        row = {"title": f"{title}, C engine", "times_real_time": whole["times_real_time"]}
                        rows.append({**_run("kws-c", file), **row})
                        streams.append({"model": f"{file.stem}, C engine", **_run("streams-c", file)})
                    except KwsError as error:
                        skipped[f"{title}, C engine"] = str(error)
                streams.append({"model": file.stem, **_run("streams", file)})
    for peer in PEERS if peers else ():
        try:
            rows.append({**_run(peer), "title": peer})
        except ModuleNotFoundError as error:
            skipped[peer] = f"{error}; pip install 'kws[bench]'"
        except KwsError as error:
            skipped[peer] = str(error)
    report = {"rows": rows, "skipped": skipped, "streams": streams}
    print(_table(rows))
    for peer, reason in skipped.items():
        print(f"{peer}: skipped, {reason}")
    print("\nstreams that one core keeps up with in real time (model alone / with detectors; C engine: with detectors)")
    for measured in streams:
        counts = (
            f"N={row['n']:g}: " + " / ".join(f"{row[key]:,.0f}" for key in ("model", "spotter") if key in row)
            for row in measured["streams"]
        )
        print(f"{measured['model']}, blocks of {measured['block_ms']:g} ms: {', '.join(counts)}")
    if output:
        write_whole(Path(output), (json.dumps(report, indent=2) + "\n").encode())
        print(output)
    return report


def _exports(checkpoint: Path, folder: Path) -> list[Path]:
    """Files that `kws export` makes of a checkpoint, all in one process, for torch is slow to start."""
    options = {"float32": [], "int8": ["--precision", "int8"], "batch": ["--batch-size", "0"]}
    paths = [folder / f"{name}.onnx" for name in options]
    calls = [
        ["export", str(checkpoint), "--output", str(path), *flags]
        for path, flags in zip(paths, options.values(), strict=True)
    ]
    code = "import json, sys; from kws import cli; sys.exit(any(map(cli.main, json.loads(sys.argv[1]))))"
    command = [sys.executable, "-c", code, json.dumps(calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KwsError(_last_line(done).removeprefix("error: "))
    return paths


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]


def _run(measure: str, model: Path | None = None) -> dict[str, Any]:
    """One measurement by `kws.apps.benchmark_worker`, in a process of its own with one thread."""
    command = [sys.executable, "-m", "kws.apps.benchmark_worker", measure, *([str(model)] if model else [])]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(command, env={**os.environ, **one_thread}, capture_output=True, text=True, check=False)
    if done.returncode == 3:
        raise ModuleNotFoundError(_last_line(done))
    if done.returncode:
        raise KwsError(f"{measure}: {_last_line(done)}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows under one another; a dash for what a system does not tell."""
    columns = {  # title: key, factor, format
        "step ms": ("step_ms", 1, ".0f"),
        "median us": ("median_us", 1, ".1f"),
        "p95 us": ("p95_us", 1, ".1f"),
        "no detector us": ("model_us", 1, ".1f"),
        "RTF": ("rtf", 1, ".4f"),
        "load s": ("load_s", 1, ".2f"),
        "RSS MB": ("memory_mb", 1, ".1f"),
        "kB": ("bytes", 1e-3, ".1f"),
        "M mult/s": ("multiplications_per_second", 1e-6, ".1f"),
        "file x real time": ("times_real_time", 1, ",.0f"),
    }
    width = max(len(row["title"]) for row in rows)
    lines = ["  ".join(["one core".ljust(width), *columns])]
    for row in rows:
        cells = [
            ("-" if row.get(key) is None else format(row[key] * factor, style)).rjust(len(title))
            for title, (key, factor, style) in columns.items()
        ]
        lines.append("  ".join([row["title"].ljust(width), *cells]))
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Entry of `kws benchmark`: the exit status."""
    parser = argparse.ArgumentParser(prog="kws benchmark", description=__doc__)
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL", help="an ONNX file, the name of a shipped model, or a checkpoint")
    add("--no-peers", dest="peers", action="store_false", help="leave out what is not ours")
    add("--output", metavar="FILE", help="a JSON file for the figures")
    benchmark(**vars(parser.parse_args(arguments)))
    return 0
