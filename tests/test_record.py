from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws import cli
from kws.apps.record import examine, trim
from kws.config import FolderConfig

RATE = 16000


def word(start: float, length: float, seconds: float = 2.0, level: float = 0.2, noise: float = 1e-3) -> np.ndarray:
    """A recording with one "word", a tone."""
    samples = np.random.default_rng(0).normal(0, noise, round(seconds * RATE))
    first, n = round(start * RATE), round(length * RATE)
    tone = level * np.sin(np.arange(n) * 0.3)
    samples[first : first + n] += tone[: len(samples) - first]
    return samples.astype(np.float32)


def test_the_word_is_found_and_lies_in_the_middle() -> None:
    samples = word(1.1, 0.5)
    take = examine(samples, RATE)
    assert take.fault == ""
    assert take.first / RATE == pytest.approx(1.1, abs=0.011)
    assert take.last / RATE == pytest.approx(1.6, abs=0.011)
    clip = trim(samples, take, RATE, 1.0)
    assert len(clip) == RATE
    loud = np.flatnonzero(np.abs(clip) > 0.1)
    assert loud[0] + loud[-1] == pytest.approx(RATE, abs=400)
    assert len(trim(samples, take, RATE, 0.3)) == pytest.approx(0.5 * RATE, abs=400)  # never cuts the word
    long = word(0.5, 0.95)
    assert len(trim(long, examine(long, RATE), RATE, 1.0)) == RATE  # a second, though little is left around the word


@pytest.mark.parametrize(
    ("samples", "fault"),
    [
        (word(0.5, 0.5, level=0.001, noise=1e-4), "too quiet"),
        (word(0.5, 0.5, level=1.0), "too loud"),
        (word(0.5, 0.5, level=0.05, noise=0.05), "hard to tell from the noise"),
        (word(1.7, 0.5), "cut off"),
        (word(0.0, 0.5), "cut off"),
    ],
)
def test_a_bad_take_is_told(samples: np.ndarray, fault: str) -> None:
    assert fault in examine(samples, RATE).fault


def test_takes_become_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One take in three is too quiet; the result is what training reads."""
    folder_source = pytest.importorskip("kws.data.folder")
    takes = [word(0.6, 0.5), word(0.6, 0.5, level=0.001, noise=1e-4), word(0.9, 0.4)]
    pause = np.zeros(round(0.7 * RATE), np.float32)  # for the countdown
    file = tmp_path / "session.wav"
    soundfile.write(file, np.concatenate([part for take in takes for part in (pause, take)]), RATE)
    options = ["--folder", str(tmp_path / "data"), "--file", str(file), "--countdown", "1", "--speaker", "ada"]
    assert cli.main(["record", "Nexus", "--takes", "2", *options]) == 0
    out = capsys.readouterr().out
    assert "again: that was too quiet" in out
    assert "take 2 of 2: 0.4" in out
    assert f"kws train data=folder data.root={tmp_path / 'data'} run_dir=runs/mine\n" in out
    files = sorted((tmp_path / "data" / "Nexus").iterdir())
    assert [path.name for path in files] == ["ada_nohash_0.wav", "ada_nohash_1.wav"]
    for path in files:
        samples, rate = soundfile.read(path)
        assert (len(samples), rate) == (RATE, RATE)
    listing = folder_source.find(FolderConfig(root=str(tmp_path / "data")))
    assert len(listing.clips) == 2
    assert cli.main(["record", "Nexus", *options]) == 0  # the session is over before ten takes
    assert "has ended" in capsys.readouterr().out
    assert len(list((tmp_path / "data" / "Nexus").iterdir())) == 4


def test_names_that_cannot_be_files(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["../x"], ["_silence_"], ["yes", "--speaker", "a/b"], ["yes", "--takes", "0"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(["record", *wrong])
        assert stop.value.code == 2
        assert "kws record: error: " in capsys.readouterr().err
