"""The scripts that make the tables: every ablation composes, one is run from training to its table and plot."""

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import script
from composing import compose_config
from tone_words import write_tone_words

from kws.model.checkpoint import read_header
from kws.recordings.speech import read_speech

SCRIPTS = Path(__file__).parent.parent / "scripts"


def load(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ablations():
    return load("ablations")


def test_every_ablation_is_one_override_that_changes_the_common_command(ablations):
    base = compose_config("train", ["experiment=ablation"])
    for name, variant in ablations.VARIANTS.items():
        assert " " not in variant.override
        common = [override for override in variant.common if override.split("=")[0] != variant.override.split("=")[0]]
        changed = compose_config("train", ["experiment=ablation", *common, *filter(None, [variant.override])])
        assert (changed == base) == (name == "base")
        assert all("=" in override for override in variant.common)
        assert changed.trainer.epochs == base.trainer.epochs


def test_an_ablation_from_training_to_its_table(tmp_path, monkeypatch):
    """One variant is trained and measured; the other was before, and is neither done again nor altered."""
    monkeypatch.chdir(tmp_path)
    before = {"isolated": 0.5, "carried": 0.25, "noisy": 0.375, "parameters": 1000, "multiplications_per_second": 2e6}
    done = tmp_path / "runs" / "ablations" / "base" / "3"
    done.mkdir(parents=True)
    (done / "result.json").write_text('{"seconds": 7}')
    (done / "measured.json").write_text(json.dumps(before))
    data = write_tone_words(tmp_path / "words")
    (tmp_path / "docs").mkdir()
    results = tmp_path / "docs" / "RESULTS.md"
    results.write_text("before\n<!-- ablations: begin -->\nold\n<!-- ablations: end -->\nafter\n")
    command = [
        SCRIPTS / "ablations.py", "--jobs", "1", "--seeds", "3", "--only", "base,forget-0",
        "data=folder", f"data.root={data}", "data.keywords=[yes,no]", "data.train_min_clips=0",
        "model.hidden_size=8", "model.conv_channels=[4]",
        "trainer.batch_size=16", "trainer.epochs=1",
    ]  # fmt: skip
    result = script(*command)
    assert result.returncode == 0, result.stdout + result.stderr
    assert sorted(path.name for path in done.iterdir()) == ["log.txt", "measured.json", "result.json"]
    rows = list(csv.DictReader((tmp_path / "docs" / "ablations.csv").open()))
    assert [(row["variant"], row["seed"]) for row in rows] == [("base", "3"), ("forget-0", "3")]
    assert {name: float(rows[0][name]) for name in before} == before
    run = tmp_path / "runs" / "ablations" / "forget-0" / "3"
    assert read_header(run / "best.safetensors")["model"]["forget_bias"] == 0
    trained = json.loads((run / "result.json").read_text())
    assert float(rows[1]["isolated"]) == pytest.approx(trained["validation_accuracy"], abs=0.021)
    text = results.read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- ablations: end -->\nafter\n")
    assert "old" not in text
    (line,) = (line for line in text.splitlines() if "model.forget_bias=0" in line)
    isolated, carried = (100 * float(rows[1][name]) for name in ("isolated", "carried"))
    assert f"| {isolated:.1f} ({isolated - 50:+.1f}) | {carried:.1f} ({carried - 25:+.1f}) |" in line
    assert (tmp_path / "docs" / "accuracy_multiplications.png").stat().st_size > 10_000
    again = script(*command)
    assert "isolated" in result.stdout
    assert "isolated" in again.stdout
    assert results.read_text() == text


def test_the_model_card_gives_what_was_measured():
    """Hand-made figures come out in the right cells."""
    models = load("make_models")

    def shares(value):
        return {"accuracy": value, "interval": [value - 0.01, value + 0.01], "clips": 100}

    def point(misses, alarms=0.9):
        return {
            "frr": misses, "fa_per_hour": alarms, "fa_interval": [0.1, 2.25], "false_alarms": 2,
            "delay_ms": {"median": 150.4, "p95": 300.2},
        }  # fmt: skip

    recalls = {"_silence_": 0.97, "_unknown_": 0.81, "yes": 0.9, "no": 1.0}
    misses = {"near": 0.123, "noise": 0.2, "far": 0.3, "music": 0.0}
    row = {
        "kB": 409.6, "seed": 1, "accuracy": {"isolated": shares(0.95), "carried, onnxruntime": shares(0.94)},
        "per_class": {name: {"recall": recall, "clips": 50} for name, recall in recalls.items()},
        "promised": {name: {"1": point(share, 0.31 if name == "music" else 0.9)} for name, share in misses.items()},
        "keywords": {"yes": point(0.05), "no": point(0.07)},
    }  # fmt: skip
    accuracies = {"isolated": 0.95, "carried": 0.94, "isolated_int8": 0.949, "carried_int8": 0.939}
    seed = {"seed": 1, "seconds": 1500, "misses": {"1": 0.125, "5": 0.06}, **accuracies}
    text = "\n".join(models.card({"seeds": {"gsc12": [seed]}, "gsc12.onnx": row}))
    assert "| `gsc12.onnx` | 410 | 1 | 95.00 (94.0 to 96.0) | 94.00 | 95.00 | 81.00 | 97.00 |" in text
    assert "| gsc12 | 1 | 95.00 | 94.00 | 94.90 | 93.90 | 12.5 | 6.0 | 25 |" in text
    assert "| `gsc12.onnx` | 1 | 0.90 (0.10 to 2.25) | 12.3 | 20.0 | 30.0 | 0.31 | 150, 300 |" in text
    assert "| no | 7.0 (2) |" in text


def test_downloads_become_tables_that_share_no_room(tmp_path, monkeypatch, capsys):
    """Sets laid out as their publishers do, with one sound a file."""
    scripts, sets = load("download_data"), tmp_path / "sets"

    def write_wav(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(16), 16000)

    for name in scripts.SPEECH.values():
        write_wav(sets / name / "audio/x.wav")
    for kind in ("noise/free", "music/fma"):
        for number in range(30):
            write_wav(sets / f"musan/audio/musan/{kind}/{number}.wav")
    rooms = sets / "rirs_noises/audio/RIRS"
    for room in range(30):
        for number in range(3):
            write_wav(rooms / f"simulated_rirs/small/Room{room:03}/{number}.wav")
    for name in ("air_1", "rir_2", "noise_3"):
        write_wav(rooms / f"real_rirs_isotropic_noises/{name}.wav")
    monkeypatch.setattr(scripts, "public", lambda name, remedy: sets / name)
    scripts.main([str(tmp_path / "out")])
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    tables = {path.relative_to(tmp_path / "out").as_posix(): read_speech(path, "x") for path in written}
    assert {name: len(rows) for name, rows in tables.items() if "speech" in name or "music" in name} == {
        "speech/train.csv": 1, "speech/calibrate.csv": 1, "speech/check.csv": 1, "music.csv": 30,
    }  # fmt: skip
    for kind, count in {"noise": 30, "rooms": 92}.items():
        parts = [[row.path for row in tables[f"{kind}/{part}.csv"]] for part in ("train", "check")]
        assert sum(map(len, parts)) == count
        assert 1 < len(parts[1]) < count / 2
    held = [{path.parent for path in part if path.parent.name.startswith("Room")} for part in parts]
    assert not held[0] & held[1]
