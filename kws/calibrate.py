"""Thresholds for so many false alarms an hour: `kws calibrate MODEL [RECORDINGS] --speech DIR`."""

from __future__ import annotations

from kws import cli

if __name__ == "__main__":  # `kws calibrate`, before imports that may be missing
    cli.door("calibrate")

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from kws import __version__
from kws.errors import KwsError
from kws.evaluation.metrics import poisson_interval
from kws.evaluation.operating_points import (
    Sweep,
    add_arguments,
    interval_line,
    keyword_arguments,
    operating_point,
    score_recordings,
)
from kws.evaluation.recording_scores import ScoredRecordings
from kws.evaluation.tail import Tail, fit_tail
from kws.recordings.speech import joined, read_speech
from kws.runtime.contract import FORMAT, KINDS
from kws.runtime.onnx_model import SpotterModel
from kws.runtime.operating_points import OperatingPoint
from kws.runtime.shipped import is_shipped
from kws.system.atomic import whole_file

RATES = (0.2, 0.5, 1.0, 5.0)  # false alarms an hour that thresholds are chosen for
SHOWN = 3.0  # hearing none where so many were promised shows the promise, with 95 % confidence: exp(-3) < 0.05
FITTED = 0.3  # so many, promised in the hours heard, a fitted tail still reaches


def calibrate(
    model: str | Path,
    recordings: str | Path | None = None,
    *,
    fa_per_hour: float = 1.0,
    each: bool = False,
    output: str | Path | None = None,
    detector: Mapping[str, float] | None = None,
    **scoring: Any,
) -> list[OperatingPoint]:
    """Choose thresholds for several rates of false alarms, write them into an ONNX file, print and return them.

    Thresholds are on the log ratio (`kws.runtime.scores`), and come from the tail of the false alarms' scores: the
    misses play no part in the choice.

    Args:
        model: a file, or the name of a shipped model.
        recordings: a folder of audio files with `labels.csv`, such as `kws make-stream` makes, to count misses in;
            None: misses stay unknown.
        fa_per_hour: false alarms per hour, of all keywords together, that the file allows where nothing else is said.
        each: a threshold for each keyword, with an equal part of the false alarms; otherwise one for all.
        output: the calibrated file; None: the model itself, and for a shipped one a copy in the working directory.
        detector: options to change with the thresholds, of `operating_points.DETECTOR_OPTIONS`.
        scoring: `speech`, `tolerance_ms` and `workers` of `score_recordings`.

    Raises:
        KwsError: for recordings too short for `fa_per_hour`, and for values out of range. Nothing is written then.
    """
    if not fa_per_hour > 0:
        raise KwsError(f"fa_per_hour is {fa_per_hour}; it must be above 0")
    spotter = SpotterModel(model)
    path = _output(spotter.path, output)
    changes = {"score": "log_ratio", "unknown_bias": 0.0, "threshold": 0.0, **(detector or {})}
    scored, config = score_recordings(spotter, recordings, detector=changes, **scoring)
    hours = scored.negative_hours
    if hours * fa_per_hour < FITTED:
        raise KwsError(
            f"there are {hours:.2f} h without keywords; thresholds for {fa_per_hour:g} false alarms an hour need at "
            f"least {FITTED / fa_per_hour:.2g} h, and {SHOWN / fa_per_hour:.2g} h to show that they hold"
        )
    sweep = Sweep(scored, config)
    tails = [fit_tail(sweep.thresholds, sweep.alarms(keywords), hours) for keywords in _shares(scored, each)]
    rates = [rate for rate in sorted({*RATES, fa_per_hour}) if hours * rate >= FITTED]
    chosen = [config.with_thresholds(_thresholds(scored.keywords, tails, rate)) for rate in rates]
    measured = [operating_point(scored, outcome) for outcome in scored.outcomes(chosen)]
    points = [
        OperatingPoint(
            fa_per_hour=rate,
            thresholds=dict(at.thresholds),
            hours=hours,
            extrapolated=hours * rate < SHOWN,
            frr_interval=result["frr_interval"] or [0.0, 1.0],
            **{name: result[name] for name in ("false_alarms", "fa_interval", "events", "misses")},
        )
        for rate, at, result in zip(rates, chosen, measured, strict=True)
    ]
    places = {"recordings": recordings, "speech": scoring.get("speech")}
    card = {name: Path(place).name for name, place in places.items() if place} | {"kws_version": __version__}
    default = chosen[rates.index(fa_per_hour)]
    changed = {
        "kws_format": FORMAT,
        "kind": KINDS[0],
        "detector": default.to_dict(),
        "fa_per_hour": fa_per_hour,
        "operating_points": [asdict(point) for point in points],
    }
    write_metadata(spotter.path, path, changed, {"calibration": card})
    _print(scored, points, measured, fa_per_hour)
    print(path)
    return points


def raise_thresholds(
    model: str | Path, room: str | Path, *, output: str | Path | None = None, workers: int = 0
) -> list[OperatingPoint]:
    """Make a calibrated ONNX file quieter where it will be used: write, print and return its operating points.

    Every detection in the recordings of the room is taken for a false alarm, since nobody says what was said. So a few
    hours can only raise thresholds: to those of the tail of these detections, where the file's are lower.

    Args:
        model: a file with operating points, or the name of a shipped one.
        room: a folder of audio, such as an hour of television, in which no keyword is said.
        output: as for `calibrate`.
        workers: threads; 0: one per core.

    Raises:
        KwsError: for a model without operating points, and for a folder without audio. Nothing is written then.
    """
    spotter = SpotterModel(model)
    if not spotter.operating_points:
        raise KwsError(
            f"{spotter.path} promises nothing yet; calibrate it on speech first: kws calibrate MODEL --speech DIR"
        )
    path = _output(spotter.path, output)
    heard = ScoredRecordings(spotter, joined(read_speech(Path(room).expanduser(), "room")), 0.0, workers)
    hours = heard.seconds / 3600
    sweep = Sweep(heard, spotter.detector)
    tail = fit_tail(sweep.thresholds, sweep.alarms(), hours)
    points = [
        replace(
            point,
            thresholds={
                name: max(value, round(tail.threshold(point.fa_per_hour), 4))
                for name, value in point.thresholds.items()
            },
        )
        for point in spotter.operating_points
    ]
    raised = [spotter.detector.with_thresholds(point.thresholds) for point in points]
    before, *after = (int(outcome.false_alarms.sum()) for outcome in heard.outcomes([spotter.detector, *raised]))
    changed = {"operating_points": [asdict(point) for point in points]}
    write_metadata(spotter.path, path, changed, {"room": Path(room).name})
    default = [point.fa_per_hour for point in points].index(spotter.metadata["fa_per_hour"])
    most = poisson_interval(after[default], hours, 0.9)[1]  # of both sides 90 %: 95 % of one
    print(f"{room}: {hours:.2f} h, {before} detections at the default thresholds before, {after[default]} now")
    print(f"That shows, with 95 % confidence, at most {most:.2g} false alarms an hour in this room.")
    print(path)
    return points


def _output(model: Path, given: str | Path | None) -> Path:
    """Where to write. Raises `KwsError` where the copy of a shipped model would replace another file."""
    if given or not is_shipped(model):
        return Path(given or model)
    if (path := Path(model.name)).exists():
        raise KwsError(f"{path} is already there; name the file for the calibrated {model.stem} with --output")
    return path


def _shares(scored: ScoredRecordings, each: bool) -> list[slice]:
    """The keywords that share a threshold, as columns of an outcome."""
    n = len(scored.keywords)
    return [slice(k, k + 1) for k in range(n)] if each else [slice(0, n)]


def _thresholds(keywords: Sequence[str], tails: Sequence[Tail], rate: float) -> dict[str, float]:
    """Of every keyword: each tail gets an equal part of the rate."""
    values = [round(tail.threshold(rate / len(tails)), 4) for tail in tails]
    return dict(zip(keywords, values * (len(keywords) // len(tails)), strict=True))


def _print(
    scored: ScoredRecordings, points: Sequence[OperatingPoint], measured: Sequence[Mapping[str, Any]], default: float
) -> None:
    print(f"{scored.negative_hours:.2f} h without keywords, {int(scored.events.sum())} keywords beside them\n")
    print(f"{'promised FA/h':24} {'FRR (95 %)':23} {'FA/h here (95 %)':22} delay ms, median and 95th percentile")
    for point, result in zip(points, measured, strict=True):
        marks = ", default" * (point.fa_per_hour == default) + ", extrapolated" * point.extrapolated
        print(interval_line(f"{point.fa_per_hour:g}{marks}", result))
    thresholds = next(point.thresholds for point in points if point.fa_per_hour == default)
    values = [f"{name} {value:.2f}" for name, value in thresholds.items()]
    if len(set(thresholds.values())) == 1:
        values = [f"{next(iter(thresholds.values())):.2f} for all keywords"]
    print(f"\nthresholds by default: {', '.join(values)}")
    if unsaid := [name for name, count in zip(scored.keywords, scored.events, strict=True) if not count]:
        print(f"No recording says {', '.join(unsaid)}, so nobody knows how often that is missed.")


def write_metadata(model: Path, output: Path, changes: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    """Copy an ONNX file to `output`, whole or not at all, with JSON metadata changed and checked."""
    import onnx

    graph = onnx.load(model)
    texts = {prop.key: prop.value for prop in graph.metadata_props}
    known = json.loads(texts.get("card", "{}"))
    known.pop("operating_point", None)  # of format 1
    texts |= {key: json.dumps(value) for key, value in {**changes, "card": {**known, **card}}.items()}
    onnx.helper.set_model_props(graph, texts)
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(output) as partial:
        partial.write_bytes(graph.SerializeToString())
        SpotterModel(partial)


def main(arguments: Sequence[str]) -> int:
    """Entry of `kws calibrate`: the exit status."""
    parser = argparse.ArgumentParser(prog="kws calibrate", description=__doc__)
    add_arguments(parser)
    add = parser.add_argument
    add(
        "--fa-per-hour",
        type=float,
        default=1.0,
        metavar="X",
        help="false alarms an hour that the file allows by default, of all keywords (default: 1)",
    )
    text = "recordings of the room, no keyword said: only raises a calibrated file's thresholds to stay quiet there"
    add("--room", metavar="DIR", help=text)
    add("--each", action="store_true", help="a threshold for each keyword, not one for all")
    add(
        "--output",
        metavar="ONNX",
        help="the calibrated file (default: MODEL itself; of a shipped one a copy here)",
    )
    options = parser.parse_intermixed_args(arguments)
    if (room := options.__dict__.pop("room")) is None:
        calibrate(**keyword_arguments(options))
    elif options.recordings or options.speech:
        raise KwsError("--room takes no RECORDINGS and no --speech: calibrate on those first, then on the room")
    else:
        raise_thresholds(options.model, room, output=options.output, workers=options.workers)
    return 0
