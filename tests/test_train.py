"""Training end to end on tones: learns, reproduces, survives SIGKILL, stops on a loss that is not finite, sweeps."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import torch
from commands import kws
from safetensors.torch import load_file
from tone_words import write_tone_words

from kws.config import TrainerConfig
from kws.errors import KwsError
from kws.model.checkpoint import load_checkpoint, read_header
from kws.training.device import best_precision, connect, lost_processes
from kws.training.optimization import learning_rate

EPOCHS = 4
# Each recording once an epoch, and few other clips: what is tested here is the loop.
SHARES = [
    *(
        "data.train_min_clips=0",
        "data.train_shuffled_ratio=0",
        "data.train_unknown_ratio=0.25",
        "data.train_silence_ratio=0.15",
    ),
    *("data.unknown_ratio=0.1", "data.silence_ratio=0.1"),
]


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    return write_tone_words(tmp_path_factory.mktemp("tones") / "words")


def options(tones, run_dir, *overrides):
    return [
        "data=folder", f"data.root={tones}", f"data.cache_dir={tones.parent}/cache",
        "data.keywords=['yes','no']", *SHARES, "data.workers=1",
        "model=tiny", "model.hidden_size=16", "model.conv_channels=[8]",
        f"trainer.epochs={EPOCHS}", "trainer.batch_size=16", "trainer.warmup_epochs=0.5", "trainer.average_decay=0.8",
        "trainer.learning_rate=0.01", "trainer.threads=1", "trainer.accelerator=cpu", "augment=none",
        f"run_dir={run_dir}", *overrides,
    ]  # fmt: skip


def command(*arguments):
    return [sys.executable, "-m", "kws.train", *options(*arguments)]


def run(*arguments):
    """A run in a process of its own, to the end."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=250)


def train(*arguments):
    """A run in this process, which must succeed; what it prints."""
    result = kws("train", *options(*arguments))
    assert result.returncode == 0, result.stderr
    return result.stdout


def fails(*arguments):
    """The error of a run in this process, which must end with status 1, one sentence and no traceback."""
    result = kws("train", *options(*arguments))
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    (error,) = (line for line in lines if line.startswith("error: "))
    assert not any("Traceback" in line for line in lines)
    return error


@pytest.fixture(scope="module")
def finished(tones, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run") / "whole"
    result = run(tones, run_dir)
    assert result.returncode == 0, result.stderr
    return run_dir, result


def test_it_learns_and_leaves_what_people_look_for(finished):
    run_dir, result = finished
    summary = json.loads((run_dir / "result.json").read_text())
    assert summary["validation_accuracy"] > 0.7
    assert "clips/s" in result.stdout
    rows = list(csv.DictReader((run_dir / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert list(run_dir.glob("events.out.tfevents*"))
    spotter, header = load_checkpoint(run_dir / "best.safetensors")
    assert spotter.labels == ("_silence_", "_unknown_", "yes", "no")
    assert header["info"]["config"]["trainer"]["batch_size"] == 16
    precision = best_precision(torch.device("cpu"))
    assert header["info"]["config"]["trainer"]["precision"] == precision
    assert f"on cpu in {precision}; " in result.stdout
    assert spotter.normalize.std.min() > 0.1


def test_a_log_file_gets_one_line_for_each_epoch(finished):
    lines = finished[1].stdout.splitlines()
    assert len(lines) == EPOCHS + 2, lines
    assert all(line.startswith(f"epoch   {i + 1}/{EPOCHS}  loss ") for i, line in enumerate(lines[1:-1]))
    assert all(re.fullmatch(r"[a-z ]+: [0-9,]+ clips in \d+ s", line) for line in finished[1].stderr.splitlines())


def test_bfloat16_learns_too_says_no_more_and_is_gone_on_with(tones, tmp_path):
    printed = train(tones, tmp_path / "run", "trainer.precision=bf16-mixed")
    assert len(printed.splitlines()) == EPOCHS + 2
    assert json.loads((tmp_path / "run" / "result.json").read_text())["validation_accuracy"] > 0.7
    error = fails(tones, tmp_path / "run", "resume=true", "trainer.precision=32-true")
    assert "trainer.precision was" in error
    assert "on cpu in bf16-mixed" in train(tones, tmp_path / "run", "resume=true")


@pytest.mark.parametrize(
    ("instructions", "cuda", "expected"),
    [
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, None, "32-true"),
        ({"avx512_bf16": True}, None, "bf16-mixed"),
        ({"avx512_bf16": False, "amx_bf16": True}, None, "bf16-mixed"),
        ({"architecture": "aarch64"}, None, "32-true"),
        ({"avx512_bf16": True}, False, "32-true"),
        ({"avx512_bf16": False}, True, "bf16-mixed"),
    ],
)
def test_bfloat16_is_for_processors_that_compute_it(monkeypatch, instructions, cuda, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: cuda)
    assert best_precision(torch.device("cpu" if cuda is None else "cuda")) == expected


def test_two_processes_learn_what_one_does(tones, tmp_path):
    """By lightning's Fabric; the batch of 16 is 8 lanes in each, and every draw is made for all of it."""
    drawn = ["augment.shift_ms=50", "augment.gain_db=6", "augment.speed=0.05", "augment.noise_probability=0.5"]
    same = ["trainer.epochs=1", "model.dropout=0", *drawn]
    train(tones, tmp_path / "one", *same)
    result = run(tones, tmp_path / "two", "trainer.devices=2", *same)
    assert result.returncode == 0, result.stderr
    assert len(re.findall("epoch   1/1", result.stdout)) == 1
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, atol=1e-5, rtol=1e-4, msg=f"{name} differs")
    rows = [next(csv.DictReader((tmp_path / name / "metrics.csv").open())) for name in ("one", "two")]
    assert float(rows[0]["loss"]) == pytest.approx(float(rows[1]["loss"]), rel=1e-6)
    assert rows[0]["accuracy"] == rows[1]["accuracy"]


def test_a_lost_process_and_too_many_of_them_are_one_sentence(monkeypatch):
    """What gloo said when the other of two processes had been killed; the environment that torchrun makes for three."""
    gone = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:542] Connection closed by peer [127.0.0.1]:41613"
    with pytest.raises(KwsError, match=r"another process of this run has ended; .* resume=true"), lost_processes():
        raise RuntimeError(gone)
    with pytest.raises(RuntimeError, match="a mistake of ours"), lost_processes():
        raise RuntimeError("a mistake of ours")
    started = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3", "GROUP_WORLD_SIZE": "1"}
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KwsError, match=r"started 3 processes, .* give trainer\.devices=3 trainer\.num_nodes=1$"):
        connect(TrainerConfig())


def test_an_accelerator_that_is_not_there_is_refused(tones, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    error = fails(tones, tmp_path / "run", "trainer.accelerator=gpu")
    assert error == "error: trainer.accelerator is gpu, and torch finds none; choose cpu"


def test_a_run_on_one_device_imports_no_more_than_it_needs():
    heavy = ["lightning_fabric", "onnxruntime", "onnx", "tensorboard", "matplotlib", "scipy", "librosa", "torchmetrics"]
    code = f"import sys, kws.train; print(*(name for name in {heavy} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_killed_and_resumed_ends_with_the_same_weights(tones, finished, tmp_path):
    run_dir = tmp_path / "killed"
    process = subprocess.Popen(
        command(tones, run_dir), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    last = run_dir / "last.safetensors"
    while not last.exists():
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert read_header(last)["info"]["epoch"] < EPOCHS
    assert "resuming" in train(tones, run_dir, "resume=true")
    whole, resumed = load_file(finished[0] / "last.safetensors"), load_file(last)
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)
    best = (load_file(folder / "best.safetensors") for folder in (finished[0], run_dir))
    for value, other in zip(*(tensors.values() for tensors in best), strict=True):
        torch.testing.assert_close(value, other, rtol=0, atol=0)
    epochs = [row["epoch"] for row in csv.DictReader((run_dir / "metrics.csv").open())]
    assert epochs == ["1", "2", "3", "4"]


def test_resuming_with_other_options_is_refused(tones, finished):
    error = fails(tones, finished[0], "resume=true", "model.hidden_size=20")
    assert "model.hidden_size was 16 and is 20 now" in error


def test_a_run_that_is_there_is_not_overwritten(tones, finished):
    before = (finished[0] / "best.safetensors").read_bytes()
    assert "holds a run already; resume=true" in fails(tones, finished[0])
    assert (finished[0] / "best.safetensors").read_bytes() == before


def test_scores_are_adjusted_to_the_label_shares_of_evaluation(finished):
    """Of unknown words and silence a quarter and 15 % in training, a tenth in evaluation: training is told so."""
    adjustment = read_header(finished[0] / "last.safetensors")["info"]["adjustment"]
    assert len(adjustment) == 4
    assert all(adjustment[:2])
    assert adjustment[2:] == [0, 0]


def melody(seconds, seed):
    """Running "speech": tones of all words and others without a pause, float64 `[S]`."""
    rng = np.random.default_rng(seed)
    time = np.arange(4000) / 16000
    tones = [
        np.hanning(4000) * np.sin(2 * np.pi * rng.choice([400, 800, 1200, 1600]) * time) for _ in range(4 * seconds)
    ]
    return 0.3 * np.concatenate(tones)


def test_running_speech_is_no_keyword_and_noise_and_rooms_come_from_files(tones, finished, tmp_path):
    for name, sound in {
        "speech/a.wav": melody(60, 0), "speech/b.wav": melody(30, 1), "noise/hum.wav": 0.1 * melody(5, 2),
        "held_out/hiss.wav": np.random.default_rng(5).normal(0, 0.05, 320_000),
        "rooms/one.wav": np.eye(1, 2000, 40)[0] + np.random.default_rng(3).normal(0, 0.01, 2000),
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, sound, 16000)
    places = [f"data.speech={tmp_path / 'speech'}", f"augment.noise_dir={tmp_path / 'noise'}"]
    places += [f"augment.rir_dir={tmp_path / 'rooms'}", "augment.noise_probability=0.5", "data.speech_mined=50"]
    places.append(f"data.speech_validation={tmp_path / 'held_out'}")
    train(tones, tmp_path / "run", *places)
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    best = min(rows, key=lambda row: (float(row["misses"]), -float(row["validation_accuracy"])))
    kept = read_header(tmp_path / "run" / "best.safetensors")["info"]
    assert (kept["epoch"], kept["best_misses"]) == (int(best["epoch"]), float(best["misses"]))
    heard = torch.from_numpy(melody(20, 4)).float()[None]
    keywords = {}
    for name, run_dir in (("clips alone", finished[0]), ("running speech", tmp_path / "run")):
        spotter = load_checkpoint(run_dir / "best.safetensors")[0].eval()
        with torch.inference_mode():
            posteriors = spotter(heard, spotter.initial_state(1))[0].softmax(-1)
        keywords[name] = posteriors[..., 2:].sum(-1).mean().item()
    assert keywords["running speech"] < 0.4 * keywords["clips alone"], keywords
    assert json.loads((tmp_path / "run" / "result.json").read_text())["validation_accuracy"] > 0.8


def test_speech_that_training_hears_cannot_choose_an_epoch(tones, tmp_path):
    (tmp_path / "speech").mkdir()
    soundfile.write(tmp_path / "speech" / "a.wav", melody(5, 0), 16000)
    both = [f"data.speech{use}={tmp_path / 'speech'}" for use in ("", "_validation")]
    assert "data.speech_validation and data.speech both name " in fails(tones, tmp_path / "run", *both)


def test_a_student_learns_what_its_teacher_says(tones, finished, tmp_path):
    """Labels that are swapped in its data do not matter to a student that hears its teacher alone."""
    swapped = tmp_path / "swapped"
    shutil.copytree(tones, swapped)
    for word, other in (("yes", "aside"), ("no", "yes"), ("aside", "no")):
        (swapped / word).rename(swapped / other)
    teacher = f"distillation.teachers=[{','.join(2 * [str(finished[0] / 'best.safetensors')])}]"
    accuracies = {}
    for weight in (0, 1):
        run_dir = tmp_path / f"weight-{weight}"
        train(swapped, run_dir, teacher, f"distillation.weight={weight}", f"data.cache_dir={tmp_path}")
        accuracies[weight] = json.loads((run_dir / "result.json").read_text())["validation_accuracy"]
    assert accuracies[0] > 0.7
    assert accuracies[1] < 0.5


def test_a_teacher_of_other_labels_is_refused(tones, finished, tmp_path):
    teacher = f"distillation.teachers=[{finished[0] / 'best.safetensors'}]"
    error = fails(tones, tmp_path / "run", teacher, "data.keywords=['no','yes']")
    assert "choose a teacher that was trained on the same data" in error
    error = fails(tones, tmp_path / "run", "distillation.teachers=[none.safetensors]")
    assert "none.safetensors, which does not exist" in error


def test_a_run_can_start_from_another(tones, finished, tmp_path):
    """With a learning rate of nothing, the weights stay those of the checkpoint."""
    best = finished[0] / "best.safetensors"
    options = ("trainer.epochs=1", "trainer.learning_rate=1e-12", f"init_from={best}")
    train(tones, tmp_path / "run", *options)
    before, after = load_file(best), load_file(tmp_path / "run" / "best.safetensors")
    for name in ("model.classifier.head.weight", "model.normalize.mean"):
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)


def test_starting_from_another_shape_is_refused(tones, finished, tmp_path):
    best = finished[0] / "best.safetensors"
    error = fails(tones, tmp_path / "run", "model.hidden_size=20", f"init_from={best}")
    assert "has another model than this run" in error


def test_a_loss_that_is_not_finite_stops_the_run(tones, tmp_path):
    error = fails(tones, tmp_path / "run", "trainer.learning_rate=1e30", "trainer.gradient_clip=0")
    assert re.search(r"the loss is (nan|inf) at step 1 \(learning rate 2\.\d\de\+29, gradient norm (nan|inf)\)", error)


def test_a_sweep_ends_with_a_table(tones, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = train(tones, "''", "model.hidden_size=8,12", "trainer.epochs=1", "--multirun")
    table = printed[printed.index("overrides") :]
    assert "model.hidden_size=8" in table
    assert "model.hidden_size=12" in table
    (sweep,) = tmp_path.glob("multirun/*/*/sweep.csv")
    assert len(list(csv.DictReader(sweep.open()))) == 2


def test_early_stopping(tones, tmp_path):
    stopped = ("trainer.epochs=30", "trainer.early_stopping_epochs=1", "trainer.learning_rate=1e-9")
    assert "stopping early" in train(tones, tmp_path / "run", *stopped)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.hidden=3", "Key 'hidden' not in 'RecurrentConfig'"),
        ("model.hidden_size=many", "'many' of type 'str' could not be converted to Integer"),
        ("frontend.hop_ms=30", "frontend.hop_ms 30.0 is longer than frontend.win_ms 25.0"),
        ("frontend.f_max=9000", "above the Nyquist frequency"),
        ("frontend.n_mels=400", "n_mels is 400"),
        ("model=huge", "Could not find 'model/huge'"),
        ("trainer.epochs=0", "trainer.epochs is 0"),
        ("data.keywords=[xylophone]", "'xylophone'"),
        ("trainer.batch_size=100000", "trainer.batch_size is 100000"),
        ("data.clip_ms=990", "data.clip_ms 990"),
    ],
)
def test_bad_values_end_in_one_sentence(tones, tmp_path, override, message):
    assert message in fails(tones, tmp_path / "run", override)
    assert not list(tmp_path.glob("run/*.safetensors"))


def test_schedule_warms_up_then_falls_to_zero():
    config = TrainerConfig(epochs=10, warmup_epochs=1, learning_rate=0.1)
    rates = [learning_rate(config, step, 20) for step in range(200)]
    assert rates[:20] == pytest.approx([0.1 * (i + 1) / 20 for i in range(20)])
    assert rates[110] == pytest.approx(0.05)
    assert rates[-1] < 1e-4
    assert all(a >= b for a, b in pairwise(rates[20:]))
