"""Splits running speech by speaker: `python scripts/split_speech.py TABLE calibrate=3 check=2 [--rest train]`.

TABLE has the columns file, speaker and text (seconds, if it is there, spares reading the files). For every part a table
of the same rows is written beside it, `<part>.csv`: `data.speech`, `kws calibrate --speech` and
`kws evaluate-stream --speech` take it. Speakers come in the order of a hash of their names, source by source (the
first folder of a file's path), so that every part has its share of each source; no speaker is in two. Only speakers
whose every file has a text calibrate or check: without it nobody knows what is a false alarm.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections import defaultdict
from pathlib import Path

from kws.audio.files import duration

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("parts", nargs="+", metavar="PART=HOURS")
    parser.add_argument("--rest", default="train", help="the part that takes all other speakers")
    options = parser.parse_args()
    hours = {name: float(number) for name, number in (part.split("=") for part in options.parts)}
    with options.table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["seconds"] = row.get("seconds") or f"{duration(options.table.parent / row['file']):.2f}"
    parts = split(rows, hours, options.rest)
    for part in (*hours, options.rest):
        chosen = [row for row in rows if parts[row["speaker"]] == part]
        with options.table.with_name(f"{part}.csv").open("w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, rows[0].keys())
            writer.writeheader()
            writer.writerows(chosen)
        speakers, seconds = {row["speaker"] for row in chosen}, sum(float(row["seconds"]) for row in chosen)
        print(f"{options.table.with_name(part)}.csv: {seconds / 3600:.2f} h, {len(speakers)} speakers")


def split(rows: list[Row], hours: dict[str, float], rest: str) -> dict[str, str]:
    """The part of each speaker: `hours` for each part, taken from every source in proportion, and the `rest`."""
    silent = {row["speaker"] for row in rows if not row["text"].strip()}
    lengths: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        if row["speaker"] not in silent:
            lengths[row["file"].split("/", 1)[0]][row["speaker"]] += float(row["seconds"]) / 3600
    total = sum(sum(source.values()) for source in lengths.values())
    parts = {speaker: rest for speaker in silent}
    for source in lengths.values():
        share = sum(source.values()) / total
        wanted = {part: amount * share for part, amount in hours.items()}
        for speaker in sorted(source, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
            open_parts = [part for part, left in wanted.items() if source[speaker] / 2 <= left]
            part = parts.setdefault(speaker, open_parts[0] if open_parts else rest)
            if part in wanted:
                wanted[part] -= source[speaker]
    return parts


if __name__ == "__main__":
    main()
