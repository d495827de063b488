"""Pictures of results. matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from kws.system.arrays import Int64
from kws.system.atomic import whole_file


def plot_confusion(confusion: Int64, labels: Sequence[str], path: str | Path, title: str = "") -> None:
    """Write a confusion matrix int64 `[K, K]` (rows: truth) as PNG: counts, and colour and percent by row."""
    from matplotlib.figure import Figure

    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    cell, small = (0.62, 8) if len(labels) <= 14 else (0.36, 5)  # inches, points
    side = max(5.0, cell * len(labels) + 2)
    figure = Figure(figsize=(side, side), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    # The square root lets a few errors be seen beside hundreds of hits.
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion):
        if count:
            text = f"{count}\n{share[row, column]:.1%}"
            colour = "white" if share[row, column] > 0.3 else "#1b1b1b"
            axes.text(column, row, text, ha="center", va="center", fontsize=small - 1, color=colour, linespacing=0.95)
    names = [f"{label} ({count})" for label, count in zip(labels, confusion.sum(axis=1), strict=True)]
    axes.set_yticks(range(len(labels)), names, fontsize=small + 1)
    axes.set_xticks(
        range(len(labels)), list(labels), fontsize=small + 1, rotation=45, ha="right", rotation_mode="anchor"
    )
    axes.set_xticks(np.arange(len(labels) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(labels) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("said (clips)")
    overall = np.trace(confusion) / max(1, confusion.sum())
    axes.set_title(f"{title}\n" * bool(title) + f"accuracy {overall:.2%} of {confusion.sum()} clips", fontsize=11)
    with whole_file(Path(path)) as partial:
        figure.savefig(partial, format="png")


def plot_det(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: str | Path,
    floor: float,
    points: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Write detection error trade-offs as PNG: misses on a normal-deviate axis, false alarms per hour on a log axis.

    Args:
        curves: name -> (false alarms per hour, false rejection rate) along the thresholds; the first is drawn bold.
        path: the file.
        floor: where no false alarm at all is drawn, such as half an alarm in the hours there are.
        points: name -> one (false alarms per hour, false rejection rate) to mark.
    """
    from matplotlib.figure import Figure

    def deviate(share: float) -> float:
        return NormalDist().inv_cdf(min(max(share, 5e-4), 0.99))

    figure = Figure(figsize=(7.5, 6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    colours = [f"C{i % 10}" for i in range(len(curves))]
    for i, (name, (alarms, misses)) in enumerate(curves.items()):
        x, y = [max(value, floor) for value in alarms], [deviate(value) for value in misses]
        style = {"color": "black", "linewidth": 2.5, "zorder": 3} if i == 0 else {"color": colours[i], "linewidth": 1}
        axes.step(x, y, where="pre", label=name, **style)
    for name, (alarm, miss) in (points or {}).items():
        axes.plot(max(alarm, floor), deviate(miss), "o", color="crimson", zorder=4, label=name)
    ticks = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95]
    axes.set_yticks(
        [deviate(tick) for tick in ticks], [f"{tick:.1%}" if tick < 0.01 else f"{tick:.0%}" for tick in ticks]
    )
    axes.set_ylim(deviate(0.001), deviate(0.95))
    axes.set_xscale("log")
    axes.set_xlim(floor, max([100.0, *(1.5 * alarm for alarm, _ in (points or {}).values())]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(which="major", color="#dddddd", linewidth=0.6)
    axes.set_xlabel(f"false alarms per hour (none is drawn at {floor:.2g})")
    axes.set_ylabel("false rejection rate")
    axes.legend(fontsize=8, ncols=2)
    with whole_file(Path(path)) as partial:
        figure.savefig(partial, format="png")


def plot_errors(
    by_loudness: Mapping[str, Mapping[str, Mapping[str, Any]]],
    by_snr: Mapping[str, Mapping[str, Any]],
    path: str | Path,
) -> None:
    """Write accuracy by loudness (bars) and by SNR (a line; dashed: no noise added) as PNG, with 95 % intervals.

    The arguments are those of a report of `kws.evaluate`: name -> `accuracy`, `interval` (both shares), `clips`.
    """
    from matplotlib.figure import Figure

    def spread(entries: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[list[float]]]:
        """Accuracies in percent, and how far the intervals reach below and above."""
        pairs = [(100 * entry["accuracy"], [100 * end for end in entry["interval"]]) for entry in entries]
        reach = [[max(0.0, at - low) for at, (low, _) in pairs], [max(0.0, high - at) for at, (_, high) in pairs]]
        return [at for at, _ in pairs], reach

    bars = [(kind, name) for kind, name in (("silence", "noise alone"), ("spoken", "spoken")) if kind in by_loudness]
    panels = len(bars) + bool(by_snr)
    figure = Figure(figsize=(4 * max(panels, 1), 3.6), dpi=150, layout="constrained")
    row = iter(figure.subplots(1, max(panels, 1), sharey=True, squeeze=False)[0])
    for kind, name in bars:
        axes, entries = next(row), list(by_loudness[kind].values())
        heights, reach = spread(entries)
        axes.bar(range(len(entries)), heights, yerr=reach, color="#6baed6", capsize=3, ecolor="#1b1b1b")
        names = [f"{band}\n({entry['clips']})" for band, entry in by_loudness[kind].items()]
        axes.set_xticks(range(len(entries)), names, fontsize=7)
        axes.set_xlabel(f"{name}: dBFS (clips)")
    if by_snr:
        axes = next(row)
        points = sorted((float(snr), entry) for snr, entry in by_snr.items() if snr != "clean")
        heights, reach = spread([entry for _, entry in points])
        axes.errorbar([snr for snr, _ in points], heights, yerr=reach, marker="o", capsize=3, color="#2171b5")
        if "clean" in by_snr:
            axes.axhline(100 * by_snr["clean"]["accuracy"], color="#555555", linestyle="--", linewidth=1)
        axes.set_xlabel("spoken, noise mixed in: SNR, dB")
    for axes in figure.axes:
        axes.set_ylim(0, 102)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    figure.axes[0].set_ylabel("accuracy, %")
    with whole_file(Path(path)) as partial:
        figure.savefig(partial, format="png")
