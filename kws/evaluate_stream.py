"""Misses, false alarms and delay over hours of audio: `python -m kws.evaluate_stream model=FILE stream=DIR`."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from kws import entry
from kws.evaluation.operating_points import Sweep, interval_line, operating_point, score_recordings
from kws.evaluation.plots import plot_det
from kws.evaluation.stream_scores import THRESHOLDS, Outcome, ScoredStream
from kws.evaluation.tf_streaming import TfCounts, found_words, tf_counts
from kws.recordings.config import EvaluateStreamConfig
from kws.runtime.onnx_model import SpotterModel


def evaluate_stream(config: EvaluateStreamConfig) -> dict[str, Any]:
    """Evaluate by `config`: prints tables, writes `report.json`, `detections.csv` and `det.png`, returns the report."""
    model = SpotterModel(config.model)
    began = perf_counter()
    stream, detector = score_recordings(config, model)
    own = stream.outcomes([detector])[0]
    report: dict[str, Any] = {
        "model": str(config.model),
        "stream": str(config.stream),
        "hours": stream.seconds / 3600,
        "negative_hours": stream.negative_hours,
        "tolerance_ms": config.tolerance_ms,
        "detector": detector.to_dict(),
        "calibrated": bool(detector.thresholds),
        "own_thresholds": {"all": operating_point(stream, own), "keywords": _by_keyword(stream, own)},
    }
    output = Path(config.output) if config.output else Path(config.model).with_name(f"{Path(config.model).stem}-stream")
    output.mkdir(parents=True, exist_ok=True)
    if stream.events.sum() and stream.negative_hours > 0:
        sweep = Sweep(stream, detector)
        report["targets"] = {
            f"{target:g}": {
                "all": sweep.at(target),
                "keywords": {name: sweep.at(target, k) for k, name in enumerate(stream.keywords) if stream.events[k]},
            }
            for target in config.targets
        }
        alarms, misses = sweep.curve()
        report["det"] = {"threshold": THRESHOLDS, "fa_per_hour": alarms.tolist(), "frr": misses.tolist()}
        _plot(stream, sweep, report, output / "det.png")
    if stream.events.sum():
        report["tensorflow"] = tensorflow_statistics(stream)
    report["hours_per_hour"] = stream.seconds / (perf_counter() - began)
    _write_detections(own, output / "detections.csv")
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print_report(report, stream.keywords)
    print(*(path for path in sorted(output.iterdir()) if path.name in ("report.json", "detections.csv", "det.png")))
    return report


def _by_keyword(stream: ScoredStream, outcome: Outcome) -> dict[str, Any]:
    return {name: operating_point(stream, outcome, k) for k, name in enumerate(stream.keywords)}


def tensorflow_statistics(stream: ScoredStream) -> dict[str, float]:
    """Matched, correct, wrong and false-positive percentages over the files that hold keywords; see `tf_streaming`."""
    model = stream.model
    window = model.metadata.get("model", {}).get("pool_ms", model.detector.smoothing_ms)
    frame_seconds = model.frame_length / model.sample_rate
    total = TfCounts(0, 0, 0, 0)
    for file, posteriors in zip(stream.files, stream.posteriors(window, model.detector.pooling), strict=True):
        if file.keywords:
            labelled = {event.keyword for event in file.events}
            ignored = [label for label in model.labels if label.startswith("_") and label not in labelled]
            found = found_words(posteriors, frame_seconds, model.labels, ignored)
            total = TfCounts(*(a + b for a, b in zip(total, tf_counts(found, file.events), strict=True)))
    return total.percentages()


def _plot(stream: ScoredStream, sweep: Sweep, report: Mapping[str, Any], path: Path) -> None:
    curves = {"all keywords": sweep.curve()}
    curves |= {name: sweep.curve(k) for k, name in enumerate(stream.keywords) if stream.events[k]}
    point = report["own_thresholds"]["all"]
    marked = {"the model's thresholds": (point["fa_per_hour"], point["frr"])}
    plot_det(
        {name: (a.tolist(), m.tolist()) for name, (a, m) in curves.items()}, path, 0.5 / stream.negative_hours, marked
    )


def _write_detections(outcome: Outcome, path: Path) -> None:
    """Every detection at the model's thresholds, with its verdict and what was said then."""
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["file", "start", "end", "time", "keyword", "score", "verdict", "said"])
        for file, found, verdict in outcome.verdicts:
            said = next((e.text or e.keyword for e in reversed(file.events) if e.onset <= found.time), "")
            times = (f"{seconds:.2f}" for seconds in (found.start, found.end, found.time))
            writer.writerow([file.path.name, *times, found.keyword, f"{found.score:.4f}", verdict, said])


def print_report(report: Mapping[str, Any], keywords: Sequence[str]) -> None:
    """The tables."""
    own, targets = report["own_thresholds"], report.get("targets", {})
    print(
        f"{report['stream']}: {report['hours']:.2f} h with {own['all']['events']} keywords, "
        f"{report['negative_hours']:.2f} h of it without; heard at {report['hours_per_hour']:.0f} x real time\n"
    )
    print(f"{'all keywords':24} {'FRR (95 %)':23} {'FA/h (95 %)':22} delay ms, median and 95th percentile")
    print(interval_line("at the model's own" if report["calibrated"] else "at the default threshold", own["all"]))
    for target, points in targets.items():
        print(interval_line(f"at most {target} FA/h", points["all"]))
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
        print("The model has no thresholds of its own; python -m kws.calibrate sets them.")
    if not own["all"]["events"]:
        print("The stream holds no keyword, so there is no false rejection rate.")
    if own["all"]["fa_per_hour"] is None:
        print("The stream holds no time without keywords, so there is no rate of false alarms.")


def _percent(point: Mapping[str, Any] | None) -> str:
    return "-" if point is None or point["frr"] is None else f"{point['frr']:.1%}"


def register_schemas() -> None:
    """Make the options known to Hydra."""
    entry.register("evaluate_stream_schema", EvaluateStreamConfig)


def main() -> None:
    """Entry of `python -m kws.evaluate_stream`."""
    register_schemas()
    entry.main(evaluate_stream, "evaluate_stream")


if __name__ == "__main__":
    main()
