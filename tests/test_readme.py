"""README and quick starts are true: their commands run (the long ones reduced), their outputs have the shape shown."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import kws, script
from readme_commands import blocks, readme_commands, unlike
from tone_words import write_tone_words

from kws.data.labels import word_set

REPO = Path(__file__).parent.parent
SMALL = ["trainer.epochs=1", "trainer.batch_size=8", "model.hidden_size=8", "model.conv_channels=[4]"]
SPOKEN = ["data.clips_per_word=20", "data.root=data"]
HOURS = ["positive_hours=0.08", "negative_hours=0.02", "file_minutes=1.2", "workers=1"]
# What is added to a command to make it short; None: it is not run here, for the reason beside it.
REDUCED = {
    "make demo": [*SMALL, *SPOKEN],
    "make test": None,  # these are the tests
    "make help": ["--no-print-directory"],
    "kws spot --model runs/demo/best.onnx runs/demo/minute.wav": ["--threshold", "0.05"],
    "kws make-stream recipe=training output=hours/train": [
        "data.root=tones", "positive_hours=0.03", "negative_hours=0.02", "file_minutes=1", "workers=1",
    ],
    "python -m kws.train experiment=gsc12": [*SMALL, "data.root=tones", "run_dir=runs/gsc12"],
    "kws train data=synthetic 'data.keywords=[lights,music]' 'data.words=[lights,music,lamp,door,table,window]'": [
        *SMALL, *SPOKEN,
    ],
    "kws train experiment=gsc12 resume=true": [*SMALL, "data.root=tones", "run_dir=runs/gsc12"],
    "kws train -m experiment=demo trainer.epochs=4 model.hidden_size=32,64 frontend.hop_ms=5,10": [
        "trainer.epochs=1", "trainer.batch_size=8", "model.hidden_size=8", "model.conv_channels=[4]", *SPOKEN,
    ],
    "kws record marvin --takes 40": None,  # needs a microphone: tests/test_record.py
    "kws train data=folder data.root=recordings run_dir=runs/mine": [*SMALL, "data.train_min_clips=0"],
    "kws export runs/mine/best.safetensors": [],
    "kws make-stream data=folder data.root=recordings output=hours/mine": ["keyword_share=1.0", *HOURS],
    "kws calibrate runs/mine/best.onnx hours/mine": ["--fa-per-hour", "200"],
    "kws listen --model runs/mine/best.onnx": ["--file", "runs/demo/minute.wav", "--fast", "--plain"],
    "kws evaluate model=runs/demo/best.safetensors split=test": [],
    "kws export runs/demo/best.safetensors": [],
    "kws info runs/demo/best.onnx": [],
    "kws make-stream output=hours/val data.root=data": ["data.root=tones", "keyword_share=1.0", *HOURS],
    "kws evaluate-stream gsc12.onnx hours/val": [],
    "kws calibrate gsc12.onnx hours/val": ["--fa-per-hour", "200"],
    "kws scan archive --output found --top 100 --clips clips": [],
    "kws listen --model runs/demo/best.onnx": ["--file", "runs/demo/minute.wav", "--fast", "--plain"],
    "kws web --model runs/demo/best.onnx": None,  # serves until it is stopped: tests/test_web.py
}  # fmt: skip
EXACT = ("make help",)
# What a model of one epoch may leave out: the rest of the shown output must be there in its shape.
DETECTED = ("WORD (0) at 0 s", "minute.wav 0 0 WORD 0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with a small data set in the place of Speech Commands and of one's own recordings."""
    folder = tmp_path_factory.mktemp("readme")
    core = {word: 300 + 200 * i for i, word in enumerate(("bed", *word_set("12")))}
    write_tone_words(folder / "tones" / "SpeechCommands" / "speech_commands_v0.02", 24, 1, core)
    write_tone_words(folder / "recordings", 24, 1, {"marvin": 500, "_unknown_": 1500})
    (folder / "archive").symlink_to("recordings")
    return folder


def run_reduced(command):
    """The command in its short form, run in this process if it is one of ours: what it printed."""
    program, *arguments = shlex.split(command)
    names = {option.split("=")[0] for option in REDUCED[command] if "=" in option}
    arguments = [*(a for a in arguments if a.split("=")[0] not in names), *REDUCED[command]]
    if program == "kws":
        return kws(*arguments)
    if command == "make demo":
        return script(REPO / "scripts" / "demo.py", *REDUCED[command])
    whole = [sys.executable, *arguments] if program == "python" else [program, "-C", str(REPO), *arguments]
    return subprocess.run(whole, capture_output=True, text=True, timeout=600)


def test_every_command_has_a_form_to_run():
    assert set(readme_commands()) == set(REDUCED)


@pytest.mark.timeout(1500)
def test_the_commands_run_one_after_the_other_and_print_what_is_shown(folder, monkeypatch):
    monkeypatch.chdir(folder)
    stale = []
    for command, shown in readme_commands().items():
        if REDUCED[command] is None:
            continue
        result = run_reduced(command)
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        if command == "python -m kws.train experiment=gsc12":
            assert kws("export", "runs/gsc12/best.safetensors", "--output", "gsc12.onnx").returncode == 0
        if command == "make demo":
            shown = ["...", *blocks("text")[0].splitlines()]
        if command in EXACT:
            real = [line for line in result.stdout.splitlines() if line]
            stale += [f"{command}: {line}" for line in real if line not in shown]
            stale += [f"{command}: {line}, which is no more" for line in shown if line not in real]
        elif shown:
            stale += [f"{command}: {line}" for line in unlike(shown, result.stdout) if not line.endswith(DETECTED)]
    assert not stale, "the pages and the commands print other lines:\n" + "\n".join(stale)
    for block in blocks("python"):
        subprocess.run([sys.executable, "-c", block], check=True)


def test_lines_of_markdown_are_at_most_120_columns():
    files = [*REPO.glob("*.md"), *(REPO / "docs").glob("*.md"), *(REPO / "kws" / "models").glob("*.md")]
    long = [
        f"{file.relative_to(REPO)}:{number}"
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 120 and not line.startswith("|")  # a row of a table cannot be wrapped
    ]
    assert not long


def test_stale_output_is_noticed():
    real = "epochs 3 of 5\nlabels   _silence_, yes\naccuracy  91.20%  (90 to 93)\nb=1 c=2  0.5"
    assert unlike(["epochs 7 of 9", "labels no, go", "accuracy 1% (2 to 3)", "x=3 0.7"], real) == []
    assert unlike(["epochs 7 of 9", "..."], real) == []
    assert unlike(["epochs 7 of 9", "labels ...", "accuracy 1% (2 to 3)", "x=3 0.7"], real) == []
    assert unlike(["epoch 7 of 9", "..."], real) == ["epoch 0 of 0"]
    assert unlike(["epochs 7 of 9"], real) != []
