"""What each ingredient is worth: `python scripts/ablations.py data.root=DIR`.

Trains every variant of VARIANTS by one override of `python -m kws.train experiment=ablation`, one run for each seed,
under runs/ablations; then writes docs/ablations.csv, the table of docs/RESULTS.md and docs/accuracy_multiplications.png
from the files of the runs. What is done is kept: started again, it goes on where it was stopped.

Options: --jobs N (runs at once, one thread each; default: one per core), --seeds 0,1, --only NAME,..., --table (no
training), --teacher FILE (default: runs/models/gsc12-0/best.safetensors, made by scripts/make_models.py). The rest are
overrides of every run.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from kws import data
from kws.config import SILENCE, FrontendConfig, data_from_dict, model_from_dict
from kws.evaluation.clip_scores import TorchModel, carried_posteriors, isolated_posteriors
from kws.evaluation.error_analysis import NoisyClips
from kws.evaluation.metrics import accuracy
from kws.model.checkpoint import load_checkpoint
from kws.model.layer import Layer
from kws.model.spotter import KeywordSpotter
from kws.onnx_export.operations import multiplications_per_second
from kws.runtime.onnx_model import SpotterModel
from kws.training.run_files import BEST, RESULT

RUNS, MEASURED = Path("runs/ablations"), "measured.json"
RESULTS, TABLE, PLOT = Path("docs/RESULTS.md"), Path("docs/ablations.csv"), Path("docs/accuracy_multiplications.png")
BEGIN, END = "<!-- ablations: begin -->\n", "<!-- ablations: end -->\n"
SNR_DB = 5.0
SHIPPED = Path("kws/models")

# Accuracy (%) as the authors state it and millions of multiplications a second: as published for a clip a second, or,
# with a range, our estimate: weights times the frames a second of a recurrent model.
PUBLISHED = {
    "BC-ResNet-1": (3, 3, 96.9),
    "BC-ResNet-8": (89, 89, 98.7),
    "kws_streaming LSTM 545k": (27, 55, 97.3),
    "kws_streaming SVDF 32k, streamed": (1.6, 3.2, 91.1),
    "Hello Edge LSTM S 79k": (2, 4, 92.9),
    "Hello Edge LSTM M 197k": (5, 10, 93.9),
    "Hello Edge LSTM L 496k": (12, 25, 94.8),
    "KWT-1 607k": (59, 59, 92.7),
}


class Variant(NamedTuple):
    """One override of the common command."""

    override: str
    what: str


VARIANTS = {
    "base": Variant("", "**the common command**: LSTM, log-mel, hop 10 ms, a decision every 20 ms"),
    "isolated": Variant("trainer.reset_probability=1", "isolated clips: no carried state"),
    "no-noise": Variant("augment.noise_probability=0", "no noise mixed in"),
    "no-augment": Variant("augment=none", "no augmentation at all"),
    "specaugment": Variant("augment=specaugment", "with SpecAugment"),
    "no-smoothing": Variant("trainer.label_smoothing=0", "no label smoothing"),
    "no-average": Variant("trainer.average_decay=0", "no weight averaging"),
    "forget-0": Variant("model.forget_bias=0", "forget gate's bias 0 instead of 1"),
    "hop-20": Variant("frontend.hop_ms=20", "hop 20 ms, a decision every 40 ms"),
    "stride-1": Variant("model.time_stride=1", "hop 10 ms, a decision every 10 ms"),
    "mfcc": Variant("frontend=mfcc", "20 MFCCs"),
    "spectrogram": Variant("frontend=spectrogram", "log spectrogram to 8 kHz, 129 bins"),
    "f-max-7600": Variant("frontend.f_max=7600", "log-mel up to 7.6 kHz"),
    "gru": Variant("model.cell=gru", "GRU"),
    "rnn": Variant("model.cell=rnn", "tanh cell"),
    "sum": Variant("model.pooling=sum", "`sum` pooling"),
    "running-speech": Variant("data.train_recordings=hours/train", "with running speech"),
    "distillation": Variant("distillation.teacher=TEACHER", "distilled from `gsc12`"),
    "bcresnet1": Variant("model=bcresnet1", "the rival: BC-ResNet-1, whole clips, not streamed"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1])
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(VARIANTS))
    parser.add_argument("--teacher", default="runs/models/gsc12-0/best.safetensors")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_intermixed_args()
    if unknown := set(options.only) - set(VARIANTS):
        parser.error(f"--only {', '.join(sorted(unknown))}: choose from {', '.join(VARIANTS)}")
    failed = []
    if not options.table:
        jobs = {f"{name}/{seed}": (name, seed) for seed in options.seeds for name in options.only}
        with ThreadPoolExecutor(options.jobs) as pool:
            runs = {pool.submit(run, *job, options.teacher, options.overrides): place for place, job in jobs.items()}
            for done, future in enumerate(as_completed(runs), 1):
                print(f"{done}/{len(runs)}  {runs[future]}: {future.result() or 'failed, see its log.txt'}", flush=True)
                failed += [] if future.result() else [runs[future]]
    write_results(gather())
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see {RUNS}/<run>/log.txt")


def run(name: str, seed: int, teacher: str, overrides: Sequence[str]) -> str:
    """Train and measure one variant with one seed, unless that was done; what came of it, or nothing if it failed."""
    folder = RUNS / name / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    override = VARIANTS[name].override.replace("TEACHER", teacher)
    steps = {
        RESULT: ["-m", "kws.train", "experiment=ablation", f"seed={seed}", "trainer.threads=1", "resume=true",
                 f"run_dir={folder}", *filter(None, [override]), *overrides],
        MEASURED: [__file__, "--measure", str(folder)],
    }  # fmt: skip
    with (folder / "log.txt").open("a") as log:
        for product, arguments in steps.items():
            if not (folder / product).exists():
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                subprocess.run([sys.executable, *arguments], stdout=log, stderr=log, env=environment, check=False)
            if not (folder / product).exists():
                return ""
    return (folder / MEASURED).read_text().strip()


def measure(folder: Path) -> None:
    """Write what is compared of a run: accuracies on validation, isolated, carried and in noise; size and cost."""
    spotter, header = load_checkpoint(folder / BEST)
    source = header["info"]["config"]["data"]
    corpus = data.load(data_from_dict(source), spotter.frontend_config.sample_rate, labels=spotter.labels)
    clips, model = corpus.splits["validation"], TorchModel(spotter)
    spoken = np.flatnonzero(clips.labels != spotter.labels.index(SILENCE))
    noisy: Any = NoisyClips(clips, spoken, corpus.noise["validation"], SNR_DB)
    figures = {
        "isolated": accuracy(clips.labels, isolated_posteriors(model, clips).argmax(1)),
        "carried": accuracy(clips.labels, carried_posteriors(model, clips).argmax(1))
        if isinstance(spotter.classifier, Layer)
        else None,
        "noisy": accuracy(clips.labels[spoken], isolated_posteriors(model, noisy).argmax(1)),
        "parameters": spotter.n_parameters,
        "multiplications_per_second": round(multiplications_per_second(spotter, "features")),
    }
    (folder / MEASURED).write_text(json.dumps(figures) + "\n")


def gather() -> list[dict[str, Any]]:
    """A row for each run that was measured, in the order of VARIANTS."""
    rows = []
    for name, variant in VARIANTS.items():
        for path in sorted(RUNS.glob(f"{name}/*/{MEASURED}")):
            trained = json.loads((path.parent / RESULT).read_text())
            row = {"variant": name, "override": variant.override, "seed": int(path.parent.name)}
            rows.append({**row, **json.loads(path.read_text()), "seconds": trained["seconds"]})
    return rows


def write_results(rows: list[dict[str, Any]]) -> None:
    """The table of RESULTS.md, its numbers as CSV, and the plot."""
    if not rows:
        sys.exit(f"no measured run in {RUNS}")
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    text = RESULTS.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    RESULTS.write_text(before + BEGIN + "\n".join(table(rows)) + "\n" + END + after)
    plot(ours(rows), PLOT)
    print(f"{TABLE}, {RESULTS}, {PLOT}")


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of markdown: means over seeds, in brackets the difference from the first row."""
    lines = [
        "| | override | seeds | parameters | M mult/s after the front end | isolated % | carried % | at 5 dB SNR % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base: dict[str, float] = {}
    for name, variant in VARIANTS.items():
        runs = [row for row in rows if row["variant"] == name]
        if not runs:
            continue
        cells = []
        for column in ("isolated", "carried", "noisy"):
            if runs[0][column] is None:
                cells.append("")
                continue
            values = [100 * row[column] for row in runs]
            base.setdefault(column, float(np.mean(values)))
            cells.append(
                f"{np.mean(values):.1f}" + (f" ({np.mean(values) - base[column]:+.1f})" if name != "base" else "")
            )
        override = f"`{variant.override}`" if variant.override else ""
        cost = f"{runs[0]['parameters']:,} | {runs[0]['multiplications_per_second'] / 1e6:.1f}"
        lines.append(f"| {variant.what} | {override} | {len(runs)} | {cost} | {' | '.join(cells)} |")
    return lines


def ours(rows: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Name -> multiplications a second and validation accuracy of models trained here: shipped, and of this table."""
    points = {}
    for path in sorted(SHIPPED.glob("*.onnx")):
        metadata = SpotterModel(path).metadata
        if metadata["precision"] == "float32":
            options = FrontendConfig(**metadata["frontend"]), model_from_dict(metadata["model"])
            cost = multiplications_per_second(KeywordSpotter(*options, metadata["labels"]).eval(), "features")
            points[path.stem] = (cost, metadata["card"]["validation_accuracy"])
    for name in ("base", "bcresnet1"):
        if runs := [row for row in rows if row["variant"] == name]:
            accuracy = float(np.mean([row["isolated"] for row in runs]))
            points[f"{name}, short schedule"] = (runs[0]["multiplications_per_second"], accuracy)
    return points


def plot(points: dict[str, tuple[float, float]], path: Path) -> None:
    """Accuracy against multiplications a second beside published models."""
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for name, (low, high, percent) in PUBLISHED.items():
        axes.plot([low, high], [percent] * 2, "s-", color="#888888", markersize=4)
        axes.annotate(name, (high, percent), (5, -3), textcoords="offset points", fontsize=7, color="#555555")
    for name, (cost, share) in points.items():
        axes.plot(cost / 1e6, 100 * share, "o", color="crimson")
        axes.annotate(
            name, (cost / 1e6, 100 * share), (5, -10), textcoords="offset points", fontsize=8, color="crimson"
        )
    axes.set_xscale("log")
    axes.set_xlim(1, 400)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_xlabel("million multiplications a second, after the front end")
    axes.set_ylabel("accuracy, %")
    axes.set_title("red: trained here, our validation clips; grey: published, test clips", fontsize=9)
    figure.savefig(path)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
    else:
        main()
