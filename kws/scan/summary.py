"""What a scan found, from its rows: counts, a histogram of scores for each keyword, and the ranking to listen to."""

from __future__ import annotations

import csv
import heapq
import io
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from kws.scan.results import Results
from kws.scan.tables import Row
from kws.system.atomic import write_whole

BIN = {"posterior": 0.05, "log_ratio": 1.0}  # width of a bar of the histogram
BAR = 40  # characters of the longest bar
RANKING = ("rank", "keyword", "score", "path", "start", "end", "clip")


def summarise(results: Results, score: str) -> dict[str, Any]:
    """Counts over all rows; `histogram`: keyword -> lower edge of a bin of scores -> detections. score: which kind."""
    files: Counter[str] = Counter()
    seconds = 0.0
    for row in results.rows("files", ("seconds", "error")):
        files["failures" if row["error"] else "read"] += 1
        seconds += row["seconds"]
    width = BIN[score]
    histogram: dict[str, Counter[float]] = {}
    for row in results.rows("detections", ("keyword", "score")):
        # a score of 1 belongs to the last bin below it
        edge = math.floor(min(row["score"], 1 - 1e-9) / width) if score == "posterior" else math.floor(row["score"])
        histogram.setdefault(row["keyword"], Counter())[round(edge * width, 9)] += 1
    return {
        "files": files.total() if hasattr(files, "total") else sum(files.values()),
        "failures": files["failures"],
        "hours": seconds / 3600,
        "detections": {keyword: sum(bins.values()) for keyword, bins in sorted(histogram.items())},
        "score": score,
        "bin": width,
        "histogram": {keyword: dict(sorted(bins.items())) for keyword, bins in sorted(histogram.items())},
    }


def as_text(summary: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [
        f"{summary['files']:,} files, {summary['hours']:,.2f} h of audio, {summary['failures']:,} failures, "
        f"{sum(summary['detections'].values()):,} detections"
    ]
    for keyword, bins in summary["histogram"].items():
        lines.append(f"{keyword}: {summary['detections'][keyword]:,}, by {summary['score'].replace('_', ' ')}")
        most = max(bins.values())
        for edge, count in bins.items():
            bar = "#" * max(round(BAR * count / most), 1)
            lines.append(f"  {edge:>6.2f} to {edge + summary['bin']:>6.2f}  {bar:{BAR}}  {count:,}")
    return "\n".join(lines)


def write_summary(results: Results, summary: dict[str, Any]) -> None:
    """Keep the summary beside the results."""
    write_whole(results.folder / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())


def ranking(results: Results, count: int) -> list[Row]:
    """The `count` detections of each keyword with the highest scores, those first; ties in order of path and time."""
    best: dict[str, list[tuple[Any, ...]]] = {}
    for row in results.rows("detections"):
        heap = best.setdefault(row["keyword"], [])
        item = (row["score"], _Backwards((row["path"], row["start"], row["end"])))
        if len(heap) < count:
            heapq.heappush(heap, item)
        else:
            heapq.heappushpop(heap, item)
    rows: list[Row] = []
    for keyword, heap in sorted(best.items()):
        for rank, (score, where) in enumerate(sorted(heap, reverse=True), 1):
            path, start, end = where.key
            row = {"rank": rank, "keyword": keyword, "score": score, "path": path, "start": start, "end": end}
            rows.append({**row, "clip": None})
    return rows


def write_ranking(path: Path, rows: list[Row]) -> None:
    """The ranking as CSV, for a spreadsheet or a player."""
    text = io.StringIO()
    writer = csv.DictWriter(text, RANKING, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())


class _Backwards:
    """A key that sorts the other way round."""

    def __init__(self, key: tuple[Any, ...]) -> None:
        self.key = key

    def __lt__(self, other: _Backwards) -> bool:
        return self.key > other.key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Backwards) and self.key == other.key
