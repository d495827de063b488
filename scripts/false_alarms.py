"""DET curves and the loudest false alarms of `kws evaluate-stream` reports, for docs/RESULTS.md.

`python scripts/false_alarms.py NAME=DIR... --det FILE.png` draws a curve for each report, the first bold;
`--loudest N` prints a table of those of the first: keyword, score, and the text of the file they are in. For more than
the model's own threshold lets through, evaluate with a lower one (`kws evaluate-stream --threshold 2`).
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from kws.evaluation.plots import plot_det


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", metavar="NAME=DIR")
    parser.add_argument("--det", type=Path, metavar="FILE.png")
    parser.add_argument("--loudest", type=int, default=0, metavar="N")
    options = parser.parse_args()
    places = {name: Path(place) for name, _, place in (report.partition("=") for report in options.reports)}
    if options.det:
        reports = {name: json.loads((place / "report.json").read_text()) for name, place in places.items()}
        curves = {name: (report["det"]["fa_per_hour"], report["det"]["frr"]) for name, report in reports.items()}
        plot_det(curves, options.det, floor=0.5 / min(report["negative_hours"] for report in reports.values()))
    if options.loudest:
        with (next(iter(places.values())) / "detections.csv").open(newline="") as table:
            false = [row for row in csv.DictReader(table) if row["verdict"] == "false alarm"]
        false.sort(key=lambda row: -float(row["score"]))
        print("| keyword | score | in |\n|---|---|---|")
        for row in false[: options.loudest]:
            print(f"| {row['keyword']} | {float(row['score']):.1f} | {row['said']} |")


if __name__ == "__main__":
    main()
