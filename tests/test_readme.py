"""The README's commands run: each as it stands, the long ones in a reduced form."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from readme_commands import readme_commands
from tone_words import write_tone_words

from kws.data.labels import word_set

REPO = Path(__file__).parent.parent
SMALL = ["trainer.epochs=1", "trainer.batch_size=8", "model.hidden_size=8", "model.conv_channels=[4]"]
SPOKEN = ["data.clips_per_word=20", "data.root=data"]
# What is added to a command to make it short; None: it is not run here, for the reason beside it.
REDUCED = {
    "make demo": [*SMALL, *SPOKEN],
    "make test": None,  # these are the tests
    "make help": [],
    "kws spot --model runs/demo/best.onnx runs/demo/minute.wav": [],
    "python -m kws.make_stream recipe=training output=hours/train": [
        "data.root=tones", "positive_hours=0.03", "negative_hours=0.02", "file_minutes=1", "workers=1",
    ],
    "python -m kws.train experiment=gsc12": [*SMALL, "data.root=tones", "run_dir=runs/gsc12"],
    "python -m kws.train data=synthetic 'data.keywords=[lights,music]' "
    "'data.words=[lights,music,lamp,door,table,window]'": [*SMALL, *SPOKEN],
    "python -m kws.train data=folder data.root=recordings": SMALL,
    "python -m kws.train experiment=gsc12 resume=true": [*SMALL, "data.root=tones", "run_dir=runs/gsc12"],
    "python -m kws.train -m experiment=demo trainer.epochs=4 model.hidden_size=32,64 frontend.hop_ms=5,10": [
        "trainer.epochs=1", "trainer.batch_size=8", "model.hidden_size=8", "model.conv_channels=[4]", *SPOKEN,
    ],
    "python -m kws.evaluate model=runs/demo/best.safetensors split=test": [],
    "kws export runs/demo/best.safetensors": [],
    "kws info runs/demo/best.onnx": [],
    "python -m kws.make_stream output=hours/val data.root=data": [
        "data.root=tones", "keyword_share=1.0", "positive_hours=0.08", "negative_hours=0.02", "file_minutes=1.2",
        "workers=1",
    ],
    "kws evaluate-stream gsc12.onnx hours/val": [],
    "kws calibrate gsc12.onnx hours/val --fa-per-hour 5": ["--fa-per-hour", "200"],
    "kws listen --model runs/demo/best.onnx": ["--file", "runs/demo/minute.wav", "--fast", "--plain"],
    "kws record marvin --takes 20": None,  # needs a microphone: tests/test_record.py
    "kws web --model runs/demo/best.onnx": None,  # serves until it is stopped: tests/test_web.py
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with a small data set in the place of Speech Commands and of one's own recordings."""
    folder = tmp_path_factory.mktemp("readme")
    core = {word: 300 + 200 * i for i, word in enumerate(("bed", *word_set("12")))}
    tones = write_tone_words(folder / "tones" / "SpeechCommands" / "speech_commands_v0.02", 24, 1, core)
    shutil.copytree(tones, folder / "recordings")
    return folder


def reduced(command):
    if command.startswith("make "):
        target = command.split()[1]
        if target == "demo":
            return [sys.executable, str(REPO / "scripts" / "demo.py"), *REDUCED[command]]
        return ["make", "-C", str(REPO), target]
    program, *arguments = shlex.split(command)
    start = [sys.executable] if program == "python" else [sys.executable, "-m", "kws.cli"]
    names = {option.split("=")[0] for option in REDUCED[command] if "=" in option}
    return [*start, *(a for a in arguments if a.split("=")[0] not in names), *REDUCED[command]]


def test_every_command_has_a_form_to_run():
    assert set(readme_commands()) == set(REDUCED)


@pytest.mark.timeout(600)
def test_the_commands_run_one_after_the_other(folder):
    for command in readme_commands():
        if REDUCED[command] is None:
            continue
        result = subprocess.run(reduced(command), cwd=folder, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        if command == "python -m kws.train experiment=gsc12":
            export = [sys.executable, "-m", "kws.export", "runs/gsc12/best.safetensors", "--output", "gsc12.onnx"]
            subprocess.run(export, cwd=folder, check=True, capture_output=True)


def test_make_help_names_every_target():
    listed = subprocess.run(["make", "help"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "train", "lint", "bench", "clean"):
        assert f"make {target} " in listed
