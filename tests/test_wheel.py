"""The wheel works without the checkout: the runtime in a clean environment, the configs from the installed package."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from tiny_onnx import write_tiny

REPO = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPO)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("kws-*.whl")
    return path


def test_it_spots_keywords_without_torch(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], capture_output=True, text=True)
    if install.returncode and "No matching distribution" in install.stderr:
        pytest.skip("no package registry within reach to install numpy and onnxruntime from")
    assert install.returncode == 0, install.stderr
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True).stdout
    names = {package["name"].lower() for package in json.loads(listed)}
    assert {"numpy", "onnxruntime", "soundfile"} <= names
    assert not names & {"torch", "torchaudio", "hydra-core", "librosa", "scipy"}
    model = write_tiny(tmp_path / "tiny.onnx")
    step = np.concatenate([np.zeros(16000), np.full(16000, 0.8), np.zeros(16000)])  # a high mean says "yes"
    sf.write(tmp_path / "step.wav", step, 16000)
    kws = tmp_path / "env" / "bin" / "kws"
    command = [kws, "spot", "--json", "--model", model, tmp_path / "step.wav"]
    spotted = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert spotted.returncode == 0, spotted.stderr
    detections = [json.loads(line) for line in spotted.stdout.splitlines()]
    assert detections[0]["keyword"] == "yes"
    assert 0.9 < detections[0]["start"] < 2.1


def test_configs_come_with_it(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = "import kws.entry; print(kws.entry.config_dir())"
    found = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout.strip() == str(tmp_path / "site" / "kws" / "configs")
    command = [sys.executable, "-m", "kws.train", "--cfg", "job", "experiment=gsc12_tiny"]
    composed = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert composed.returncode == 0, composed.stderr
    assert "hidden_size: 48" in composed.stdout
