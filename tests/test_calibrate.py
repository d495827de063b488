"""Thresholds for a budget of false alarms: the best there are, written into the model, refused where audio is short."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from tiny_onnx import write_tiny

from kws.calibrate import calibrate, choose
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


def test_the_choice_is_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        alarms = np.sort(rng.integers(0, 5, (5, 3)), axis=0)[::-1]
        misses = np.sort(rng.random((5, 3)).round(1), axis=0)
        for budget in range(6):
            costs = {
                places: sum(misses[p, k] for k, p in enumerate(places))
                for places in itertools.product(range(5), repeat=3)
                if sum(alarms[p, k] for k, p in enumerate(places)) <= budget
            }
            places = choose(alarms, misses, budget)
            if not costs:
                assert places is None
            else:
                assert places is not None
                assert costs[tuple(places)] == pytest.approx(min(costs.values()))


def test_of_equal_thresholds_the_middle_one() -> None:
    alarms = np.array([[9], [1], [0], [0], [0], [0]])
    misses = np.array([[0.0], [0.0], [0.0], [0.0], [0.0], [0.5]])
    assert choose(alarms, misses, 0) == [3]
    assert choose(alarms, misses, 1) == [3]  # thresholds 1 to 4 do


def test_thresholds_are_written_and_used(model: Path, stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    point = calibrate(model, stream, fa_per_hour=150.0)
    assert point["fa_per_hour"] <= 150.001
    assert point["fa_interval"][0] <= point["fa_per_hour"] <= point["fa_interval"][1]
    assert 0 < point["misses"] < 20
    loaded = SpotterModel(model)
    assert set(loaded.detector.thresholds) == {"yes", "no"}
    assert loaded.detector.smoothing_ms == 400
    assert loaded.metadata["card"]["licence"] == "CC BY 4.0"
    assert loaded.metadata["card"]["operating_point"] == json.loads(json.dumps(point))
    assert "at these thresholds" in capsys.readouterr().out
    spotter = StreamingSpotter(loaded)
    found = spotter.feed(soundfile.read(stream / "a.wav", dtype="int16")[0]) + spotter.flush()
    assert len(found) == 20 - point["misses"] + point["false_alarms"] + point["wrong_in_keyword_time"]
    onnx.checker.check_model(onnx.load(model), full_check=True)


def test_a_larger_budget_misses_less(model: Path, stream: Path, tmp_path: Path) -> None:
    misses = []
    for target in (120.0, 240.0, 1200.0):
        point = calibrate(model, stream, fa_per_hour=target, output=tmp_path / "out" / "c.onnx")
        misses.append(point["misses"])
    assert misses == sorted(misses, reverse=True)
    assert misses[0] > misses[-1]
    assert SpotterModel(model).detector.thresholds == {"no": 0.8}  # the input was left alone


def test_the_bias_with_the_fewest_misses_is_kept(model: Path, stream: Path, tmp_path: Path) -> None:
    misses = {}
    for bias in (0.0, 30.0):
        changes, output = {"unknown_bias": bias}, tmp_path / "c.onnx"
        misses[bias] = calibrate(model, stream, fa_per_hour=120.0, detector=changes, output=output)["misses"]
        assert SpotterModel(tmp_path / "c.onnx").detector.unknown_bias == bias
    assert len(set(misses.values())) > 1
    point = calibrate(model, stream, fa_per_hour=120.0, unknown_biases=list(misses), output=tmp_path / "c.onnx")
    assert point["misses"] == min(misses.values())
    chosen = SpotterModel(tmp_path / "c.onnx").detector.unknown_bias
    assert misses[chosen] == point["misses"]


def test_audio_that_is_too_short_is_refused_with_the_hours_needed(model: Path, stream: Path) -> None:
    before = model.read_bytes()
    with pytest.raises(ValueError, match=r"holds 0\.0\d h without keywords; to support 0\.5 .* it needs 6\.0 h"):
        calibrate(model, stream)
    assert model.read_bytes() == before


def test_streams_and_models_that_cannot_be_calibrated(model: Path, stream: Path, tmp_path: Path) -> None:
    labels = (stream / "labels.csv").read_text()
    (stream / "labels.csv").write_text(labels.replace(",no", ",_unknown_"))
    with pytest.raises(ValueError, match="never says no"):
        calibrate(model, stream, fa_per_hour=1000.0)
    (stream / "labels.csv").write_text(labels)
    lines = labels.splitlines()
    (stream / "labels.csv").write_text("\n".join([*lines[:5], *lines[11:15]]) + "\n")  # the loudest are not to be found
    with pytest.raises(ValueError, match=r"no thresholds keep .*tiny\.onnx at 120 .* raise --fa-per-hour"):
        calibrate(model, stream, fa_per_hour=120.0, unknown_biases=[0.0])
    with pytest.raises(ValueError, match="unknown_biases is empty"):
        calibrate(model, stream, unknown_biases=[])
    with pytest.raises(ValueError, match="fa_per_hour is 0"):
        calibrate(model, stream, fa_per_hour=0)
    assert [path.name for path in tmp_path.glob("*.onnx")] == ["tiny.onnx"]


def test_the_command(model: Path, stream: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kws.calibrate", model, stream, "--smoothing-ms", "300"]
    output = tmp_path / "c.onnx"
    options = ["--fa-per-hour", "300", "--output", output, "--unknown-biases", "0", "1"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "threshold events" in done.stdout
    assert SpotterModel(output).detector.smoothing_ms == 300
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "it needs 6.0 h" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_a_shipped_model_is_not_replaced(stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "shipped" / "tiny.onnx"
    shipped.parent.mkdir()
    before = write_tiny(shipped).read_bytes()
    monkeypatch.setattr("kws.runtime.shipped.FOLDER", shipped.parent)
    monkeypatch.chdir(tmp_path)
    calibrate("tiny", stream, fa_per_hour=300.0)
    assert shipped.read_bytes() == before
    assert SpotterModel(tmp_path / "tiny.onnx").metadata["card"]["operating_point"]["target_fa_per_hour"] == 300
    with pytest.raises(ValueError, match=r"tiny\.onnx is already there; name the file"):
        calibrate(shipped, stream, fa_per_hour=300.0)
