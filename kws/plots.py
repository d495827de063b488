"""Pictures of results. matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def plot_confusion(confusion: NDArray[np.int64], labels: Sequence[str], path: str | Path, title: str = "") -> None:
    """Write a confusion matrix int64 `[K, K]` (rows: truth) as PNG: counts, and colour and percent by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    cell, small = (0.62, 8) if len(labels) <= 14 else (0.36, 5)  # inches, points
    side = max(5.0, cell * len(labels) + 2)
    figure = Figure(figsize=(side, side), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
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
    figure.savefig(path)
