"""Misses, false alarms and delay over hours of audio: `kws evaluate-stream MODEL RECORDINGS`."""

from __future__ import annotations

from kws import cli

if __name__ == "__main__":  # `kws evaluate-stream`, before imports that may be missing
    cli.door("evaluate-stream")

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from kws.config import is_keyword
from kws.errors import above
from kws.evaluation.operating_points import (
    Sweep,
    add_arguments,
    interval_line,
    keyword_arguments,
    operating_point,
    score_recordings,
)
from kws.evaluation.plots import plot_det
from kws.evaluation.recording_scores import Outcome, ScoredRecordings
from kws.evaluation.tf_streaming import TfCounts, found_words, tf_counts
from kws.runtime.onnx_model import SpotterModel
from kws.system.atomic import whole_file, write_whole

TARGETS = (0.1, 0.5, 1.0, 5.0)


def evaluate_stream(
    model: str | Path,
    recordings: str | Path | None = None,
    *,
    targets: Sequence[float] = TARGETS,
    output: str | Path | None = None,
    **scoring: Any,
) -> dict[str, Any]:
    """Run an ONNX file over hours of audio: prints tables, writes a report and returns it.

    Args:
        model: a file, or the name of a shipped model.
        recordings: a folder of audio files with `labels.csv`, such as `kws make-stream` makes; None: only `speech`.
        targets: false alarms per hour to give the misses at.
        output: the folder for `report.json`, `detections.csv` and `det.png`; None: `MODEL-stream` in the working
            directory.
        scoring: `speech`, `tolerance_ms`, `workers`, `detector` of `score_recordings`.

    Raises:
        KwsError: for a model, recordings or values that cannot be used.
    """
    for target in targets:
        above("targets", target)
    spotter = SpotterModel(model)
    began = perf_counter()
    scored, detector = score_recordings(spotter, recordings, **scoring)
    points = (
        {}
        if detector.thresholds != spotter.detector.thresholds
        else {point.fa_per_hour: detector.with_thresholds(point.thresholds) for point in spotter.operating_points}
    )
    own, *promised = scored.outcomes([detector, *points.values()])
    report: dict[str, Any] = {
        "model": str(spotter.path),
        "recordings": None if recordings is None else str(recordings),
        "speech": str(scoring["speech"]) if scoring.get("speech") else None,
        "hours": scored.seconds / 3600,
        "negative_hours": scored.negative_hours,
        "tolerance_ms": 1000 * scored.tolerance,
        "detector": detector.to_dict(),
        "calibrated": bool(detector.thresholds),
        "own_thresholds": {"all": operating_point(scored, own), "keywords": _by_keyword(scored, own)},
        "promised": {
            f"{rate:g}": operating_point(scored, outcome) for rate, outcome in zip(points, promised, strict=True)
        },
    }
    folder = Path(output or f"{spotter.path.stem}-stream")
    folder.mkdir(parents=True, exist_ok=True)
    if scored.events.sum() and scored.negative_hours > 0:
        sweep = Sweep(scored, detector)
        report["targets"] = {
            f"{target:g}": {
                "all": sweep.at(target),
                "keywords": {name: sweep.at(target, k) for k, name in enumerate(scored.keywords) if scored.events[k]},
            }
            for target in targets
        }
        alarms, misses = sweep.curve()
        report["det"] = {"threshold": sweep.thresholds, "fa_per_hour": alarms.tolist(), "frr": misses.tolist()}
        _plot(scored, sweep, report, folder / "det.png")
    if scored.events.sum():
        report["tensorflow"] = tensorflow_statistics(scored)
    report["hours_per_hour"] = scored.seconds / (perf_counter() - began)
    _write_detections(own, folder / "detections.csv")
    write_whole(folder / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    print_report(report, scored.keywords)
    print(*(path for path in sorted(folder.iterdir()) if path.name in ("report.json", "detections.csv", "det.png")))
    return report


def _by_keyword(scored: ScoredRecordings, outcome: Outcome) -> dict[str, Any]:
    return {name: operating_point(scored, outcome, k) for k, name in enumerate(scored.keywords)}


def tensorflow_statistics(scored: ScoredRecordings) -> dict[str, float]:
    """Matched, correct, wrong and false-positive percentages over the files that hold keywords; see `tf_streaming`."""
    model = scored.model
    window = model.metadata.get("model", {}).get("pool_ms", model.detector.smoothing_ms)
    frame_seconds = model.frame_length / model.sample_rate
    total = TfCounts(0, 0, 0, 0)
    for file, posteriors in zip(scored.files, scored.posteriors(window, model.detector.pooling), strict=True):
        if file.keywords:
            labelled = {event.keyword for event in file.events}
            ignored = [label for label in model.labels if not is_keyword(label) and label not in labelled]
            found = found_words(posteriors, frame_seconds, model.labels, ignored)
            total = TfCounts(*(a + b for a, b in zip(total, tf_counts(found, file.events), strict=True)))
    return total.percentages()


def _plot(scored: ScoredRecordings, sweep: Sweep, report: Mapping[str, Any], path: Path) -> None:
    curves = {"all keywords": sweep.curve()}
    curves |= {name: sweep.curve(k) for k, name in enumerate(scored.keywords) if scored.events[k]}
    point = report["own_thresholds"]["all"]
    marked = {"the model's thresholds": (point["fa_per_hour"], point["frr"])}
    plot_det(
        {name: (a.tolist(), m.tolist()) for name, (a, m) in curves.items()}, path, 0.5 / scored.negative_hours, marked
    )


def _write_detections(outcome: Outcome, path: Path) -> None:
    """Every detection at the model's thresholds, with its verdict and what was said then."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["file", "start", "end", "time", "keyword", "score", "verdict", "said"])
        for file, found, verdict in outcome.verdicts:
            said = next((e.text or e.keyword for e in reversed(file.events) if e.onset <= found.time), "")
            part = file.part(found.time)
            times = (f"{seconds - part.start:.2f}" for seconds in (found.start, found.end, found.time))
            writer.writerow([part.path.name, *times, found.keyword, f"{found.score:.4f}", verdict, said])


def print_report(report: Mapping[str, Any], keywords: Sequence[str]) -> None:
    """The tables."""
    own, targets = report["own_thresholds"], report.get("targets", {})
    heard = " and ".join(place for place in (report["recordings"], report["speech"]) if place)
    print(
        f"{heard}: {report['hours']:.2f} h with {own['all']['events']} keywords, false alarms counted in "
        f"{report['negative_hours']:.2f} h of it; heard at {report['hours_per_hour']:.0f} x real time\n"
    )
    print(f"{'all keywords':24} {'FRR (95 %)':23} {'FA/h (95 %)':22} delay ms, median and 95th percentile")
    print(interval_line("at the model's own" if report["calibrated"] else "at the default threshold", own["all"]))
    for rate, point in report["promised"].items():
        print(interval_line(f"promised {rate} FA/h", point))
    for target, points in targets.items():
        print(interval_line(f"at most {target} FA/h here", points["all"]))
    width = max(map(len, keywords))
    heads = "".join(f"{f'FRR at {target} FA/h':>17}" for target in targets)
    print(f"\n{'keyword':{width}} events {'own FRR':>8} {'own FA/h':>9}{heads}")
    for name in keywords:
        point = own["keywords"][name]
        cells = "".join(f"{_percent(by['keywords'].get(name)):>17}" for by in targets.values())
        alarms = "-" if point["fa_per_hour"] is None else f"{point['fa_per_hour']:.2f}"
        print(f"{name:{width}} {point['events']:6} {_percent(point):>8} {alarms:>9}{cells}")
    if statistics := report.get("tensorflow"):
        print(
            "\nTensorFlow's streaming tool: "
            + ", ".join(f"{v:.1f}% {k.replace('_', ' ')}" for k, v in statistics.items())
        )
    if not report["calibrated"]:
        print("The model has no thresholds of its own; kws calibrate chooses them.")
    if not own["all"]["events"]:
        print("The recording set holds no keyword, so there is no false rejection rate.")
    if own["all"]["fa_per_hour"] is None:
        print("The recording set holds no time without keywords, so there is no rate of false alarms.")


def _percent(point: Mapping[str, Any] | None) -> str:
    return "-" if point is None or point["frr"] is None else f"{point['frr']:.1%}"


def main(arguments: Sequence[str]) -> int:
    """Entry of `kws evaluate-stream`: the exit status."""
    parser = argparse.ArgumentParser(prog="kws evaluate-stream", description=__doc__)
    add_arguments(parser)
    add = parser.add_argument
    add("--targets", type=float, nargs="+", default=TARGETS, metavar="X", help="false alarms an hour to report at")
    add("--output", metavar="DIR", help="folder of the report (default: MODEL-stream in the working directory)")
    evaluate_stream(**keyword_arguments(parser.parse_intermixed_args(arguments)))
    return 0
