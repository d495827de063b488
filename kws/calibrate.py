"""Thresholds for a budget of false alarms: `kws calibrate MODEL RECORDINGS --fa-per-hour 0.5`."""

from __future__ import annotations

from kws import cli

if __name__ == "__main__":  # `kws calibrate`, before imports that may be missing
    cli.door("calibrate")

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws import __version__
from kws.config import UNKNOWN
from kws.errors import KwsError
from kws.evaluation.operating_points import (
    Sweep,
    add_arguments,
    interval_line,
    keyword_arguments,
    operating_point,
    score_recordings,
)
from kws.evaluation.recording_scores import THRESHOLDS, Outcome, ScoredRecordings
from kws.runtime.detector import DetectorConfig
from kws.runtime.onnx_model import SpotterModel
from kws.runtime.shipped import is_shipped
from kws.system.arrays import Int64
from kws.system.atomic import whole_file

BIASES = (0.0, 1.5, 3.0, 4.5, 6.0)


def calibrate(
    model: str | Path,
    recordings: str | Path,
    *,
    fa_per_hour: float = 0.5,
    unknown_biases: Sequence[float] = BIASES,
    output: str | Path | None = None,
    detector: Mapping[str, float] | None = None,
    **scoring: Any,
) -> dict[str, Any]:
    """Choose an ONNX file's thresholds, write them into it, print them; returns the operating point.

    Args:
        model: a file, or the name of a shipped model.
        recordings: a folder of audio files with `labels.csv`, such as `kws make-stream` makes.
        fa_per_hour: false alarms per hour to allow, of all keywords together.
        unknown_biases: tried for the detector's `unknown_bias`, unless `detector` gives it; the one with the fewest
            misses is kept.
        output: the calibrated file; None: the model itself, and for a shipped one a copy in the working directory.
        detector: options to change with the thresholds, of `operating_points.DETECTOR_OPTIONS`.
        scoring: `tolerance_ms` and `workers` of `score_recordings`.

    Raises:
        KwsError: for recordings too short to show the target or without one of the keywords, for a target that no
            thresholds reach, and for values out of range. Nothing is written then.
    """
    if not fa_per_hour > 0:
        raise KwsError(f"fa_per_hour is {fa_per_hour}; it must be above 0")
    if not unknown_biases:
        raise KwsError("unknown_biases is empty; name at least one, e.g. 0")
    spotter = SpotterModel(model)
    path = _output(spotter.path, output)
    scored, config = score_recordings(spotter, Path(recordings), detector=detector, **scoring)
    check_recordings(scored, fa_per_hour)
    configs = [config]
    if "unknown_bias" not in (detector or {}) and UNKNOWN in spotter.labels:
        configs = [replace(config, unknown_bias=bias) for bias in unknown_biases]
    tried = [choose_thresholds(scored, one, fa_per_hour) for one in configs]
    found = [(chosen, outcome) for chosen, outcome in tried if chosen]
    if not found:
        fewest = min(outcome.false_alarms.sum() for _, outcome in tried) / scored.negative_hours
        raise KwsError(
            f"no thresholds keep {spotter.path} at {fa_per_hour:g} false alarms per hour: the highest "
            f"give {fewest:.2f}; raise --fa-per-hour or train the model further"
        )
    chosen, outcome = max(found, key=lambda pair: pair[1].hits.sum())
    point = {
        "target_fa_per_hour": fa_per_hour,
        "stream": Path(recordings).name,
        "hours": scored.seconds / 3600,
        "negative_hours": scored.negative_hours,
        "kws_version": __version__,
        **operating_point(scored, outcome),
    }
    write_metadata(spotter.path, path, {"detector": chosen.to_dict(), "card": {"operating_point": point}})
    _print(scored, chosen, outcome, point)
    print(path)
    return point


def _output(model: Path, given: str | Path | None) -> Path:
    """Where to write. Raises `KwsError` where the copy of a shipped model would replace another file."""
    if given or not is_shipped(model):
        return Path(given or model)
    if (path := Path(model.name)).exists():
        raise KwsError(f"{path} is already there; name the file for the calibrated {model.stem} with --output")
    return path


def _print(scored: ScoredRecordings, chosen: DetectorConfig, outcome: Outcome, point: Mapping[str, Any]) -> None:
    width = max(map(len, scored.keywords))
    print(f"{'keyword':{width}} threshold events    FRR   FA/h")
    for k, name in enumerate(scored.keywords):
        one, threshold = operating_point(scored, outcome, k), chosen.thresholds[name]
        print(f"{name:{width}} {threshold:9.5f} {one['events']:6} {one['frr']:6.1%} {one['fa_per_hour']:6.2f}")
    print(f"\n{'all keywords':24} {'FRR (95 %)':23} {'FA/h (95 %)':22} delay ms, median and 95th percentile")
    print(interval_line("at these thresholds", point))
    if chosen.unknown_bias:
        print(f"with {chosen.unknown_bias:+g} on the logit of {UNKNOWN}")
    if lost := [name for name, bad in zip(scored.keywords, 2 * outcome.hits < scored.events, strict=True) if bad]:
        print(f"Missed more often than found: {', '.join(lost)}. Allow more false alarms, or train the model further.")


def choose_thresholds(
    scored: ScoredRecordings, detector: DetectorConfig, target: float
) -> tuple[DetectorConfig | None, Outcome]:
    """The detector with the thresholds of fewest misses within `target` false alarms per hour, and what comes of it.

    Where no thresholds keep the target: None, and what comes of the highest.
    """
    sweep = Sweep(scored, detector)
    alarms = np.array([outcome.false_alarms for outcome in sweep.outcomes])
    misses = scored.events - np.array([outcome.hits for outcome in sweep.outcomes])
    indices = choose(alarms, misses / scored.events, math.floor(target * scored.negative_hours + 1e-9))
    if indices is None:
        return None, sweep.outcomes[-1]
    chosen = replace(detector, thresholds={k: THRESHOLDS[p] for k, p in zip(scored.keywords, indices, strict=True)})
    return chosen, scored.outcomes([chosen])[0]


def check_recordings(scored: ScoredRecordings, target: float) -> None:
    """Raise `KwsError` if the recordings cannot show `target` false alarms per hour, or lack a keyword.

    Hearing none for 3 / target hours is what shows, with 95 % confidence, that there are fewer than the target ("rule
    of three"): exp(-target * hours) <= 0.05.
    """
    needed = -math.log(0.05) / target
    if scored.negative_hours < needed:
        raise KwsError(
            f"the recording set holds {scored.negative_hours:.2f} h without keywords; to support {target:g} false "
            f"alarms per hour it needs {needed:.1f} h (negative_hours={math.ceil(needed)} of kws make-stream)"
        )
    if missing := [name for name, count in zip(scored.keywords, scored.events, strict=True) if not count]:
        raise KwsError(
            f"the recording set never says {', '.join(missing)}; calibrate on one with every keyword of the model"
        )


def choose(alarms: Int64, misses: NDArray[np.float64], budget: int) -> list[int] | None:
    """The index of each keyword's threshold, for the fewest misses within `budget` false alarms in all.

    `alarms`, `misses`: false alarms and rate of misses `[P, K]` by threshold and keyword. Exact, by dynamic programming
    over keywords and the alarms spent so far. Of thresholds that do the same, the middle one; None if none do.
    """
    n_thresholds, n_keywords = alarms.shape
    best = np.zeros(budget + 1)  # fewest misses of the keywords so far, by the alarms they may make
    picks: list[Int64] = []  # by keyword: the threshold that is best for each number of alarms
    for k in range(n_keywords):
        cost = np.full((n_thresholds, budget + 1), np.inf)
        for index, count in enumerate(alarms[:, k]):
            if count <= budget:
                cost[index, count:] = best[: budget + 1 - count] + misses[index, k]
        best = cost.min(axis=0)
        picks.append(np.array([_middle(np.flatnonzero(column == column.min())) for column in cost.T]))
    if not np.isfinite(best[budget]):
        return None
    indices, left = [], budget
    for k in reversed(range(n_keywords)):
        indices.append(int(picks[k][left]))
        left -= int(alarms[indices[-1], k])
    return indices[::-1]


def _middle(indices: Int64) -> int:
    return int(indices[len(indices) // 2])


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


def main(arguments: Sequence[str]) -> int:
    """Entry of `kws calibrate`: the exit status."""
    parser = argparse.ArgumentParser(prog="kws calibrate", description=__doc__)
    add_arguments(parser)
    add = parser.add_argument
    add(
        "--fa-per-hour",
        type=float,
        default=0.5,
        metavar="X",
        help="false alarms to allow, in all (default: 0.5)",
    )
    add(
        "--unknown-biases",
        type=float,
        nargs="+",
        default=BIASES,
        metavar="X",
        help="tried unless --unknown-bias is given",
    )
    add(
        "--output",
        metavar="ONNX",
        help="the calibrated file (default: MODEL itself; of a shipped one a copy here)",
    )
    calibrate(**keyword_arguments(parser.parse_args(arguments)))
    return 0
