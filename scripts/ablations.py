"""What each ingredient is worth: `python scripts/ablations.py data.root=DIR [--speech DIR --noise DIR --rooms DIR]`.

Trains every variant of VARIANTS by one override of `python -m kws.train experiment=ablation`, one run for each seed,
under runs/ablations; then writes docs/ablations.csv, the tables of docs/RESULTS.md and a plot,
docs/accuracy_multiplications.png, from the files of the runs. What is done is kept: started again, it goes on where it
was stopped.

Options: --jobs N (runs at once, one thread each; default: one per core), --seeds 0,1, --only NAME,..., --table (no
training), --teacher FILE (default: runs/models/gsc12-0/best.safetensors, made by scripts/make_models.py), and the
tables of that script, without which the variants with real speech are left out. The rest are overrides of every run.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from kws import data
from kws.calibrate import calibrate
from kws.config import SILENCE, FrontendConfig, data_from_dict, model_from_dict
from kws.evaluation.clip_scores import TorchModel, carried_posteriors, isolated_posteriors
from kws.evaluation.error_analysis import NoisyClips
from kws.evaluation.metrics import accuracy
from kws.model.checkpoint import load_checkpoint
from kws.model.layer import Layer
from kws.model.spotter import KeywordSpotter
from kws.onnx_export.onnx_file import export_onnx
from kws.onnx_export.operations import multiplications_per_second
from kws.runtime.onnx_model import SpotterModel
from kws.training.run_files import BEST, RESULT

RUNS, MEASURED = Path("runs/ablations"), "measured.json"
RESULTS, TABLE, PLOT = Path("docs/RESULTS.md"), Path("docs/ablations.csv"), Path("docs/accuracy_multiplications.png")
BEGIN, END = "<!-- ablations: begin -->\n", "<!-- ablations: end -->\n"
SPEECH_BEGIN, SPEECH_END = "<!-- speech: begin -->\n", "<!-- speech: end -->\n"
SNR_DB = 5.0
NEAR = Path("hours/near")  # commands to count misses of, made by scripts/make_models.py
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


SPEECH = (
    "data.speech=SPEECH", "augment.noise_dir=NOISE", "augment.rir_dir=ROOMS", "trainer.label_smoothing=0",
)  # fmt: skip


class Variant(NamedTuple):
    """One override of the common command, which `common` may be added to."""

    override: str
    what: str
    common: tuple[str, ...] = ()


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
    "distillation": Variant("distillation.teachers=[TEACHER]", "distilled from `gsc12`"),
    "bcresnet1": Variant("model=bcresnet1", "the rival: BC-ResNet-1, whole clips, not streamed"),
    "speech": Variant("", "**with real running speech, noise and rooms**, no label smoothing", SPEECH),
    "speech-15": Variant("data.speech_share=0.15", "half as much speech in a batch", SPEECH),
    "speech-50": Variant("data.speech_share=0.5", "more speech in a batch", SPEECH),
    "speech-1": Variant("data.speech_run_clips=1", "runs of 1 s instead of 3 s", SPEECH),
    "speech-6": Variant("data.speech_run_clips=6", "runs of 6 s", SPEECH),
    "speech-margin": Variant("data.speech_margin=3", "a margin of 3 in running speech", SPEECH),
    "speech-command-mode": Variant("data.speech_command_mode=true", "words its texts say are no commands", SPEECH),
    "speech-unmined": Variant("data.speech_mined=0", "no mining of false alarms", SPEECH),
    "speech-smoothed": Variant("trainer.label_smoothing=0.1", "label smoothing", SPEECH),
    "speech-no-noise": Variant("augment.noise_dir=", "without the recorded noise", SPEECH),
    "speech-no-rooms": Variant("augment.rir_dir=", "without rooms", SPEECH),
    "speech-spoken": Variant("data.train_recordings=hours/train", "with speech of espeak-ng, too", SPEECH),
    "speech-distilled": Variant("distillation.teachers=[TEACHER]", "distilled from `gsc12`", SPEECH),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1])
    parser.add_argument("--only", type=lambda text: text.split(","))
    parser.add_argument("--teacher", default="runs/models/gsc12-0/best.safetensors")
    for name in ("speech", "noise", "rooms"):
        parser.add_argument(f"--{name}", type=Path, metavar="DIR")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_intermixed_args()
    real = all((options.speech, options.noise, options.rooms))
    options.only = options.only or [name for name, variant in VARIANTS.items() if real or not variant.common]
    if unknown := set(options.only) - set(VARIANTS):
        parser.error(f"--only {', '.join(sorted(unknown))}: choose from {', '.join(VARIANTS)}")
    failed = []
    if not options.table:
        jobs = {f"{name}/{seed}": (name, seed) for seed in options.seeds for name in options.only}
        with ThreadPoolExecutor(options.jobs) as pool:
            runs = {pool.submit(run, *job, options): place for place, job in jobs.items()}
            for done, future in enumerate(as_completed(runs), 1):
                print(f"{done}/{len(runs)}  {runs[future]}: {future.result() or 'failed, see its log.txt'}", flush=True)
                failed += [] if future.result() else [runs[future]]
    write_results(gather())
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see {RUNS}/<run>/log.txt")


def run(name: str, seed: int, options: argparse.Namespace) -> str:
    """Train and measure one variant with one seed, unless that was done; what came of it, or nothing if it failed."""
    folder = RUNS / name / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    places = {key: getattr(options, key.lower()) for key in ("SPEECH", "NOISE", "ROOMS")}
    given = {"TEACHER": options.teacher, **{key: str(place / "train.csv") for key, place in places.items() if place}}
    chosen = [*VARIANTS[name].common, *filter(None, [VARIANTS[name].override])]
    for key, value in given.items():
        chosen = [override.replace(key, value) for override in chosen]
    last = {override.partition("=")[0]: override for override in chosen}  # the variant's own comes after the common
    speech = [str(options.speech / "calibrate.csv")] if options.speech else []
    steps = {
        RESULT: ["-m", "kws.train", "experiment=ablation", f"seed={seed}", "trainer.threads=1", "resume=true",
                 f"run_dir={folder}", *last.values(), *options.overrides],
        MEASURED: [__file__, "--measure", str(folder), *speech],
    }  # fmt: skip
    with (folder / "log.txt").open("a") as log:
        for product, arguments in steps.items():
            if not (folder / product).exists():
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                subprocess.run([sys.executable, *arguments], stdout=log, stderr=log, env=environment, check=False)
            if not (folder / product).exists():
                return ""
    return (folder / MEASURED).read_text().strip()


def measure(folder: Path, speech: Path | None) -> None:
    """Write what is compared of a run: accuracies on validation, isolated, carried and in noise; size and cost.

    With `speech`, transcribed, also the misses of NEAR at one and at five false alarms an hour in it.
    """
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
    if speech and isinstance(spotter.classifier, Layer):
        with tempfile.TemporaryDirectory() as temporary:
            model_file = Path(temporary) / "model.onnx"
            export_onnx(spotter, model_file, hops_per_step=4)
            points = calibrate(model_file, NEAR, speech=speech, workers=1)
        misses = {point.fa_per_hour: point.misses / point.events for point in points}
        figures |= {"misses_1": misses[1.0], "misses_5": misses[5.0]}
    (folder / MEASURED).write_text(json.dumps(figures) + "\n")


def gather() -> list[dict[str, Any]]:
    """A row for each run that was measured, in the order of VARIANTS."""
    rows = []
    for name, variant in VARIANTS.items():
        for path in sorted(RUNS.glob(f"{name}/*/{MEASURED}")):
            trained = json.loads((path.parent / RESULT).read_text())
            row = {"variant": name, "override": variant.override, "seed": int(path.parent.name)}
            unknown = {"misses_1": None, "misses_5": None}
            rows.append({**row, **unknown, **json.loads(path.read_text()), "seconds": trained["seconds"]})
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
    plain = [row for row in rows if not VARIANTS[row["variant"]].common]
    real = [row for row in rows if row["misses_1"] is not None]
    for begin, end, lines in ((BEGIN, END, table(plain)), (SPEECH_BEGIN, SPEECH_END, speech_table(real))):
        if begin in text:
            before, _, rest = text.partition(begin)
            text = before + begin + "\n".join(lines) + "\n" + end + rest.partition(end)[2]
    RESULTS.write_text(text)
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


def speech_table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of markdown: means over seeds, and how far two seeds lie apart."""
    lines = [
        "| | override | seeds | misses % at 1 FA/h | at 5 FA/h | isolated clips % | carried % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, variant in VARIANTS.items():
        if runs := [row for row in rows if row["variant"] == name]:
            cells = []
            for column in ("misses_1", "misses_5", "isolated", "carried"):
                values = [100 * row[column] for row in runs]
                cells.append(f"{np.mean(values):.1f} (± {(max(values) - min(values)) / 2:.1f})")
            override = f"`{variant.override}`" if variant.override else ""
            lines.append(f"| {variant.what} | {override} | {len(runs)} | {' | '.join(cells)} |")
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
        measure(Path(sys.argv[2]), Path(sys.argv[3]) if sys.argv[3:] else None)
    else:
        main()
