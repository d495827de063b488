"""Thresholds for so many false alarms an hour: written into the model as operating points, refused for short audio."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from tiny_onnx import write_tiny

from kws.calibrate import calibrate, raise_thresholds
from kws.streaming import SpotterModel, StreamingSpotter

RATE = 16000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.onnx", card={"licence": "CC BY 4.0"})


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    """Ten "yes" and ten "no" of rising strength, and twenty weaker sounds like them that are neither."""
    folder = tmp_path / "stream"
    folder.mkdir()
    samples, lines = np.zeros(RATE * 120), ["file,onset,offset,keyword"]
    strengths = [*np.linspace(0.15, 0.5, 10), *np.linspace(0.1, 0.25, 10)]
    for i, (sign, strength) in enumerate(itertools.product((1, -1), strengths)):
        start = 2 + 2.5 * i
        samples[round(start * RATE) : round((start + 0.2) * RATE)] = sign * strength
        if i % 20 < 10:
            lines.append(f"a.wav,{start},{start + 0.2},{'yes' if sign > 0 else 'no'}")
    soundfile.write(folder / "a.wav", samples, RATE)
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_operating_points_are_written_and_used(model: Path, stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = calibrate(model, stream, fa_per_hour=150.0)
    assert [point.fa_per_hour for point in points] == [150.0]  # the stream is too short for the others
    (point,) = points
    assert point.fa_interval[0] <= 150 <= point.fa_interval[1]
    assert 0 < point.misses < point.events == 20
    loaded = SpotterModel(model)
    assert loaded.metadata["kws_format"] == 2
    assert loaded.operating_points == points
    assert loaded.detector.score == "log_ratio"
    assert loaded.detector.smoothing_ms == 400
    assert len(set(loaded.detector.thresholds.values())) == 1
    assert loaded.metadata["card"]["licence"] == "CC BY 4.0"
    assert loaded.metadata["card"]["calibration"]["recordings"] == "stream"
    assert "150, default" in capsys.readouterr().out
    spotter = StreamingSpotter(loaded)
    found = spotter.feed(soundfile.read(stream / "a.wav", dtype="int16")[0]) + spotter.flush()
    assert len(found) >= 20 - point.misses + point.false_alarms
    onnx.checker.check_model(onnx.load(model), full_check=True)


def test_a_larger_budget_misses_less(model: Path, stream: Path, tmp_path: Path) -> None:
    found = [
        calibrate(model, stream, fa_per_hour=rate, output=tmp_path / "out" / "c.onnx")[-1]
        for rate in (20.0, 60.0, 120.0)
    ]
    misses, thresholds = [point.misses for point in found], [point.thresholds["yes"] for point in found]
    assert misses == sorted(misses, reverse=True)
    assert misses[0] > misses[-1]
    assert thresholds == sorted(thresholds, reverse=True)
    assert found[0].extrapolated
    assert not found[-1].extrapolated
    assert SpotterModel(model).detector.thresholds == {"no": 0.8}  # the input was left alone


def test_a_threshold_for_each_keyword(model: Path, stream: Path, tmp_path: Path) -> None:
    """All false alarms are of "no": its own threshold bears half of the budget, that of "yes" has nothing to bear."""
    lines = (stream / "labels.csv").read_text().splitlines()
    starts = [2 + 2.5 * i for i in range(20)]
    keep = [lines[0], *(f"a.wav,{start},{start + 0.2},yes" for start in starts)]
    (stream / "labels.csv").write_text("\n".join(keep) + "\n")
    (one,) = calibrate(model, stream, fa_per_hour=60.0, output=tmp_path / "c.onnx")
    (own,) = calibrate(model, stream, fa_per_hour=60.0, each=True, output=tmp_path / "c.onnx")
    assert own.thresholds["yes"] < one.thresholds["yes"]
    assert own.thresholds["no"] >= one.thresholds["no"]
    assert own.misses < one.misses


def test_false_alarms_of_running_speech_count_in_place_of_others(model: Path, stream: Path, tmp_path: Path) -> None:
    """Speech that never fires: thresholds as low as they go, whatever the recordings hold; and no recordings at all."""
    speech = tmp_path / "speech"
    speech.mkdir()
    for name in ("a.wav", "b.wav"):
        soundfile.write(speech / name, np.random.default_rng(0).normal(0, 0.001, 60 * RATE), RATE)
    (speech / "transcripts.csv").write_text("file,text\na.wav,so be it\nb.wav,no\n")
    output = tmp_path / "c.onnx"
    (strict,) = calibrate(model, stream, fa_per_hour=20.0, output=output)
    (loose,) = calibrate(model, stream, fa_per_hour=20.0, speech=speech, output=output)
    assert loose.thresholds["yes"] < 0 < strict.thresholds["yes"]
    assert loose.false_alarms == 0
    assert loose.hours == pytest.approx((2 * 60 + 2 * 0.3) / 3600)
    (alone,) = calibrate(model, fa_per_hour=20.0, speech=speech, output=output)
    assert (alone.events, alone.misses, alone.frr_interval) == (0, 0, [0.0, 1.0])
    assert alone.thresholds == loose.thresholds


def test_a_room_only_raises_thresholds(
    model: Path, stream: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quiet room changes nothing, but shows something; the stream itself, as a room, silences all it holds."""
    for name, samples in (("quiet", np.zeros(120 * RATE)), ("loud", soundfile.read(stream / "a.wav")[0])):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "a.wav", samples, RATE)
    with pytest.raises(ValueError, match="promises nothing yet; calibrate it on speech first"):
        raise_thresholds(model, tmp_path / "quiet")
    (point,) = calibrate(model, stream, fa_per_hour=150.0)
    assert raise_thresholds(model, tmp_path / "quiet") == [point]
    assert "at most 90 false alarms an hour" in capsys.readouterr().out  # 3 in the two minutes
    (raised,) = raise_thresholds(model, tmp_path / "loud")
    assert raised.thresholds["yes"] > point.thresholds["yes"]
    assert SpotterModel(model).detector.thresholds == raised.thresholds
    done = subprocess.run(
        [sys.executable, "-m", "kws.calibrate", model, stream, "--room", tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: --room takes no RECORDINGS")


def test_audio_that_is_too_short_is_refused_with_the_hours_needed(model: Path, stream: Path) -> None:
    before = model.read_bytes()
    with pytest.raises(
        ValueError, match=r"are 0\.0\d h without keywords; .* 1 .* need at least 0\.3 h, and 3 h to show"
    ):
        calibrate(model, stream)
    assert model.read_bytes() == before


def test_what_cannot_be_calibrated(
    model: Path, stream: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="fa_per_hour is 0"):
        calibrate(model, stream, fa_per_hour=0)
    with pytest.raises(ValueError, match=r"nothing to hear; name a recording set, running speech \(--speech DIR\)"):
        calibrate(model)
    labels = (stream / "labels.csv").read_text()
    (stream / "labels.csv").write_text(labels.replace(",no", ",_unknown_"))
    calibrate(model, stream, fa_per_hour=1000.0, output=tmp_path / "c" / "c.onnx")
    assert "No recording says no, so nobody knows" in capsys.readouterr().out
    assert [path.name for path in tmp_path.glob("*.onnx")] == ["tiny.onnx"]


def test_the_command(model: Path, stream: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kws.calibrate", model, "--smoothing-ms", "300", stream]
    output = tmp_path / "c.onnx"
    done = subprocess.run(
        [*command, "--fa-per-hour", "300", "--output", output], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "promised FA/h" in done.stdout
    assert SpotterModel(output).detector.smoothing_ms == 300
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "need at least 0.3 h" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_a_shipped_model_is_not_replaced(stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "shipped" / "tiny.onnx"
    shipped.parent.mkdir()
    before = write_tiny(shipped).read_bytes()
    monkeypatch.setattr("kws.runtime.shipped.FOLDER", shipped.parent)
    monkeypatch.chdir(tmp_path)
    calibrate("tiny", stream, fa_per_hour=300.0)
    assert shipped.read_bytes() == before
    assert SpotterModel(tmp_path / "tiny.onnx").metadata["fa_per_hour"] == 300
    with pytest.raises(ValueError, match=r"tiny\.onnx is already there; name the file"):
        calibrate(shipped, stream, fa_per_hour=300.0)
