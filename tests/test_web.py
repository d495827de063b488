from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from chromium import Chromium
from javascript import needs_engine
from tiny_onnx import write_tiny
from tone_model import say_tones, write_tone_model

from kws import cli
from kws.apps import doctor
from kws.apps.web_server import server, site, write
from kws.audio.files import read_audio
from kws.runtime import shipped
from kws.runtime.shipped import find_model
from kws.streaming import StreamingSpotter, default_model

ROWS = "[...document.querySelectorAll('#detections tr')].map((row) => ({...row.dataset})).reverse()"
STATUS = "document.getElementById('status').textContent"
READY = "!document.getElementById('listen').disabled"
DROP_THE_MODEL = """(async () => {
  const bytes = await (await fetch(document.getElementById('model').value)).arrayBuffer();
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], 'dropped.onnx'));
  for (const kind of ['dragenter', 'dragover', 'drop']) {
    document.body.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer }));
  }
})()"""
HEAR = """(async () => {
  const { loadModel, Spotter } = await import("./spotter.js");
  const clip = new Int16Array(await (await fetch("clip.pcm")).arrayBuffer());
  const heard = {};
  for (const address of await (await fetch("models.json")).json()) {
    const spotter = new Spotter(await loadModel(new URL(address, location)));
    const found = [], posteriors = [];
    for (let at = 0; at < clip.length; at += 777) {
      found.push(...spotter.feed(clip.subarray(at, at + 777)));
      posteriors.push([...spotter.posteriors]);
    }
    heard[address] = { found: [...found, ...spotter.flush()], posteriors };
  }
  return heard;
})()"""
SCREENS = {"wide-light": (1100, 820, False), "wide-dark": (1100, 820, True), "phone-light": (390, 1100, False)}


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    needs_engine()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A shipped model under another name."""
    path = tmp_path / "tiny model.onnx"
    path.write_bytes(find_model("gsc12_tiny_int8").read_bytes())
    return path


def served(files: dict[str, Any]) -> Iterator[str]:
    with server(files, 0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/"
        running.shutdown()


def test_it_serves_the_page_and_nothing_else(model: Path, tmp_path: Path) -> None:
    for url in served(site([model], tmp_path)):
        with urllib.request.urlopen(url) as answer:
            assert b"<title>kws" in answer.read()
        (name,) = json.load(urllib.request.urlopen(url + "models.json"))
        with urllib.request.urlopen(url + name) as answer:
            assert answer.read() == model.read_bytes()
        with urllib.request.urlopen(url + "detector.js?x") as answer:
            assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
            assert answer.headers["Cache-Control"] == "no-cache"
        types = {"": "text/html; charset=utf-8", "models.json": "application/json", name: "application/octet-stream"}
        for path, kind in {**types, "kws.wasm": "application/wasm"}.items():
            assert urllib.request.urlopen(url + path).headers["Content-Type"] == kind
        for wrong in ("nothing", "../web_server.py", "%2e%2e/cli.py", "models/"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(url + wrong)


def test_a_static_copy_holds_all_that_the_page_names(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["web", "--model", str(model), "--export", str(out)]
    assert cli.main(command) == 0
    assert "any host of static files" in capsys.readouterr().out
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {"index.html", "app.js", "kws.wasm", "models/tiny model.onnx"} <= names
    heard = [*out.glob("*.*"), out / "models" / "tiny model.onnx"]
    assert sum(path.stat().st_size for path in heard) < 200_000  # 1 MB is the aim; gsc12 is 411 kB of it
    for script in out.glob("*.js"):
        for line in script.read_text().splitlines():
            if line.startswith("import "):
                assert (out / line.split('"')[1]).is_file(), line
            assert "http://" not in line.replace("http://127.0.0.1", "")
            assert "https://" not in line
    assert not [line for line in (out / "index.html").read_text().splitlines() if "//" in line and "src" in line]


def test_wrong_calls_are_one_sentence(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twin = tmp_path / "other" / model.name
    twin.parent.mkdir()
    twin.write_bytes(model.read_bytes())
    foreign = write_tiny(tmp_path / "foreign.onnx")
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    with server({}, 0) as other:
        taken = str(other.server_address[1])
        for message, options in {
            "text.onnx cannot be loaded as an ONNX model": ["--model", str(text)],
            "cannot be run by the C engine": ["--model", str(foreign)],
            "two models are called": ["--model", str(model), "--model", str(twin)],
            f"port {taken} cannot be served": ["--model", str(model), "--port", taken],
            "port 70000 cannot be served": ["--model", str(model), "--port", "70000"],
        }.items():
            assert cli.main(["web", *options]) == 1
            error = capsys.readouterr().err
            assert message in error
            assert error.count("\n") == 1


def test_ctrl_c_ends_the_server(model: Path) -> None:
    command = [sys.executable, "-m", "kws.cli", "web", "--model", model, "--port", "0"]

    def heed_ctrl_c() -> None:  # what runs the tests in the background may have had it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    )
    assert process.stdout is not None
    url = process.stdout.readline().split()[0]
    assert urllib.request.urlopen(url).status == 200
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (0, "")


def offline(model: Path, samples: np.ndarray) -> list[dict[str, Any]]:
    spotter = StreamingSpotter(model)
    return [found._asdict() for found in [*spotter.feed(samples), *spotter.flush()]]


def assert_the_same(heard: list[dict[str, str]], expected: list[dict[str, Any]], score: float, seconds: float) -> None:
    assert [row["keyword"] for row in heard] == [row["keyword"] for row in expected]
    shift = float(heard[0]["start"]) - expected[0]["start"] if seconds > 0.01 else 0.0
    for row, other in zip(heard, expected, strict=True):
        assert float(row["score"]) == pytest.approx(other["score"], abs=score)
        for key in ("start", "end"):
            assert float(row[key]) - shift == pytest.approx(other[key], abs=seconds)


def test_the_page_in_a_real_browser(tmp_path: Path) -> None:
    """A file gives what Python gives, the microphone gives the same keywords; nothing is fetched from elsewhere."""
    model = write_tone_model(tmp_path / "tiny model.onnx")
    samples, file = np.pad(say_tones("ynny"), (24000, 0)), tmp_path / "speech.wav"  # a slow machine starts slowly
    soundfile.write(file, samples, 16000)
    slow = tmp_path / "slow.flac"
    soundfile.write(slow, np.stack([np.repeat(samples, 3)] * 2, axis=1), 48000)
    for name in ("not.wav", "not.onnx"):
        (tmp_path / name).write_text("neither audio nor a model")
    expected = offline(model, soundfile.read(file, dtype="float32")[0])
    assert len(expected) == 4
    write(site([model], tmp_path), tmp_path / "static")
    files = {str(path.relative_to(tmp_path / "static")): path for path in (tmp_path / "static").rglob("*.*")}
    fake = f"--use-file-for-fake-audio-capture={file}%noloop"
    for url in served(files):
        with Chromium(tmp_path / "profile", fake) as browser:
            browser.open(url)
            browser.wait(READY)
            assert "tiny model.onnx is ready: 2 keywords" in browser.run(STATUS)

            browser.choose_file("#audio-file", file)
            browser.wait(f"{STATUS}.includes('4 detections in')")
            assert_the_same(browser.run(ROWS), expected, score=1e-4, seconds=1e-6)  # its int16 are scaled by 1 / 32767
            browser.choose_file("#audio-file", slow)
            browser.wait(f"{STATUS}.startsWith('slow.flac: 4 detections')")
            browser.choose_file("#audio-file", tmp_path / "not.wav")
            browser.wait("document.getElementById('error').textContent.includes('cannot be read as audio')")
            browser.choose_file("#model-file", tmp_path / "not.onnx")
            browser.wait("document.getElementById('error').textContent === 'This is not an ONNX file.'")
            assert browser.run("document.querySelectorAll('.keyword input').length") == 2

            browser.run("document.getElementById('listen').click()")
            browser.wait(f"{STATUS}.startsWith('Listening to')")
            browser.wait(f"({ROWS}).length >= 4")
            assert_the_same(browser.run(ROWS), expected, score=0.1, seconds=0.05)
            assert int(browser.run("document.getElementById('lost').textContent")) <= 5  # of a busy machine
            assert browser.run("document.getElementById('spectrogram').width") == 500
            browser.run("document.getElementById('listen').click()")
            browser.wait(f"{STATUS} === 'Stopped.'")

            browser.run(
                "document.querySelectorAll('.keyword input').forEach((slider) => {"
                "slider.value = slider.max; slider.dispatchEvent(new Event('input'));})"
            )
            browser.choose_file("#audio-file", file)
            browser.wait(f"{STATUS}.includes('0 detections in')")

            browser.run(DROP_THE_MODEL)
            browser.wait(f"{STATUS}.startsWith('dropped.onnx is ready')")

            unnamed = browser.run(
                "[...document.querySelectorAll('button, input, select, canvas')].filter((each) => "
                "!(each.textContent.trim() || each.ariaLabel || each.labels?.length)).map((each) => each.outerHTML)"
            )
            assert unnamed == []
            assert browser.log == []
            assert {each for each in browser.urls if not each.startswith((url, "data:"))} == set()


def test_every_shipped_model_in_a_real_browser(tmp_path: Path) -> None:
    """Detections and every window's posteriors are those of Python, to the last bit; of float32 also onnxruntime's."""
    samples = np.rint(read_audio(doctor.SAMPLE, 16000) * 32767).astype("<i2")
    samples.tofile(tmp_path / "clip.pcm")
    models = sorted(shipped.FOLDER.glob("*.onnx"))
    for url in served({**site(models, tmp_path), "clip.pcm": tmp_path / "clip.pcm"}):
        with Chromium(tmp_path / "profile") as browser:
            browser.open(url)
            browser.wait(READY)
            heard = browser.run(HEAR)
            assert browser.log == []
    assert len(heard) == len(models) >= 4
    for path in models:
        ours, spotter = heard[f"models/{path.name}"], StreamingSpotter(path, engine="c")
        expected, posteriors = [], []
        for at in range(0, len(samples), 777):
            expected += spotter.feed(samples[at : at + 777])
            posteriors.append(spotter.posteriors)
        expected += spotter.flush()
        assert {"yes", "left", "go"} <= {found.keyword for found in expected}
        assert ours["found"] == [found._asdict() for found in expected], path.name
        np.testing.assert_array_equal(np.array(ours["posteriors"], np.float32), np.array(posteriors, np.float32))
        if spotter.model.metadata["precision"] == "float32":
            reference = StreamingSpotter(path, engine="onnxruntime")
            by_onnx = [*reference.feed(samples), *reference.flush()]
            times = [(found.keyword, found.start, found.end) for found in by_onnx]
            assert [(found["keyword"], found["start"], found["end"]) for found in ours["found"]] == times
            scores = [found["score"] for found in ours["found"]]
            np.testing.assert_allclose(scores, [found.score for found in by_onnx], atol=1e-3)


@pytest.mark.skipif("KWS_SCREENSHOTS" not in os.environ, reason="KWS_SCREENSHOTS names no folder to put pictures in")
def test_pictures_for_the_docs(tmp_path: Path, speech_commands_root: Path) -> None:
    """Real words through the model that comes with kws (or KWS_SCREENSHOT_MODEL), as the page shows them."""
    given = os.environ.get("KWS_SCREENSHOT_MODEL")
    model = Path(given) if given else default_model()
    root = next(speech_commands_root.rglob("yes")).parent
    parts = [np.zeros(8000, np.float32)]
    for word in ("yes", "no", "up", "left", "stop", "go"):
        clips = (soundfile.read(path, dtype="float32")[0] for path in sorted((root / word).glob("*.wav"))[40:])
        heard = (clip for clip in clips if [found["keyword"] for found in offline(model, clip)] == [word])
        parts += [next(heard), np.zeros(4000, np.float32)]
    noise = np.random.default_rng(0).normal(0, 3e-4, sum(map(len, parts)))
    soundfile.write(tmp_path / "words.wav", np.concatenate(parts) + noise, 16000)
    fake = f"--use-file-for-fake-audio-capture={tmp_path / 'words.wav'}%noloop"
    for url in served(site([model], tmp_path)):
        for name, (width, height, dark) in SCREENS.items():
            with Chromium(tmp_path / name, fake) as browser:
                browser.open(url)
                browser.wait(READY)
                browser.run("document.getElementById('listen').click()")
                browser.wait(f"({ROWS}).length >= 5", 20)
                browser.screenshot(Path(os.environ["KWS_SCREENSHOTS"]) / f"web-{name}.png", width, height, dark)
