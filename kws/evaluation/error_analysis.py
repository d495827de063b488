"""Where a model's errors lie: between which labels, at which loudness, in how much noise. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from kws.audio.levels import dbfs, noise_gain, saturated
from kws.evaluation.metrics import wilson_interval
from kws.system.arrays import Bool, Float64, Int16, Int64

SILENCE_EDGES, SPOKEN_EDGES = (-50, -30, -20), (-40, -30, -20)  # dBFS, between the bands of loudness
CLEAN = "clean"


class Waveforms(Protocol):
    """N clips of one length, read by number, as `kws.data.Clips`."""

    def __len__(self) -> int: ...

    def waveforms(self, indices: Int64) -> Int16:
        """Int16 `[len(indices), clip_length]`."""
        ...


def share_right(right: Bool) -> dict[str, Any]:
    """Accuracy, its 95 % interval and the number of clips of bool `[N]`, N at least 1."""
    correct = int(right.sum())
    return {
        "accuracy": correct / len(right),
        "interval": list(wilson_interval(correct, len(right))),
        "clips": len(right),
    }


def confusions(confusion: Int64, labels: Sequence[str], most: int = 5) -> list[dict[str, Any]]:
    """The `most` frequent errors of a confusion matrix `[K, K]` (rows: truth), the most frequent first.

    Each with what is said and predicted, and `clips` so predicted `of` all in which it is said.
    """
    wrong = confusion * (1 - np.eye(len(labels), dtype=np.int64))
    most_frequent = np.argsort(-wrong, axis=None, kind="stable")[:most]
    return [
        {
            "said": labels[row],
            "predicted": labels[column],
            "clips": int(wrong[row, column]),
            "of": int(confusion[row].sum()),
        }
        for row, column in (divmod(int(cell), len(labels)) for cell in most_frequent)
        if wrong[row, column]
    ]


def levels_dbfs(clips: Waveforms, batch: int = 256) -> Float64:
    """RMS level of each clip, float64 `[N]` in dBFS (a sine of full scale has -3); -inf for zeros."""
    numbers = np.arange(len(clips))
    values = [dbfs(clips.waveforms(numbers[start : start + batch])) for start in range(0, len(numbers), batch)]
    return np.concatenate([np.empty(0), *values])


def by_loudness(levels: Float64, right: Bool, silent: Bool) -> dict[str, dict[str, Any]]:
    """Accuracy by band of level, of the clips of noise alone (`silence`) and of the `spoken` ones.

    `levels` `[N]` in dBFS; `right` and `silent` bool `[N]`: what was predicted rightly, and what is `_silence_`. A
    band holds its lower edge. Bands and kinds without a clip are left out.
    """
    groups = {}
    for kind, members, edges in (("silence", silent, SILENCE_EDGES), ("spoken", ~silent, SPOKEN_EDGES)):
        names = [f"below {edges[0]}", *(f"{low} to {high}" for low, high in pairwise(edges)), f"above {edges[-1]}"]
        zero, band = np.isneginf(levels), np.searchsorted(edges, levels, side="right")
        bands = {"digital zero": zero} | {name: (band == i) & ~zero for i, name in enumerate(names)}
        groups[kind] = {name: share_right(right[at & members]) for name, at in bands.items() if (at & members).any()}
    return {kind: entries for kind, entries in groups.items() if entries}


def mix(waveforms: Int16, noise: Int16, snr_db: float) -> Int16:
    """Clips int16 `[N, S]` with noise of the same shape added at `snr_db`, clipped.

    As in training (`kws.training.augment`), the ratio is that of the RMS over the whole clip. All-zero noise adds none.
    """
    return saturated(waveforms + noise_gain(waveforms, noise, snr_db)[:, None] * noise)


class NoisyClips:
    """Some clips of a split with background noise mixed in; each has the same stretch of noise at every SNR."""

    def __init__(self, clips: Waveforms, members: Int64, noise: Int16, snr_db: float, seed: int = 0) -> None:
        """Clips number `members` `[M]`; stretches of `noise` int16 `[>= 1]`, repeated if short, drawn by `seed`."""
        self._clips, self._members, self._snr_db = clips, members, snr_db
        length = clips.waveforms(members[:1]).shape[1]
        self._noise = np.resize(noise, max(len(noise), length))
        self._starts = np.random.default_rng(seed).integers(0, len(self._noise) - length + 1, len(members))

    def __len__(self) -> int:
        return len(self._members)

    def waveforms(self, indices: Int64) -> Int16:
        """Int16 `[len(indices), clip_length]`; the numbers are those among the members."""
        clean = self._clips.waveforms(self._members[indices])
        noise = self._noise[self._starts[indices][:, None] + np.arange(clean.shape[1])]
        return mix(clean, noise, self._snr_db)


def tables(report: dict[str, Any]) -> str:
    """What `report` holds of `confusions`, `by_loudness` and `by_snr`, as aligned text, a blank line between tables."""
    parts = []
    if errors := report.get("confusions"):
        names = [f"{entry['said']} -> {entry['predicted']}" for entry in errors]
        width = max(map(len, names))
        counts = [f"{entry['clips']:3} of {entry['of']}" for entry in errors]
        lines = [f"{name:{width}}  {count}" for name, count in zip(names, counts, strict=True)]
        parts.append("\n".join(["most frequent errors", *lines]))
    rows = []
    for kind, name in (("silence", "noise alone"), ("spoken", "spoken")):
        for band, entry in report.get("by_loudness", {}).get(kind, {}).items():
            rows.append((f"{name}, {band}" + " dBFS" * (band != "digital zero"), entry))
    for snr, entry in report.get("by_snr", {}).items():
        rows.append(("spoken, no noise added" if snr == CLEAN else f"spoken, noise at {snr} dB SNR", entry))
    if rows:
        width = max(len(name) for name, _ in rows)
        lines = [f"{'clips of':{width}}  accuracy  95 % interval      clips"]
        for name, entry in rows:
            low, high = entry["interval"]
            spread = f"{low:.2%} to {high:.2%}"
            lines.append(f"{name:{width}}  {entry['accuracy']:8.2%}  {spread:17}  {entry['clips']:5}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
