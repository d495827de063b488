from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from sound_server import SoundServer
from tiny_onnx import say, write_tiny

from kws import cli
from kws.apps import capture
from kws.apps.listen import Lines, Meter, listen
from kws.streaming import StreamingSpotter

SILENT = {"input_overflow": False}


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_tiny(tmp_path / "tiny.onnx"))


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    file = tmp_path / "speech.wav"
    soundfile.write(file, say("ynny"), 16000)
    return file


@pytest.fixture
def sound_server() -> Iterator[SoundServer]:
    server = SoundServer()
    yield server
    server.close()


def start(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kws.cli", "listen", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def offline(model: str, file: Path) -> list[dict[str, Any]]:
    spotter = StreamingSpotter(model)
    samples, _ = soundfile.read(file, dtype="float32")
    return [found._asdict() for found in [*spotter.feed(samples), *spotter.flush()]]


def test_a_file_as_json_gives_what_spotting_it_gives(
    model: str, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["listen", "--file", str(speech), "--fast", "--json", "--model", model]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["keyword"] for row in rows] == ["yes", "no", "no", "yes"]
    for row, expected in zip(rows, offline(model, speech), strict=True):
        assert row.pop("at").startswith("20")
        assert row == expected


def test_plain_lines_in_real_time_until_so_many_seconds(
    model: str, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = time.monotonic()
    assert cli.main(["listen", "--file", str(speech), "--model", model, "--plain", "--seconds", "1.2"]) == 0
    assert 1.1 < time.monotonic() - begun < 5
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split("\t")[2] == "yes"


def test_it_keeps_a_second_and_runs_a_command(model: str, speech: Path, tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text(
        "import os, sys; open(sys.argv[1], 'a').write(os.environ['KWS_KEYWORD'] + os.environ['KWS_SCORE'])"
    )
    told = tmp_path / "told it $HOME"
    command = f"{sys.executable} {script} '{told}'"
    options = ["--save", tmp_path / "kept", "--on", f"yes={command}", "--threshold", "no=1"]
    process = start("--file", speech, "--fast", "--model", model, *options)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert [line.split("\t")[2] for line in out.splitlines()] == ["yes", "yes"]
    files = sorted((tmp_path / "kept").rglob("*.wav"))
    assert len(files) == 2
    assert {file.parent.name for file in files} == {"yes"}
    for file in files:
        kept, rate = soundfile.read(file, dtype="float32")
        assert (len(kept), rate) == (16000, 16000)
        loud = np.flatnonzero(kept > 0.3)
        assert len(loud) == 1600  # the whole word
        assert 0.6 < loud[0] / 16000 < 0.8
    for _ in range(100):
        if told.is_file() and told.read_text().count("yes") == 2:
            break
        time.sleep(0.1)
    assert told.read_text().count("yes0.") == 2


def test_ctrl_c_ends_it_cleanly(model: str, speech: Path) -> None:
    process = start("--file", speech, "--model", model, "--json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert first["keyword"] == "yes"
    assert out == ""  # the second word was still to come


def test_wrong_calls_are_one_sentence(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {
        "is missing|does not exist": ["--file", str(tmp_path / "none.wav")],
        "names 'maybe'": ["--on", "maybe=true"],
        "not KEYWORD=COMMAND": ["--on", "yes"],
        "there is no program": ["--on", "yes=no-such-program x"],
        "cannot be read": ["--on", "yes='unclosed"],
    }
    for message, options in wrong.items():
        assert cli.main(["listen", "--model", model, *options]) == 1
        error = capsys.readouterr().err
        assert any(part in error for part in message.split("|")), error
        assert error.count("\n") == 1


def test_the_live_view(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    from kws.apps.live_view import LiveView

    spotter = StreamingSpotter(model)
    view = LiveView(spotter)
    source = SimpleNamespace(name="a microphone", overruns=3, waiting=False)
    meter = Meter()
    for found in spotter.feed(say("yn")):
        view.show(found)
    meter.add(say("yn"), 2.0, 0.002)
    view.update(meter, source, spotter)
    view.close()
    shown = capsys.readouterr().out
    for part in ("a microphone", "3 overruns", "dBFS", "yes", "no", "┃", "load 0.1%"):
        assert part in shown, shown


class FakeSoundDevice:
    """Stands in for the sounddevice module; `script` says what becomes of each stream that is opened."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def __init__(self, *names: str) -> None:
        self.names, self.streams, self.broken = list(names), [], False
        self.default = SimpleNamespace(device=[0, 0])

    def query_devices(self) -> list[dict[str, Any]]:
        made = {"max_input_channels": 2, "default_samplerate": 48000.0}
        return [{"name": name, "index": i, **made} for i, name in enumerate(self.names)]

    def InputStream(self, **options: Any) -> Any:
        if self.broken:
            raise self.PortAudioError("Device unavailable")
        stream = SimpleNamespace(active=True, start=lambda: None, close=lambda ignore_errors: None, **options)
        self.streams.append(stream)
        return stream

    def _initialize(self) -> None: ...

    def _terminate(self) -> None: ...


def test_devices_are_found_by_name_and_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeSoundDevice("Built-in", "USB microphone")
    for device, name in {None: "Built-in", "1": "USB microphone", "usb": "USB microphone"}.items():
        assert capture.find_input(fake, device)["name"] == name  # type: ignore[arg-type]
    with pytest.raises(capture.CaptureError, match="no input device is called 'x'"):
        capture.find_input(fake, "x")  # type: ignore[arg-type]
    with pytest.raises(capture.CaptureError, match="plug a microphone in"):
        capture.find_input(FakeSoundDevice(), None)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    assert cli.main(["listen", "--list-devices"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("*   0  Built-in  (2 channels, 48000 Hz)")
    fake.broken = True
    with pytest.raises(capture.CaptureError, match=r"cannot be opened \(Device unavailable\)"):
        capture.Microphone(16000)


def test_without_portaudio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(capture.CaptureError, match="pip install"):
        capture.Microphone(16000)


def test_overruns_are_counted_and_a_lost_device_is_opened_again(
    monkeypatch: pytest.MonkeyPatch, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeSoundDevice("USB microphone")
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    monkeypatch.setattr(capture, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(capture, "WAKE_SECONDS", 0.02)
    source = capture.Microphone(16000, "usb")

    def hand_over(words: str, overflow: bool = False) -> None:
        samples = np.repeat(say(words), 3)  # 48 kHz
        status = SimpleNamespace(input_overflow=overflow)
        for first in range(0, len(samples), 9600):
            stereo = np.stack([samples[first : first + 9600]] * 2, axis=1)
            fake.streams[-1].callback(stereo, len(stereo), None, status)
            overflow = status.input_overflow = False

    def script() -> None:
        hand_over("y", overflow=True)
        time.sleep(0.2)
        fake.broken, fake.streams[0].active = True, False  # unplugged
        time.sleep(0.4)
        fake.broken = False
        while len(fake.streams) < 2:
            time.sleep(0.01)
        hand_over("n")

    threading.Thread(target=script, daemon=True).start()
    meter = listen(source, StreamingSpotter(model), Lines(), lambda *_: None, lambda meter: meter.seconds < 3)
    lines = capsys.readouterr()
    assert [line.split("\t")[2] for line in lines.out.splitlines()] == ["yes", "no"]
    assert "audio was lost (1 times so far)" in lines.err
    assert "'USB microphone' is gone; waiting for it" in lines.err
    assert "'USB microphone' is back" in lines.err
    assert meter.seconds == pytest.approx(3.2, abs=0.3)


def test_audio_that_nobody_takes_is_counted_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeSoundDevice("USB microphone")
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    source = capture.Microphone(16000, "0")
    assert source._device == "USB microphone"  # looked for by its name should it go away
    source._queue = queue.Queue(2)
    for _ in range(5):
        fake.streams[0].callback(np.zeros((960, 2), np.float32), 960, None, SimpleNamespace(**SILENT))
    assert source.overruns == 3


def test_a_real_capture_device(sound_server: SoundServer, model: str, speech: Path) -> None:
    """ALSA, 44.1 kHz and two channels, through PortAudio; then the device vanishes and comes back."""
    try:
        import sounddevice  # noqa: F401
    except (ImportError, OSError) as error:
        pytest.skip(f"no sounddevice: {error}")
    process = start("--device", "kws", "--json", "--model", model, environment=sound_server.environment)
    time.sleep(2)
    sound_server.play(speech)
    sound_server.stop()
    time.sleep(1)
    sound_server.start()
    assert process.stderr is not None
    for news in ("is gone", "is back"):
        while news not in process.stderr.readline():
            assert process.poll() is None
    time.sleep(0.5)
    sound_server.play(speech)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    expected = offline(model, speech)
    for heard in (rows[:4], rows[4:]):
        assert [row["keyword"] for row in heard] == [row["keyword"] for row in expected]
        shift = heard[0]["start"] - expected[0]["start"]
        for row, other in zip(heard, expected, strict=True):
            assert row["start"] - shift == pytest.approx(other["start"], abs=0.05)
            assert 0.7 <= row["score"] <= 1  # the first block at the threshold or above: it hangs on where blocks begin
