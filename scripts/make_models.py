"""Makes the models of kws/models again: `python scripts/make_models.py [--speech DIR --noise DIR --rooms DIR]`.

Running speech, training with every seed in two parts, export in float32 and int8, thresholds, figures; then the files
and the tables of MODEL_CARD.md in kws/models. Of the seeds, the one that misses least at one false alarm an hour is
shipped. What is done is kept under runs/models and hours: started again, it goes on where it was stopped.

DIR holds tables (file, text) of what training hears and what it does not: train.csv and check.csv, and for speech
calibrate.csv, which thresholds are chosen on (scripts/split_speech.py makes them, by speaker). Without one, those of
scripts/download_data.py are taken, which downloads 19 GB. `--music TABLE`: music to count false alarms in. Options:
--models gsc12,gsc12_tiny,gsc35, --seeds 0,1,2, --jobs N (trainings at once, one thread each; default: one per core),
--dry (leaves kws/models as it is). The rest are overrides of the data, e.g. data.root=DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from kws.runtime.onnx_model import SpotterModel

RUNS, HOURS, SHIPPED = Path("runs/models"), Path("hours"), Path("kws/models")
PUBLIC = HOURS / "public"


class Recipe(NamedTuple):
    """What a model is made from beside `configs/experiment/NAME.yaml`."""

    words: str = ""  # ending of the recording sets that hold its words
    data: tuple[str, ...] = ()  # overrides that name them
    teacher: str = ""  # another model, of the first seed


MODELS = {
    "gsc12": Recipe(),
    "gsc12_tiny": Recipe(teacher="gsc12"),
    "gsc35": Recipe(words="35", data=("data.label_set=own",)),
}
PRECISIONS = {"": "float32", "_int8": "int8"}  # ending of the file's name
# The second part of a training: a margin in running speech, and milder noise and rooms.
LAST = (
    "trainer.epochs=4", "trainer.learning_rate=1e-3", "trainer.warmup_epochs=0.2", "data.speech_margin=3",
    "augment.noise_probability=0.6", "augment.rir_probability=0.2", "augment.snr_db_min=5",
)  # fmt: skip
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    for name in ("speech", "noise", "rooms"):
        parser.add_argument(f"--{name}", type=Path, default=PUBLIC / name, metavar="DIR")
    parser.add_argument("--music", type=Path, metavar="TABLE")
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(MODELS))
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_intermixed_args()

    if any(PUBLIC in (place, *place.parents) for place in (options.speech, options.noise, options.rooms)):
        subprocess.run([sys.executable, str(Path(__file__).with_name("download_data.py")), str(PUBLIC)], check=True)
    hard = {
        "noise": ["snr_db_min=10", "snr_db_max=10", f"noise_dir={options.noise / 'check.csv'}"],
        "far": ["echo_probability=1", f"rir_dir={options.rooms / 'check.csv'}"],
    }
    sets = {name: ["recipe=commands", *choices] for name, choices in {"near": [], **hard}.items()}
    for words, data in {MODELS[model].words: MODELS[model].data for model in options.models}.items():
        for name, choices in {"train": ["recipe=training"], **sets}.items():
            place = HOURS / f"{name}{words}"
            once(place, "kws.make_stream", f"output={place}", *choices, *data, *options.overrides)
    figures: dict[str, Any] = {"seeds": {}}
    for model in options.models:
        with ThreadPoolExecutor(options.jobs) as pool:
            rows = list(pool.map(lambda seed: train(model, seed, options), options.seeds))  # noqa: B023
        figures["seeds"][model] = rows
        best = min(rows, key=lambda row: row["misses"]["1"])
        for ending in PRECISIONS:
            file = RUNS / f"{model}-{best['seed']}" / f"{model}{ending}.onnx"
            figures[file.name] = {"seed": best["seed"], **measure(model, file, options)}
    (RUNS / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    print("\n".join(card(figures)))
    if not options.dry:
        for name in (name for name in figures if name.endswith(".onnx")):
            model = name.removesuffix(".onnx").removesuffix("_int8")
            shutil.copy(RUNS / f"{model}-{figures[name]['seed']}" / name, SHIPPED)
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


def train(model: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train, export, score and calibrate one seed: a row of accuracies on validation, and of misses."""
    folder, recipe = RUNS / f"{model}-{seed}", MODELS[model]
    first, best = folder.with_name(f"{folder.name}-first"), "best.safetensors"
    heard = {"data.speech": options.speech, "augment.noise_dir": options.noise, "augment.rir_dir": options.rooms}
    choices = [f"{option}={place / 'train.csv'}" for option, place in heard.items()]
    choices += [f"data.speech_validation={options.speech / 'calibrate.csv'}"]
    choices += [f"experiment={model}", f"seed={seed}", f"data.train_recordings={HOURS / f'train{recipe.words}'}"]
    if recipe.teacher:
        choices += [f"distillation.teachers=[{RUNS / f'{recipe.teacher}-{options.seeds[0]}' / best}]"]
    seconds = 0.0
    for place, part in {first: (), folder: (*LAST, f"init_from={first / best}")}.items():
        places = ["trainer.threads=1", f"run_dir={place}", "resume=true"]
        once(place / "result.json", "kws.train", *choices, *options.overrides, *part, *places)
        seconds += read(place / "result.json")["seconds"]
    row: dict[str, Any] = {"seed": seed, "seconds": seconds}
    for ending, precision in PRECISIONS.items():
        bare, file = folder / f"{model}{ending}-bare.onnx", folder / f"{model}{ending}.onnx"
        once(bare, "kws.export", str(folder / best), "--precision", precision,
             "--hops-per-step", "4", "--licence", "CC-BY-4.0", "--output", str(bare))  # fmt: skip
        speech = ["--speech", str(options.speech / "calibrate.csv")]
        once(file, "kws.calibrate", str(bare), str(HOURS / f"near{recipe.words}"), *speech, "--output", str(file))
        report = folder / f"{file.stem}-validation" / "report.json"
        source = ["data=speech_commands", *recipe.data, *options.overrides]
        once(report, "kws.evaluate", f"model={file}", f"output={report.parent}", *source)
        scores = read(report)["accuracy"]
        row[f"isolated{ending}"] = scores["isolated"]["accuracy"]
        row[f"carried{ending}"] = scores["carried, onnxruntime"]["accuracy"]
        if not ending:
            row["misses"] = {
                f"{point.fa_per_hour:g}": point.misses / point.events for point in SpotterModel(file).operating_points
            }
    return row


def measure(model: str, file: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What becomes of a file's promises in speech, rooms and noise that neither training nor thresholds heard."""
    heard = {name: [str(HOURS / f"{name}{MODELS[model].words}")] for name in ("near", "noise", "far")}
    heard["near"] += ["--speech", str(options.speech / "check.csv")]
    if options.music:
        heard["music"] = ["--speech", str(options.music)]
    found: dict[str, Any] = {}
    for name, places in heard.items():
        report = file.with_name(f"{file.stem}-{name}") / "report.json"
        once(report, "kws.evaluate_stream", str(file), *places, "--output", str(report.parent))
        found[name] = read(report)
    errors = read(file.with_name(f"{file.stem}-validation") / "report.json")
    return {
        "kB": file.stat().st_size / 1000,
        "accuracy": errors["accuracy"],
        "per_class": errors["per_class"],
        "promised": {name: report["promised"] for name, report in found.items()},
        "keywords": found["near"]["own_thresholds"]["keywords"],
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

    def kept(file: str) -> Iterable[list[str]]:
        promised = figures[file]["promised"]
        for rate, near in promised["near"].items():
            low, high = near["fa_interval"]
            misses = [f"{100 * promised[name][rate]['frr']:.1f}" for name in ("near", "noise", "far")]
            music = [f"{promised['music'][rate]['fa_per_hour']:.2f}"] if "music" in promised else []
            delay = f"{near['delay_ms']['median']:.0f}, {near['delay_ms']['p95']:.0f}"
            alarms = f"{near['fa_per_hour']:.2f} ({low:.2f} to {high:.2f})"
            yield [f"`{file}`", rate, alarms, *misses, *music, delay]

    lines = ["Validation clips, %: isolated (95 % interval), carried, and recall of parts, isolated:", ""]
    lines += table(
        "file | kB | seed | isolated | carried | ten keywords | `_unknown_` | `_silence_`", map(shipped, files)
    )
    lines += ["Every seed, %, and minutes of training on one core:", ""]
    columns = ("isolated", "carried", "isolated_int8", "carried_int8")
    rows = [
        [model, str(row["seed"]), *(percent(row[column]) for column in columns)]
        + [f"{100 * row['misses'][rate]:.1f}" for rate in ("1", "5")]
        + [f"{row['seconds'] / 60:.0f}"]
        for model, seeds in figures["seeds"].items()
        for row in seeds
    ]
    heads = "isolated | carried | int8 isolated | int8 carried | misses at 1 FA/h | at 5 FA/h | minutes"
    lines += table(f"model | seed | {heads}", rows)
    music = " | FA/h, music" if "music" in figures[files[0]]["promised"] else ""
    lines += [
        "What becomes of each promise on real speech (false alarms an hour, 95 %), and misses in % of commands near "
        "the microphone, in 10 dB noise and at 2 to 3 m:",
        "",
    ]
    heads = f"file | promised FA/h | heard | near | noise | far{music} | delay ms, median and 95th"
    lines += table(heads, (row for file in files for row in kept(file)))
    lines += ["By word, at the default: misses near the microphone, % (false alarms heard):", ""]
    points = [figures[file]["keywords"] for file in files]
    by_word = [
        [word] + [f"{100 * of[word]['frr']:.1f} ({of[word]['false_alarms']})" if word in of else "" for of in points]
        for word in dict.fromkeys(word for of in points for word in of)
    ]
    lines += table(f"word | {' | '.join(f'`{file}`' for file in files)}", by_word)
    return lines[:-1]


if __name__ == "__main__":
    main()
