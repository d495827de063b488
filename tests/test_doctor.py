"""`kws doctor`: what is well is said to be, and each trouble comes with its remedy."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from commands import kws
from sound_server import SoundServer
from tiny_onnx import write_tiny

from kws.apps import doctor
from kws.audio.files import read_audio
from kws.streaming import StreamingSpotter


@pytest.fixture
def no_microphone(monkeypatch):
    def none():
        raise doctor.CaptureError("there is no input device; plug a microphone in")

    monkeypatch.setattr(doctor, "list_inputs", none)


def findings(*arguments):
    done = kws("doctor", "--json", *arguments)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_machine_that_is_well(no_microphone):
    status, found = findings()
    assert status == 0
    assert {each["state"] for each in found} <= {"ok", "note"}
    text = "\n".join(each["text"] for each in found)
    for part in ("kws 0.", "numpy ", "onnxruntime ", "plug a microphone in", "gsc12 runs on ", "hears yes, left, go"):
        assert part in text
    assert float(text.split("it takes ")[1].split("%")[0]) > 0


@pytest.mark.parametrize("model", ["gsc12", "gsc12_int8", "gsc12_tiny", "gsc12_tiny_int8"])
def test_every_shipped_model_hears_the_sample(model):
    samples, spotter = read_audio(doctor.SAMPLE, 16000), StreamingSpotter(model)
    heard = [each.keyword for each in [*spotter.feed(samples), *spotter.flush()]]
    assert heard
    assert set(heard) <= set(doctor.SPOKEN)


def test_trouble_has_a_remedy_and_a_status(no_microphone, tmp_path, monkeypatch):
    status, found = findings("--model", str(tmp_path / "none.onnx"))
    assert (status, found[-1]["state"]) == (1, "trouble")
    assert "give an ONNX model made by kws export" in found[-1]["text"]
    status, found = findings("--model", str(write_tiny(tmp_path / "own.onnx")))
    assert status == 0  # words of its own: the sample says nothing of them
    assert not any("of a voice" in each["text"] for each in found)
    monkeypatch.setattr(doctor, "SPOKEN", ("no", "stop"))
    monkeypatch.setattr(doctor, "BUSY", 0.0)
    status, found = findings()
    assert (status, [each["state"] for each in found[-2:]]) == (1, ["trouble", "trouble"])
    assert "pip install --force-reinstall kws" in found[-2]["text"]
    assert "use a smaller model" in found[-1]["text"]


def test_the_level_of_a_second():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, 16000).astype(np.float32)
    assert doctor.level(noise, "usb") == ("ok", "usb hears -40 dBFS in a second")
    for samples, state, remedy in [
        (np.zeros(16000, np.float32), "trouble", "unmute it"),
        (noise[:4000], "trouble", "choose another"),
        (np.clip(noise * 100, -1, 1), "trouble", "turn its gain down"),
        (noise * 1e-2, "note", "gain is low"),
    ]:
        found = doctor.level(samples, "usb")
        assert (found.state, remedy in found.text) == (state, True), found


def test_a_real_capture_device_is_recorded_from():
    server = SoundServer()
    try:
        environment = {**server.environment, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "kws.cli", "doctor", "--device", "kws"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    finally:
        server.stop()
    assert "input device " in done.stdout
    assert "kws gives digital silence" in done.stdout  # nobody plays to it
    assert done.returncode == 1
