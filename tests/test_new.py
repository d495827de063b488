"""`kws new` from a word to a file that runs; stopped, it goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("torch")
pytest.importorskip("espeakng_loader")

from kws import new as door
from kws.errors import KwsError
from kws.runtime.onnx_model import SpotterModel
from kws.speech import kokoro
from kws.words import confusion, speak, stages

RATE = 16000


def test_a_word_becomes_a_file_and_a_stopped_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "speech").mkdir()
    for i in range(24):
        loudness = np.repeat(rng.uniform(0, 3000, 24), RATE // 8)
        samples = np.round(rng.normal(0, 1, 3 * RATE) * loudness).clip(-32768, 32767).astype(np.int16)
        soundfile.write(tmp_path / "speech" / f"{i}.wav", samples, RATE)
    monkeypatch.setattr(kokoro, "PACKAGE", "no_such_package")
    monkeypatch.setenv("KWS_KOKORO", str(tmp_path))
    monkeypatch.setattr(stages, "LEAST_HOURS", 0.001)
    monkeypatch.setattr(stages, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(stages, "HELD_OUT_CLIPS", 4)
    monkeypatch.setattr(speak, "ESPEAK_TIMES", 1)
    monkeypatch.setattr(confusion, "MOST_TEXTS", 3)
    output = tmp_path / "made"
    options = {
        "negative_places": [tmp_path / "speech"], "clips": 32, "steps": 40, "workers": 1, "fa_per_hour": 60.0,
    }  # fmt: skip

    def stopped(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages.Workshop, "export", stopped)
        with pytest.raises(KwsError, match=r"to calibrate on, and 0.6 h are needed"):
            door.new(["jarvis"], output, **{**options, "fa_per_hour": 0.5})
        with pytest.raises(KeyboardInterrupt):
            door.new(["jarvis"], output, **options)
    assert "about" in capsys.readouterr().out  # how long it takes
    assert {path.name for path in output.iterdir()} == {"work"}
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.npz")}
    assert len(before) > 8
    model = door.new(["jarvis"], output, **options)
    assert "going on" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing is made twice
    assert {path.name for path in output.iterdir()} == {"work", "model.onnx", "report.html"}
    spotter = SpotterModel(model)
    assert spotter.labels == ("_unknown_", "jarvis")
    assert spotter.metadata["fa_per_hour"] == 60
    report = (output / "report.html").read_text()
    assert "dʒ" in report
    assert 1 <= report.count("<audio") <= 4
    assert "What it confuses" in report


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fa_per_hour": 0.0}, "--fa-per-hour is 0"),
        ({"fa_per_hour": float("nan")}, "--fa-per-hour is nan"),
        ({"steps": -1}, "--steps is -1"),
        ({"clips": 5}, "--clips is 5"),
    ],
)
def test_a_run_that_cannot_end_well_does_not_begin(tmp_path: Path, options: dict[str, float], message: str) -> None:
    with pytest.raises(KwsError, match=message):
        door.new(["jarvis"], tmp_path / "made", **options)
    assert not (tmp_path / "made").exists()
