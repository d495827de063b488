"""What a model costs at run time, beside peers, each in its own process: `python -m kws.benchmark model=FILE`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kws import entry
from kws.apps.info import describe

PEERS = ("pymicro-wakeword", "silero-vad", "pyopen-wakeword", "pocketsphinx")
BLOCKS_MS = (20, 80, 1000)  # a checkpoint is exported for these, as nearly as its frames allow


@dataclass
class BenchmarkConfig:
    """What to measure."""

    model: str = (
        "???"  # an ONNX file, or a checkpoint: exported for several blocks, in float32 and int8, and for batches
    )
    peers: bool = True  # also those of the extra `bench` that are installed
    output: str = ""  # a JSON file for the figures


def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Measure by `config`: prints the tables and returns the figures."""
    path = Path(config.model)
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    streams: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        models = [path] if path.suffix == ".onnx" else _exports(path, Path(folder))
        for model in models:
            facts = describe(model)
            if facts["batch_size"] == 1:
                whole = _run("whole-file", model)
                title = f"kws {model.stem}" if len(models) > 1 else f"kws {model.name}"
                rows.append({**_run("kws", model), "title": title, "times_real_time": whole["times_real_time"]})
            streams.append({"model": model.stem, **_run("streams", model)})
    for peer in PEERS if config.peers else ():
        try:
            rows.append({**_run(peer), "title": peer})
        except ModuleNotFoundError as error:
            skipped[peer] = f"{error}; pip install kws[bench]"
        except ValueError as error:
            skipped[peer] = str(error)
    report = {"rows": rows, "skipped": skipped, "streams": streams}
    print(_table(rows))
    for peer, reason in skipped.items():
        print(f"{peer}: skipped, {reason}")
    print("\nstreams that one core keeps up with in real time (model alone / with detectors)")
    for entry_ in streams:
        counts = ", ".join(f"N={row['n']:g}: {row['model']:,.0f} / {row['spotter']:,.0f}" for row in entry_["streams"])
        print(f"{entry_['model']}, blocks of {entry_['block_ms']:g} ms: {counts}")
    if config.output:
        Path(config.output).write_text(json.dumps(report, indent=2) + "\n")
        print(config.output)
    return report


def _exports(checkpoint: Path, folder: Path) -> list[Path]:
    """Files made of a checkpoint: float32 and int8 for every block, and float32 for batches."""
    from kws.model.checkpoint import load_checkpoint
    from kws.onnx_export.onnx_file import export_onnx

    spotter, _ = load_checkpoint(checkpoint)
    frontend = spotter.frontend_config
    hop_ms, stride = frontend.hop_ms, spotter.frame_length // frontend.hop_length
    paths = []
    for block_ms in BLOCKS_MS:
        hops = max(1, round(block_ms / hop_ms / stride)) * stride
        for precision in ("float32", "int8"):
            paths.append(folder / f"{precision}-{hops * hop_ms:g}ms.onnx")
            export_onnx(spotter, paths[-1], hops_per_step=hops, precision=precision)
    for hops in (stride, max(1, round(80 / hop_ms / stride)) * stride):
        paths.append(folder / f"batch-{hops * hop_ms:g}ms.onnx")
        export_onnx(spotter, paths[-1], hops_per_step=hops, batch_size=0)
    return paths


def _run(measure: str, model: Path | None = None) -> dict[str, Any]:
    """One measurement by `kws.apps.benchmark_worker`, in a process of its own with one thread."""
    command = [sys.executable, "-m", "kws.apps.benchmark_worker", measure, *([str(model)] if model else [])]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(command, env={**os.environ, **one_thread}, capture_output=True, text=True, check=False)
    reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    if done.returncode == 3:
        raise ModuleNotFoundError(reason)
    if done.returncode:
        raise ValueError(f"{measure}: {reason}")
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


def register_schemas() -> None:
    """Make the options known to Hydra."""
    entry.register("benchmark_schema", BenchmarkConfig)


def main() -> None:
    """Entry of `python -m kws.benchmark`."""
    register_schemas()
    entry.main(benchmark, "benchmark")


if __name__ == "__main__":
    main()
