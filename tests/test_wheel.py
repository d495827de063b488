"""The wheel without the checkout: what each extra is enough for, in a clean environment; the configs come with it."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from tiny_onnx import write_tiny

from kws import cli
from kws.c.build import COMPILED, HERE, WASM, compilers, library_name

REPO = Path(__file__).parent.parent
HEAVY = {"torch", "torchaudio", "hydra-core", "lightning-fabric", "librosa", "scipy", "onnx", "safetensors"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPO)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("kws-*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A clean environment, into which the tests below install the wheel, first without and then with an extra."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "env")
    return Environment(wheel, folder)


class Environment:
    def __init__(self, wheel, folder):
        self.wheel, self.folder, self.python = wheel, folder, folder / "env" / "bin" / "python"
        self.installed = None  # the extra
        self.variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        write_tiny(folder / "tiny.onnx")
        step = np.concatenate([np.zeros(16000), np.full(16000, 0.8), np.zeros(16000)])  # a high mean says "yes"
        sf.write(folder / "step.wav", step, 16000)

    def run(self, *command):
        return subprocess.run(command, cwd=self.folder, env=self.variables, capture_output=True, text=True)

    def install(self, extra):
        """The packages that are there then, by name."""
        pip = (sys.executable, "-m", "pip", "--python", self.python)
        if extra != self.installed:
            done = self.run(*pip, "install", "--quiet", "--no-compile", f"{self.wheel}{extra}")
            if done.returncode and "No matching distribution" in done.stderr:
                pytest.skip("no package registry within reach to install numpy and onnxruntime from")
            assert done.returncode == 0, done.stderr
            self.installed = extra
        listed = self.run(*pip, "list", "--format=json").stdout
        return {package["name"].lower() for package in json.loads(listed)}

    def kws(self, *arguments):
        """Standard output of a command that must succeed."""
        done = self.run(self.python.with_name("kws"), *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, *arguments):
        """Standard error of the command and, where it is a door, of its module, which must be the same sentence."""
        module = cli.COMMANDS[arguments[0]].module
        if module.count(".") > 1:
            done = self.run(self.python.with_name("kws"), *arguments)
            assert done.returncode == 1
            return done.stderr
        both = [self.run(self.python.with_name("kws"), *arguments), self.run(self.python, "-m", module, *arguments[1:])]
        assert [done.returncode for done in both] == [1, 1]
        assert both[0].stderr == both[1].stderr
        return both[0].stderr


def test_what_runs_a_model_needs_no_extra(environment):
    names = environment.install("")
    assert {"numpy", "onnxruntime", "soundfile", "soxr"} <= names
    assert not names & HEAVY
    detections = [
        json.loads(line) for line in environment.kws("spot", "--json", "--model", "tiny.onnx", "step.wav").splitlines()
    ]
    assert detections[0]["keyword"] == "yes"
    assert 0.9 < detections[0]["start"] < 2.1
    heard = environment.kws("listen", "--model", "tiny.onnx", "--file", "step.wav", "--fast", "--plain")
    assert heard.split("\t")[2] == "yes"
    assert "yes, no, up" in environment.kws("info")
    assert "0 takes" in environment.kws("record", "word", "--file", "step.wav")
    if importlib.util.find_spec("ziglang") is not None:  # which made the engine for browsers
        environment.kws("web", "--model", "gsc12_tiny", "--export", "page")
        assert {"kws.wasm", "models"} < {path.name for path in (environment.folder / "page").iterdir()}


def test_a_missing_extra_is_named(environment):
    environment.install("")
    for name, command in cli.COMMANDS.items():
        if command.extra and name != "benchmark":  # which has no use for a package of its own before peers
            error = environment.fails(name, *(["best.safetensors"] if name == "export" else ["tiny.onnx", "hours"]))
            assert re.fullmatch(
                rf"error: kws {name} needs \w+, which is not installed; pip install 'kws\[{command.extra}\]'\n", error
            )
    microphone = environment.run(environment.python.with_name("kws"), "listen", "--model", "tiny.onnx")
    assert microphone.stderr == "error: a microphone needs the package sounddevice; pip install 'kws[mic]'\n"


@pytest.mark.timeout(600)  # it installs some 150 MB
def test_measuring_needs_no_torch(environment):
    assert not environment.install("[measure]") & (HEAVY - {"scipy", "onnx"})
    hours = environment.folder / "hours"
    hours.mkdir()
    level = np.zeros(60 * 16000)
    level[16000:17600], level[48000:49600] = 0.8, -0.8
    sf.write(hours / "a.wav", level, 16000)
    (hours / "labels.csv").write_text("file,onset,offset,keyword\na.wav,1,1.1,yes\na.wav,3,3.1,no\n")
    table = environment.kws("calibrate", "tiny.onnx", "hours", "--fa-per-hour", "200", "--output", "calibrated.onnx")
    assert "promised FA/h" in table
    assert "FRR (95 %)" in environment.kws("evaluate-stream", "calibrated.onnx", "hours")
    assert (environment.folder / "calibrated-stream" / "det.png").is_file()
    assert "N=1:" in environment.kws("benchmark", "tiny.onnx", "--no-peers")
    assert "pip install 'kws[train]'" in environment.fails("export", "best.safetensors")
    (environment.folder / "best.safetensors").touch()
    assert "pip install 'kws[train]'" in environment.fails("benchmark", "best.safetensors")


def test_training_needs_nothing_but_its_extra():
    """Every module of kws but those of other extras is imported without what `dev` adds."""
    absent = ["pytest", "torchmetrics", "hypothesis", "sounddevice", "rich", "espeakng_loader", "silero_vad", "wyoming"]
    absent += ["shtab"]
    others = ("kws.apps.live_view", "kws.apps.wake", "kws.completion", "kws.c.kws_")  # c: the compiled engine
    code = f"""
import sys, pkgutil, importlib, kws
for name in {absent}: sys.modules[name] = None
for module in pkgutil.walk_packages(kws.__path__, "kws."):
    if not module.name.startswith({others}):
        importlib.import_module(module.name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_configs_come_with_it(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        names = set(archive.namelist())
    assert {"kws/data/words.txt", "kws/speech/grammar.txt", "kws/apps/web/contract.js"} <= names
    assert {f"kws/c/{name}" for name in COMPILED} <= names
    if list(compilers()):
        assert {f"kws/c/{library_name(variant)}" for variant in HERE.variants} <= names
    if importlib.util.find_spec("ziglang") is not None:
        assert f"kws/c/{library_name('wasm', WASM)}" in names
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = "import kws.entry; print(kws.entry.config_dir())"
    found = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout.strip() == str(tmp_path / "site" / "kws" / "configs")
    command = [sys.executable, "-m", "kws.train", "--cfg", "job", "experiment=gsc12_tiny"]
    composed = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert composed.returncode == 0, composed.stderr
    assert "hidden_size: 48" in composed.stdout
