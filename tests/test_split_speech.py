"""Running speech split by speaker: nobody in two parts, every source in every part, the same for the same table."""

import csv
import importlib.util
import random
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location(
    "split_speech", Path(__file__).parent.parent / "scripts" / "split_speech.py"
)
split_speech = importlib.util.module_from_spec(spec)
spec.loader.exec_module(split_speech)


def table():
    rows = []
    for source, speakers in (("books", 40), ("phones", 400)):
        for number in range(speakers):
            text = "" if number % 10 == 3 else "some words"
            row = {"speaker": f"{source}-{number}", "seconds": str(4000 / speakers * (1 + number % 3)), "text": text}
            rows += [{"file": f"{source}/{number}/{take}.wav", **row} for take in range(2)]
    return rows


def hours(rows, parts, source):
    totals = {}
    for row in rows:
        if row["file"].startswith(source):
            part = parts[row["speaker"]]
            totals[part] = totals.get(part, 0) + float(row["seconds"]) / 3600
    return totals


def test_every_source_gives_its_share():
    rows = table()
    parts = split_speech.split(rows, {"calibrate": 1.5, "check": 1.0}, "train")
    for source in ("books", "phones"):
        totals = hours(rows, parts, source)
        assert totals["calibrate"] == pytest.approx(0.75, abs=0.15)
        assert totals["check"] == pytest.approx(0.5, abs=0.15)


def test_who_has_no_text_trains():
    rows = table()
    parts = split_speech.split(rows, {"calibrate": 1.5, "check": 1.0}, "train")
    assert {parts[row["speaker"]] for row in rows if not row["text"]} == {"train"}


def test_the_order_of_the_table_does_not_matter():
    rows = table()
    shuffled = random.Random(1).sample(rows, len(rows))
    assert split_speech.split(rows, {"check": 1.0}, "rest") == split_speech.split(shuffled, {"check": 1.0}, "rest")


def test_tables_are_written(tmp_path, monkeypatch, capsys):
    rows = table()
    with (tmp_path / "transcripts.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.setattr(sys, "argv", ["split_speech.py", str(tmp_path / "transcripts.csv"), "check=1"])
    split_speech.main()
    parts = [list(csv.DictReader((tmp_path / f"{name}.csv").open())) for name in ("check", "train")]
    assert sorted(row["file"] for part in parts for row in part) == sorted(row["file"] for row in rows)
    assert not {row["speaker"] for row in parts[0]} & {row["speaker"] for row in parts[1]}
    assert "check.csv: 1." in capsys.readouterr().out
