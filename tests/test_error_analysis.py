"""Levels, noise and counts of the error analysis against independent arithmetic, and the whole report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from tiny_onnx import LABELS, write_tiny
from tone_words import write_tone_words

from kws.config import AugmentConfig, FolderConfig, SpeechCommandsConfig
from kws.evaluate import EvaluateConfig, evaluate
from kws.evaluation.error_analysis import NoisyClips, by_loudness, confusions, levels_dbfs, mix, tables
from kws.evaluation.metrics import wilson_interval
from kws.evaluation.plots import plot_errors
from kws.training.augment import WaveformAugmenter, WaveformParameters

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
RATE = 16000


class Held:
    """Clips held in memory, int16 `[N, S]`."""

    def __init__(self, waveforms: NDArray[np.int16]) -> None:
        self.held = waveforms

    def __len__(self) -> int:
        return len(self.held)

    def waveforms(self, indices: NDArray[np.int64]) -> NDArray[np.int16]:
        return self.held[indices]


def sine(amplitude: float, frequency: float = 500.0) -> NDArray[np.int16]:
    wave = amplitude * np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)
    return np.round(32767 * wave).astype(np.int16)


def power_db(samples: NDArray[np.float64]) -> float:
    return float(10 * np.log10(np.mean(np.square(samples))))


def test_levels() -> None:
    square = np.where(np.arange(RATE) % 2, 32767, -32768).astype(np.int16)
    clips = Held(np.stack([sine(1.0), sine(0.1), sine(0.01), square, np.zeros(RATE, np.int16)]))
    levels = levels_dbfs(clips, batch=2)
    # A sine's RMS is its amplitude over the root of two: 3.01 dB less.
    np.testing.assert_allclose(levels[:4], [-3.0103, -23.0103, -43.0103, 0.0], atol=5e-3)
    assert levels[4] == -np.inf
    assert levels_dbfs(Held(np.zeros((0, RATE), np.int16))).shape == (0,)


def test_bands_of_loudness() -> None:
    levels = np.array([-np.inf, -60, -50.01, -50, -31, -20, -6, -45, -40, -25, -12, -12])
    silent = np.arange(12) < 7
    right = np.array([1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 1, 0], bool)
    groups = by_loudness(levels, right, silent)
    counted = {
        kind: {band: (round(entry["accuracy"] * entry["clips"]), entry["clips"]) for band, entry in bands.items()}
        for kind, bands in groups.items()
    }
    assert counted == {
        "silence": {"digital zero": (1, 1), "below -50": (1, 2), "-50 to -30": (1, 2), "above -20": (1, 2)},
        "spoken": {"below -40": (0, 1), "-40 to -30": (1, 1), "-30 to -20": (1, 1), "above -20": (1, 2)},
    }
    assert groups["silence"]["below -50"]["interval"] == pytest.approx(wilson_interval(1, 2))
    assert set(by_loudness(levels, right, np.zeros(12, bool))) == {"spoken"}
    assert set(by_loudness(levels, right, np.ones(12, bool))) == {"silence"}
    assert by_loudness(levels[:0], right[:0], silent[:0]) == {}


@pytest.mark.parametrize("snr_db", [20.0, 5.0, -5.0])
def test_the_noise_that_is_mixed_in_has_its_level(snr_db: float) -> None:
    rng = np.random.default_rng(1)
    clips = np.stack([sine(0.2), sine(0.05, 900.0)])
    noise = rng.normal(0, [[3000], [40]], (2, RATE)).astype(np.int16)
    noisy = mix(clips, noise, snr_db)
    assert noisy.dtype == np.int16
    for clip, mixed, piece in zip(clips.astype(float), noisy.astype(float), noise.astype(float), strict=True):
        added = mixed - clip
        assert power_db(clip) - power_db(added) == pytest.approx(snr_db, abs=0.02)
        assert np.corrcoef(added, piece)[0, 1] > 0.999


def test_the_noise_is_that_of_training() -> None:
    """The same clip, noise and ratio through the augmentation."""
    rng = np.random.default_rng(2)
    clips, noise = np.stack([sine(0.3), sine(0.9)]), rng.normal(0, 900, 2 * RATE).astype(np.int16)
    config = AugmentConfig(speed=0, shift_ms=0, gain_db=0, fade_ms=0)
    augmenter = WaveformAugmenter(config, RATE, torch.from_numpy(noise / np.float32(32768)))
    ones, starts = torch.ones(2), torch.tensor([5, 9000])
    no_echo = torch.full((2,), -1)
    drawn = WaveformParameters(ones, 0 * ones, ones, ones * 10 ** (3 / 20), starts, no_echo)
    expected = augmenter.apply(torch.from_numpy(clips / np.float32(32768)), drawn).numpy() * 32768
    pieces = np.stack([noise[start : start + RATE] for start in starts.tolist()])
    np.testing.assert_allclose(mix(clips, pieces, 3.0), expected, atol=1.01)


def test_zeros_stay_as_they_are() -> None:
    zeros, tone = np.zeros((1, RATE), np.int16), sine(0.5)[None]
    assert not mix(zeros, tone, 0.0).any()
    assert not mix(zeros, zeros, 0.0).any()
    np.testing.assert_array_equal(mix(tone, zeros, 0.0), tone)


def test_noisy_clips_are_always_the_same() -> None:
    rng = np.random.default_rng(3)
    clips = Held(np.stack([sine(amplitude) for amplitude in (0.05, 0.1, 0.15, 0.2)]))
    members, noise = np.array([3, 0, 2]), rng.normal(0, 900, 5 * RATE).astype(np.int16)
    noisy = NoisyClips(clips, members, noise, 10.0, seed=4)
    assert len(noisy) == 3
    whole = noisy.waveforms(np.arange(3))
    np.testing.assert_array_equal(NoisyClips(clips, members, noise, 10.0, seed=4).waveforms(np.array([2])), whole[2:])
    assert (NoisyClips(clips, members, noise, 10.0, seed=5).waveforms(np.arange(3)) != whole).any()
    louder = NoisyClips(clips, members, noise, 0.0, seed=4).waveforms(np.arange(3))
    for number, quiet, loud in zip(members, whole, louder, strict=True):
        added = (quiet - clips.held[number].astype(float), loud - clips.held[number].astype(float))
        assert np.corrcoef(added)[0, 1] > 0.999
        assert power_db(added[1]) - power_db(added[0]) == pytest.approx(10, abs=0.02)
    assert NoisyClips(clips, members, noise[:100], 10.0).waveforms(np.arange(3)).shape == (3, RATE)


def test_confusions() -> None:
    matrix = np.array([[90, 2, 0], [7, 50, 3], [2, 0, 8]])
    found = confusions(matrix, ("a", "b", "c"), most=3)
    assert [(entry["said"], entry["predicted"], entry["clips"], entry["of"]) for entry in found] == [
        ("b", "a", 7, 60),
        ("b", "c", 3, 60),
        ("a", "b", 2, 92),
    ]
    assert len(confusions(matrix, ("a", "b", "c"))) == 4
    assert confusions(np.diag([4, 5]), ("a", "b")) == []


def test_tables_are_aligned() -> None:
    entry = {"accuracy": 0.5, "interval": [0.1, 1.0], "clips": 7}
    loudness = {"silence": {"digital zero": entry, "above -20": entry}}
    text = tables({"confusions": confusions(np.array([[5, 12], [1, 9]]), ("yes", "no")), "by_loudness": loudness})
    assert text.splitlines() == [
        "most frequent errors",
        "yes -> no   12 of 17",
        "no -> yes    1 of 10",
        "",
        "clips of                     accuracy  95 % interval      clips",
        "noise alone, digital zero      50.00%  10.00% to 100.00%      7",
        "noise alone, above -20 dBFS    50.00%  10.00% to 100.00%      7",
    ]
    assert tables({}) == ""


@pytest.mark.parametrize("snr", [{}, {"clean": (9, 10), "0": (3, 10), "20": (8, 10)}])
def test_the_picture(tmp_path: Path, snr: dict[str, tuple[int, int]]) -> None:
    by_snr = {name: {"accuracy": k / n, "interval": wilson_interval(k, n), "clips": n} for name, (k, n) in snr.items()}
    loudness = by_loudness(np.array([-np.inf, -10.0]), np.array([True, False]), np.array([True, False]))
    plot_errors(loudness, by_snr, tmp_path / "errors.png")
    assert (tmp_path / "errors.png").read_bytes().startswith(b"\x89PNG")


# --- the command


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tone_words(tmp_path_factory.mktemp("tones") / "words", speakers=30, takes=2)


def config_of(tones: Path, model: Path, **options: object) -> EvaluateConfig:
    source = FolderConfig(root=str(tones), cache_dir=str(tones.parent / "cache"), workers=1, **options)
    return EvaluateConfig(str(model), source, carried=False, output=str(model.parent / "out"))


def test_the_report_says_where_the_errors_lie(tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(tones, write_tiny(tmp_path / "tiny.onnx"), keywords=["yes", "no"], silence_ratio=1.0)
    config.snr_db = [10.0, -2.5]
    report = evaluate(config)
    printed = capsys.readouterr().out
    clips = {label: row["clips"] for label, row in report["per_class"].items()}
    counted = {kind: sum(row["clips"] for row in bands.values()) for kind, bands in report["by_loudness"].items()}
    spoken = report["clips"] - clips["_silence_"]
    assert counted == {"silence": clips["_silence_"], "spoken": spoken}
    right = sum(row["accuracy"] * row["clips"] for bands in report["by_loudness"].values() for row in bands.values())
    assert right / report["clips"] == pytest.approx(report["accuracy"]["isolated"]["accuracy"])
    assert list(report["by_snr"]) == ["clean", "10", "-2.5"]
    assert {row["clips"] for row in report["by_snr"].values()} == {spoken}
    wrong = np.array(report["confusion"]) - np.diag(np.diag(report["confusion"]))
    assert report["confusions"][0]["clips"] == wrong.max()
    for part in ("most frequent errors", "noise alone, above -20 dBFS", "spoken, no noise added", "at -2.5 dB SNR"):
        assert part in printed
    written = tmp_path / "out"
    assert json.loads((written / "report.json").read_text()) == report
    assert (written / "errors.png").read_bytes().startswith(b"\x89PNG")
    assert evaluate(config) == report


def test_without_silence_and_unknown_words(tones: Path, tmp_path: Path) -> None:
    words = ["yes", "no", "stop", "go"]
    config = config_of(tones, write_tiny(tmp_path / "tiny.onnx", labels=words), label_set="all")
    report = evaluate(config)
    assert set(report["by_loudness"]) == {"spoken"}
    assert list(report["by_snr"]) == ["clean", "20", "10", "5", "0"]
    config.snr_db = []
    assert "by_snr" not in evaluate(config)
    with pytest.raises(ValueError, match="snr_db is"):
        EvaluateConfig(snr_db=[float("nan")])


def test_an_official_test_folder_brings_its_own_noise(tmp_path: Path) -> None:
    """Nothing but the folder is there, and nothing else is asked for."""
    rng = np.random.default_rng(5)
    for word in LABELS:
        (tmp_path / "test" / word).mkdir(parents=True)
        for i in range(2):
            samples = rng.normal(0, 300, RATE).astype(np.int16) if word == "_silence_" else sine(0.1 * (i + 1))
            soundfile.write(tmp_path / "test" / word / f"{i}.wav", samples, RATE, subtype="PCM_16")
    source = SpeechCommandsConfig(
        root=str(tmp_path / "none"),
        cache_dir=str(tmp_path / "cache"),
        test_dir=str(tmp_path / "test"),
        download=False,
        workers=1,
    )
    model = write_tiny(tmp_path / "tiny.onnx")
    report = evaluate(
        EvaluateConfig(str(model), source, split="test", carried=False, snr_db=[0.0], output=str(model.parent / "out"))
    )
    assert report["by_snr"]["0"]["clips"] == 6
    assert report["by_loudness"]["silence"]["-50 to -30"]["clips"] == 2
