"""Makes the models of kws/models again: `python scripts/make_models.py data.root=DIR`, or `make models ARGS=...`.

Running speech, training of `gsc12` and of `gsc12_tiny` with every seed, export in float32 and int8, thresholds,
figures; then the files and the tables of MODEL_CARD.md in kws/models. Of the seeds, the one that is right most often on
validation (isolated and carried together) is shipped. What is done is kept under runs/models and hours:
started again, it goes on where it was stopped.

Options: --seeds 0,1,2, --jobs N (trainings at once, one thread each; default: one per core), --dry (leaves kws/models
as it is). The rest are overrides of the data, e.g. data.root=DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

RUNS, HOURS, SHIPPED = Path("runs/models"), Path("hours"), Path("kws/models")
MODELS = ("gsc12", "gsc12_tiny")  # the second learns from the first, of the first seed
PRECISIONS = {"": "float32", "_int8": "int8"}  # ending of the file's name
FALSE_ALARMS = 5  # an hour, of all keywords
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_intermixed_args()

    sets = {"train": ["recipe=training"], "validation": []}
    for name, choices in sets.items():
        folder = HOURS / name
        once(folder, "kws.make_stream", f"output={folder}", *choices, *options.overrides)
    figures: dict[str, Any] = {"seeds": {}}
    teacher = ""
    for model in MODELS:
        with ThreadPoolExecutor(options.jobs) as pool:
            rows = list(pool.map(lambda seed: train(model, seed, teacher, options), options.seeds))  # noqa: B023
        figures["seeds"][model] = rows
        best = max(rows, key=lambda row: row["isolated"] + row["carried"])
        teacher = teacher or str(RUNS / f"{model}-{options.seeds[0]}" / "best.safetensors")
        for ending in PRECISIONS:
            source, file = RUNS / f"{model}-{best['seed']}" / f"{model}{ending}.onnx", f"{model}{ending}.onnx"
            figures[file] = {"seed": best["seed"], **on_stream(source, RUNS / file, options)}
    (RUNS / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    print("\n".join(card(figures)))
    if not options.dry:
        for model in MODELS:
            for ending in PRECISIONS:
                shutil.copy(RUNS / f"{model}{ending}.onnx", SHIPPED)
        path = SHIPPED / "MODEL_CARD.md"
        before, _, rest = path.read_text().partition(BEGIN)
        path.write_text(before + BEGIN + "\n".join(card(figures)) + "\n" + END + rest.partition(END)[2])
        print(f"\n{SHIPPED}")


def once(product: Path, module: str, *arguments: str) -> None:
    """Run `python -m module`, with its output beside what it makes, unless `product` is there."""
    if product.exists():
        return
    command = [sys.executable, "-m", module, *arguments]
    print(f"$ {' '.join(command[1:])}", flush=True)
    product.parent.mkdir(parents=True, exist_ok=True)
    log = product.with_name(f"{product.name}.log")
    with log.open("a") as out:
        subprocess.run(command, stdout=out, stderr=out, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    if not product.exists():
        sys.exit(f"{module} failed; the reason is at the end of {log}")


def train(model: str, seed: int, teacher: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train, export and score one seed: a row of accuracies on validation."""
    folder = RUNS / f"{model}-{seed}"
    choices = [f"experiment={model}", f"seed={seed}", f"data.train_recordings={HOURS / 'train'}"]
    choices += [f"distillation.teacher={teacher}"] if teacher else []
    places = ["trainer.threads=1", f"run_dir={folder}", "resume=true"]
    once(folder / "result.json", "kws.train", *choices, *options.overrides, *places)
    row: dict[str, Any] = {"seed": seed, "seconds": read(folder / "result.json")["seconds"]}
    for ending, precision in PRECISIONS.items():
        file = folder / f"{model}{ending}.onnx"
        once(file, "kws.export", str(folder / "best.safetensors"), "--precision", precision,
             "--hops-per-step", "4", "--licence", "CC-BY-4.0", "--output", str(file))  # fmt: skip
        report = folder / f"{file.stem}-validation" / "report.json"
        source = ["data=speech_commands", *options.overrides]
        once(report, "kws.evaluate", f"model={file}", f"output={report.parent}", *source)
        scores = read(report)["accuracy"]
        row[f"isolated{ending}"] = scores["isolated"]["accuracy"]
        row[f"carried{ending}"] = scores["carried, onnxruntime"]["accuracy"]
    return row


def on_stream(source: Path, file: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Calibrate `source` into `file`; misses and false alarms."""
    recordings = str(HOURS / "validation")
    budget = ["--fa-per-hour", str(FALSE_ALARMS)]
    once(file, "kws.calibrate", str(source), recordings, *budget, "--output", str(file))
    report = file.with_name(f"{file.stem}-stream") / "report.json"
    once(report, "kws.evaluate_stream", str(file), recordings, "--output", str(report.parent))
    found, errors = read(report), read(source.with_name(f"{source.stem}-validation") / "report.json")
    return {
        "kB": file.stat().st_size / 1000,
        "accuracy": errors["accuracy"],
        "own": found["own_thresholds"]["all"],
        "targets": {target: point["all"] for target, point in found["targets"].items()},
        **{name: errors.get(name) for name in ("per_class", "by_loudness", "by_snr", "confusions")},
    }


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def card(figures: dict[str, Any]) -> list[str]:
    """The tables of the model card, as lines of markdown."""
    files = [file for file in figures if file.endswith(".onnx")]

    def percent(share: float | None) -> str:
        return "" if share is None else f"{100 * share:.2f}"

    def table(head: str, rows: Iterable[Iterable[str]]) -> list[str]:
        line = f"| {head} |"
        return [line, "|" + "---|" * (line.count("|") - 1), *(f"| {' | '.join(row)} |" for row in rows), ""]

    def shipped(file: str) -> list[str]:
        row = figures[file]
        isolated, carried = row["accuracy"]["isolated"], row["accuracy"]["carried, onnxruntime"]
        words = [score for label, score in row["per_class"].items() if not label.startswith("_")]
        keywords = sum(score["recall"] * score["clips"] for score in words) / sum(score["clips"] for score in words)
        low, high = isolated["interval"]
        return [
            f"`{file}`", f"{row['kB']:.0f}", str(row["seed"]),
            f"{percent(isolated['accuracy'])} ({100 * low:.1f} to {100 * high:.1f})", percent(carried["accuracy"]),
            percent(keywords), *(percent(row["per_class"][label]["recall"]) for label in ("_unknown_", "_silence_")),
        ]  # fmt: skip

    def streamed(file: str) -> list[str]:
        own, targets = figures[file]["own"], figures[file]["targets"]
        at = [f"{100 * point['frr']:.1f}" if (point := targets.get(t)) else "not reached" for t in ("0.5", "1", "5")]
        low, high = own["frr_interval"]
        return [
            f"`{file}`", f"{100 * own['frr']:.1f} ({100 * low:.1f} to {100 * high:.1f})", f"{own['fa_per_hour']:.2f}",
            f"{own['delay_ms']['median']:.0f}, {own['delay_ms']['p95']:.0f}", *at,
        ]  # fmt: skip

    def errors(key: str, name: Callable[[str], str], entries: Callable[[str], dict[str, Any]]) -> list[str]:
        plain = [file for file in files if "int8" not in file]
        names = list(entries(plain[0]))
        rows = [
            [
                name(n),
                str(entries(plain[0])[n]["clips"]),
                *(percent(entries(file)[n].get("accuracy", entries(file)[n].get("recall"))) for file in plain),
            ]
            for n in names
        ]
        return table(f"{key} | clips | " + " | ".join(f"`{file}`" for file in plain), rows)

    lines = ["Validation clips, %: isolated (95 % interval), carried, and recall of parts, isolated:", ""]
    lines += table(
        "file | kB | seed | isolated | carried | ten keywords | `_unknown_` | `_silence_`", map(shipped, files)
    )
    lines += ["Every seed, %, and minutes of training on one core:", ""]
    columns = ("isolated", "carried", "isolated_int8", "carried_int8")
    rows = [
        [model, str(row["seed"]), *(percent(row[column]) for column in columns), f"{row['seconds'] / 60:.0f}"]
        for model, seeds in figures["seeds"].items()
        for row in seeds
    ]
    lines += table("model | seed | isolated | carried | int8 isolated | int8 carried | minutes", rows)
    lines += [
        "Seven hours of audio, misses in %: at the file's own thresholds, and with one threshold for all at most so "
        "many false alarms an hour:",
        "",
    ]
    lines += table(
        "file | misses (95 %) | FA/h | delay ms, median and 95th | 0.5 FA/h | 1 FA/h | 5 FA/h", map(streamed, files)
    )
    lines += ["Where the errors lie, % right:", ""]
    lines += errors("class", lambda n: f"`{n}`", lambda file: figures[file]["per_class"])
    lines += errors("noise alone, dBFS", str, lambda file: figures[file]["by_loudness"]["silence"])
    lines += errors("spoken, dBFS", str, lambda file: figures[file]["by_loudness"]["spoken"])
    lines += errors("spoken, dB SNR", str, lambda file: figures[file]["by_snr"])
    return lines[:-1]


if __name__ == "__main__":
    main()
