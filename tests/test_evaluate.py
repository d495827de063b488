"""`kws evaluate` finds its data by the model's card, and writes its report where it is called, not beside the model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tiny_onnx import write_tiny
from tone_words import write_tone_words

from kws import cli
from kws.config import SpeechCommandsConfig
from kws.evaluate import load_model
from kws.runtime import shipped

CARD = {"data": {"source": "folder", "label_set": "12", "keywords": ["yes", "no"], "clip_ms": 960.0}}
OPTIONS = ["carried=false", "snr_db=[]", "data.cache_dir=cache", "data.workers=1"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with words of tones, and a shipped model called `tiny` that lies elsewhere."""
    (tmp_path / "package").mkdir()
    write_tiny(tmp_path / "package" / "tiny.onnx", card=CARD)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "package")
    here = tmp_path / "here"
    write_tone_words(here / "words", speakers=12, takes=1)
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "argv", ["kws"])  # Hydra gets its arguments there
    return here


def test_the_card_tells_the_data_and_the_report_is_written_here(here: Path) -> None:
    assert cli.main(["evaluate", "model=tiny", "data.root=words", *OPTIONS]) == 0
    report = json.loads((here / "tiny-validation" / "report.json").read_text())
    assert (report["source"], report["labels"]) == ("folder", ["_silence_", "_unknown_", "yes", "no"])
    assert [path.name for path in shipped.FOLDER.iterdir()] == ["tiny.onnx"]


def test_an_option_replaces_the_value_of_the_card(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "model=tiny", "data.root=words", "data.clip_ms=970", *OPTIONS]) == 1
    assert "data.clip_ms 970.0 is 15520 samples, not a multiple of the 640 samples" in capsys.readouterr().err
    assert cli.main(["evaluate", "model=tiny", "data.rot=words", *OPTIONS]) == 1
    assert "Key 'rot' not in 'FolderConfig'" in capsys.readouterr().err


def test_data_that_is_named_comes_before_the_card(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["data.root=nowhere", "data.download=false"]
    assert cli.main(["evaluate", "model=tiny", "data=speech_commands", *options]) == 1
    assert "nowhere holds no Speech Commands" in capsys.readouterr().err
    write_tiny(here / "bare.onnx")
    assert cli.main(["evaluate", "model=bare.onnx", "data.root=words"]) == 1
    assert "bare.onnx does not say what it was trained on; name the data" in capsys.readouterr().err


def test_the_cards_of_the_shipped_models_tell_their_data() -> None:
    """Also by the names that options had when they were made."""
    for file in shipped.FOLDER.glob("*.onnx"):
        source = load_model(file.stem).source()
        assert isinstance(source, SpeechCommandsConfig)
        ratio = 0.4 if "tiny" in file.stem else 0.2
        assert (source.label_set, source.train_recordings_ratio, source.clip_ms) == ("12", ratio, 1000.0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": "archive"}, "data.source is 'archive'; choose one of"),
        ({"source": "folder", "speed": 2}, "data has no option speed of the source folder"),
        ({"source": "folder", "clip_ms": "long"}, "a value of a wrong type"),
    ],
)
def test_a_card_that_makes_no_sense_is_one_sentence(
    here: Path, data: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny(here / "odd.onnx", card={"data": data})
    assert cli.main(["evaluate", "model=odd.onnx"]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
