"""Thresholds for a budget of false alarms: `python -m kws.calibrate model=FILE stream=DIR target_fa_per_hour=0.5`."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws import __version__, entry
from kws.config import UNKNOWN
from kws.evaluation.operating_points import Sweep, interval_line, operating_point, score_recordings
from kws.evaluation.stream_scores import THRESHOLDS, Outcome, ScoredStream
from kws.recordings.config import CalibrateConfig
from kws.runtime.detector import DetectorConfig
from kws.runtime.onnx_model import SpotterModel
from kws.system.arrays import Int64
from kws.system.atomic import whole_file


def calibrate(config: CalibrateConfig) -> dict[str, Any]:
    """Choose thresholds by `config`, write them into the model, print them; returns the operating point.

    Raises `ValueError`, and writes nothing, for a stream too short to show the target, one that lacks a keyword, or a
    target that no thresholds reach.
    """
    model = SpotterModel(config.model)
    stream, detector = score_recordings(config, model)
    check_stream(stream, config.target_fa_per_hour)
    tried = [choose_thresholds(stream, one, config.target_fa_per_hour) for one in _biased(config, detector, model)]
    found = [(chosen, outcome) for chosen, outcome in tried if chosen]
    if not found:
        fewest = min(outcome.false_alarms.sum() for _, outcome in tried) / stream.negative_hours
        raise ValueError(
            f"no thresholds keep {config.model} at {config.target_fa_per_hour:g} false alarms per hour: the highest "
            f"give {fewest:.2f}; raise target_fa_per_hour or train the model further"
        )
    chosen, outcome = max(found, key=lambda pair: pair[1].hits.sum())
    point = {
        "target_fa_per_hour": config.target_fa_per_hour,
        "stream": Path(config.stream).name,
        "hours": stream.seconds / 3600,
        "negative_hours": stream.negative_hours,
        "kws_version": __version__,
        **operating_point(stream, outcome),
    }
    output = Path(config.output or config.model)
    write_metadata(Path(config.model), output, {"detector": chosen.to_dict(), "card": {"operating_point": point}})
    width = max(map(len, stream.keywords))
    print(f"{'keyword':{width}} threshold events    FRR   FA/h")
    for k, name in enumerate(stream.keywords):
        one, threshold = operating_point(stream, outcome, k), chosen.thresholds[name]
        print(f"{name:{width}} {threshold:9.5f} {one['events']:6} {one['frr']:6.1%} {one['fa_per_hour']:6.2f}")
    print(f"\n{'all keywords':24} {'FRR (95 %)':23} {'FA/h (95 %)':22} delay ms, median and 95th percentile")
    print(interval_line("at these thresholds", point))
    if chosen.unknown_bias:
        print(f"with {chosen.unknown_bias:+g} on the logit of {UNKNOWN}")
    if lost := [name for name, bad in zip(stream.keywords, 2 * outcome.hits < stream.events, strict=True) if bad]:
        print(f"Missed more often than found: {', '.join(lost)}. Allow more false alarms, or train the model further.")
    print(output)
    return point


def _biased(config: CalibrateConfig, detector: DetectorConfig, model: SpotterModel) -> list[DetectorConfig]:
    """The detector with each `unknown_bias` to try."""
    if config.detector.unknown_bias is not None or UNKNOWN not in model.labels:
        return [detector]
    return [replace(detector, unknown_bias=bias) for bias in config.unknown_biases]


def choose_thresholds(
    stream: ScoredStream, detector: DetectorConfig, target: float
) -> tuple[DetectorConfig | None, Outcome]:
    """The detector with the thresholds of fewest misses within `target` false alarms per hour, and what comes of it.

    Where no thresholds keep the target: None, and what comes of the highest.
    """
    sweep = Sweep(stream, detector)
    alarms = np.array([outcome.false_alarms for outcome in sweep.outcomes])
    misses = stream.events - np.array([outcome.hits for outcome in sweep.outcomes])
    places = choose(alarms, misses / stream.events, math.floor(target * stream.negative_hours + 1e-9))
    if places is None:
        return None, sweep.outcomes[-1]
    chosen = replace(detector, thresholds={k: THRESHOLDS[p] for k, p in zip(stream.keywords, places, strict=True)})
    return chosen, stream.outcomes([chosen])[0]


def check_stream(stream: ScoredStream, target: float) -> None:
    """Raise `ValueError` if `stream` cannot show `target` false alarms per hour, or holds too few keywords.

    Hearing none for 3 / target hours is what shows, with 95 % confidence, that there are fewer than the target ("rule
    of three"): exp(-target * hours) <= 0.05.
    """
    needed = -math.log(0.05) / target
    if stream.negative_hours < needed:
        raise ValueError(
            f"the stream holds {stream.negative_hours:.2f} h without keywords; to support {target:g} false alarms per "
            f"hour it needs {needed:.1f} h (negative_hours={math.ceil(needed)} of python -m kws.make_stream)"
        )
    if missing := [name for name, count in zip(stream.keywords, stream.events, strict=True) if not count]:
        raise ValueError(
            f"the stream never says {', '.join(missing)}; calibrate on one with every keyword of the model"
        )


def choose(alarms: Int64, misses: NDArray[np.float64], budget: int) -> list[int] | None:
    """The place of each keyword's threshold, for the fewest misses within `budget` false alarms in all.

    `alarms`, `misses`: false alarms and rate of misses `[P, K]` by threshold and keyword. Exact, by dynamic programming
    over keywords and the alarms spent so far. Of thresholds that do the same, the middle one; None if none do.
    """
    n_thresholds, n_keywords = alarms.shape
    best = np.zeros(budget + 1)  # fewest misses of the keywords so far, by the alarms they may make
    picks: list[Int64] = []  # by keyword: the threshold that is best for each number of alarms
    for k in range(n_keywords):
        cost = np.full((n_thresholds, budget + 1), np.inf)
        for place, count in enumerate(alarms[:, k]):
            if count <= budget:
                cost[place, count:] = best[: budget + 1 - count] + misses[place, k]
        best = cost.min(axis=0)
        picks.append(np.array([_middle(np.flatnonzero(column == column.min())) for column in cost.T]))
    if not np.isfinite(best[budget]):
        return None
    places, left = [], budget
    for k in reversed(range(n_keywords)):
        places.append(int(picks[k][left]))
        left -= int(alarms[places[-1], k])
    return places[::-1]


def _middle(places: Int64) -> int:
    return int(places[len(places) // 2])


def write_metadata(model: Path, output: Path, changes: dict[str, dict[str, Any]]) -> None:
    """Copy an ONNX file to `output`, whole or not at all, with JSON metadata tables changed and checked."""
    import onnx

    graph = onnx.load(model)
    tables = {prop.key: prop.value for prop in graph.metadata_props}
    for key, change in changes.items():
        tables[key] = json.dumps({**json.loads(tables.get(key, "{}")), **change})
    onnx.helper.set_model_props(graph, tables)
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(output) as partial:
        partial.write_bytes(graph.SerializeToString())
        SpotterModel(partial)


def register_schemas() -> None:
    """Make the options known to Hydra."""
    entry.register("calibrate_schema", CalibrateConfig)


def main() -> None:
    """Entry of `python -m kws.calibrate`."""
    register_schemas()
    entry.main(calibrate, "calibrate")


if __name__ == "__main__":
    main()
