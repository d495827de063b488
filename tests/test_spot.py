from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_audio import bad_files
from tiny_onnx import say, write_tiny

from kws import cli


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_tiny(tmp_path / "tiny.onnx"))


def spot(*arguments: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "kws.cli", "spot", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60)


def test_lines(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "speech.wav"
    soundfile.write(file, say("yn"), 16000)
    assert cli.main(["spot", str(file), "--model", model]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(row[0], row[3]) for row in rows] == [(str(file), "yes"), (str(file), "no")]
    for row, onset in zip(rows, (0.75, 1.6), strict=True):
        assert onset - 0.02 <= float(row[1]) < float(row[2]) <= onset + 0.1
        assert 0.7 < float(row[4]) <= 1


def test_json_lines_of_any_rate_and_channels(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    speech = np.repeat(say("yn"), 3)  # 48 kHz
    soundfile.write(tmp_path / "a.flac", np.stack([speech, speech], axis=1), 48000)
    soundfile.write(tmp_path / "b.wav", say("n"), 16000)
    status = cli.main(["spot", "--json", "--model", model, str(tmp_path / "a.flac"), str(tmp_path / "b.wav")])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert status == 0
    assert [(Path(row["file"]).name, row["keyword"]) for row in rows] == [
        ("a.flac", "yes"),
        ("a.flac", "no"),
        ("b.wav", "no"),
    ]
    assert set(rows[0]) == {"file", "keyword", "score", "start", "end", "time"}
    assert rows[0]["start"] == pytest.approx(0.75, abs=0.03)


def test_thresholds(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "speech.wav")
    soundfile.write(file, say("yn"), 16000)

    def keywords(*options: str) -> list[str]:
        assert cli.main(["spot", file, "--model", model, *options]) == 0
        return [line.split("\t")[3] for line in capsys.readouterr().out.splitlines()]

    assert keywords("--threshold", "1") == []
    assert keywords("--threshold", "yes=1") == ["no"]
    assert keywords("--threshold", "yes=1,no=1") == keywords("--threshold", "yes=1", "--threshold", "no=1") == []
    for wrong in ("high", "yes=high", "0.5,yes=0.4", "2", "maybe=0.5"):
        assert cli.main(["spot", file, "--model", model, "--threshold", wrong]) == 1
        assert capsys.readouterr().err.startswith("error: ")


def test_raw_audio_on_standard_input(model: str) -> None:
    pcm = np.round(np.repeat(say("yn"), 6) * 32767).astype("<i2").tobytes()  # 48 kHz, two channels
    done = spot("-", "--model", model, "--rate", 48000, "--channels", 2, stdin=pcm)
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[3] for line in done.stdout.decode().splitlines()] == ["yes", "no"]
    done = spot("-", "--model", model, stdin=np.round(say("n") * 32767).astype("<i2").tobytes() + b"x")
    assert done.returncode == 1
    assert b"\tno\t" in done.stdout
    assert b"error: raw audio ended 1 bytes into a sample" in done.stderr


def test_bad_files_do_not_stop_the_others(tmp_path: Path, model: str) -> None:
    bad = bad_files(tmp_path)
    soundfile.write(tmp_path / "good.wav", say("y"), 16000)
    done = spot(*(tmp_path / name for name in bad), tmp_path / "good.wav", "--model", model)
    assert done.returncode == 1
    assert [line.split("\t")[3] for line in done.stdout.decode().splitlines()] == ["yes"]
    errors = done.stderr.decode().splitlines()
    assert len(errors) == len(bad)
    for name, line in zip(bad, errors, strict=True):
        assert line.startswith("error: ")
        assert name in line


@pytest.mark.parametrize("ending", ["flac", "wav", "ogg", "aiff", "w64"])
def test_what_a_cut_file_still_holds_is_heard(tmp_path: Path, model: str, ending: str) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / f"cut.{ending}"
    soundfile.write(path, np.concatenate([say("y"), 0.01 * rng.standard_normal(160_000)]), 16000)
    path.write_bytes(path.read_bytes()[: int(0.7 * path.stat().st_size)])
    done = spot(path, "--model", model)
    assert done.returncode == 1
    assert [line.split("\t")[3] for line in done.stdout.decode().splitlines()] == ["yes"]
    assert re.fullmatch(rf"error: {path} is (truncated|damaged).*\n", done.stderr.decode())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("ending", ["flac", "wav", "ogg"])
def test_a_file_through_a_pipe_is_known_by_its_first_bytes(tmp_path: Path, model: str, ending: str) -> None:
    soundfile.write(tmp_path / f"y.{ending}", say("y"), 16000)
    content = (tmp_path / f"y.{ending}").read_bytes()
    on_stdin = spot("-", "--model", model, stdin=content)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(content))
    writer.start()
    named = spot(tmp_path / "pipe", "--model", model)
    writer.join()
    for done in (on_stdin, named):
        assert done.returncode == 0, done.stderr
        assert [line.split("\t")[3] for line in done.stdout.decode().splitlines()] == ["yes"]


def test_samples_beyond_the_scale_are_named_with_their_file(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "loud.wav", say("y") * 32768, 16000, subtype="FLOAT")
    assert cli.main(["spot", str(tmp_path / "loud.wav"), "--model", model]) == 1
    assert "loud.wav: samples reach" in capsys.readouterr().err


def test_errors_of_use(tmp_path: Path, model: str) -> None:
    missing = spot(tmp_path / "x.wav", "--model", tmp_path / "no.onnx")
    assert missing.returncode == 1
    assert missing.stderr.decode().count("\n") == 1
    assert b"no.onnx is not a file" in missing.stderr
    assert b"--channels is 0" in spot("-", "--model", model, "--channels", 0).stderr
    assert b"--rate tells" in spot("x.wav", "--model", model, "--rate", 8000).stderr
    assert b"--rate is 0" in spot("-", "--model", model, "--rate", 0).stderr


def test_an_uncalibrated_model_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = str(write_tiny(tmp_path / "bare.onnx", detector={"pooling": "sum", "smoothing_ms": 400.0}))
    soundfile.write(tmp_path / "speech.wav", say("y"), 16000)
    for command in (
        ["spot", str(tmp_path / "speech.wav")],
        ["listen", "--file", str(tmp_path / "speech.wav"), "--fast"],
    ):
        assert cli.main([*command, "--model", bare]) == 0
        written = capsys.readouterr()
        assert "yes" in written.out
        assert written.err == f"note: {bare} has no thresholds chosen on speech; kws calibrate chooses them\n"
        assert cli.main([*command, "--model", bare, "--threshold", "0.7"]) == 0
        assert capsys.readouterr().err == ""


def test_as_a_module(tmp_path: Path, model: str) -> None:
    soundfile.write(tmp_path / "speech.wav", say("y"), 16000)
    command = [sys.executable, "-m", "kws.cli", "spot", str(tmp_path / "speech.wav"), "--model", model]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert b"\tyes\t" in done.stdout


def test_a_reader_that_goes_away(tmp_path: Path, model: str) -> None:
    soundfile.write(tmp_path / "speech.wav", say("yn" * 50, gap=6000), 16000)
    command = (
        f"{sys.executable} -m kws.cli spot {tmp_path}/speech.wav {tmp_path}/speech.wav --model {model} | head -n 1"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60)
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""
