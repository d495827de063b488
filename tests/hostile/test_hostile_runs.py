"""Runs that cannot go well: checkpoints of strangers, options that no machine can hold, disks that fill up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hostile import Case, check
from safetensors.numpy import save_file
from tiny_onnx import SAMPLE_RATE, say, write_tiny

from kws.config import FrontendConfig, RecurrentConfig

HEADER = {
    "kws_format": 1,
    "kws_version": "0",
    "labels": ["_unknown_", "yes"],
    "frontend": asdict(FrontendConfig()),
    "model": RecurrentConfig().to_dict(),
    "info": {},
}


def checkpoint(header: Any = None, text: str = "", **changes: Any) -> Callable[[Path], object]:
    """A checkpoint of one tensor, with this header, text in its place, or a good header that is changed."""
    values = {key: value for key, value in {**HEADER, **changes}.items() if value is not None}
    content = text or json.dumps(values if header is None else header)
    weights = {"model.x": np.zeros(1, np.float32)}
    return lambda folder: save_file(weights, folder / "c.safetensors", {"kws": content})


def sized(name: str, header: bytes, length: int) -> Callable[[Path], object]:
    """A safetensors file of which the header says that it is so long."""
    return lambda folder: (folder / name).write_bytes(length.to_bytes(8, "little") + header)


CHECKPOINTS = {
    "list": (checkpoint([1]), "no table"),
    "null": (checkpoint(text="null"), "no table"),
    "deep": (checkpoint(text="[" * 100_000), "nested too deeply"),
    "no-json": (checkpoint(text="{"), "was not written by kws"),
    "no-info": (checkpoint(info=None), "no table info"),
    "info-list": (checkpoint(info=[1]), "no table info"),
    "labels-text": (checkpoint(labels="abcdef"), "labels is 'abcdef'"),
    "labels-path": (checkpoint(labels=["_unknown_", "../x"]), "labels holds '../x'"),
    "labels-none": (checkpoint(labels=None), "labels is None"),
    "frontend-list": (checkpoint(frontend=[]), "no table frontend"),
    "frontend-huge": (checkpoint(frontend={**HEADER["frontend"], "n_fft": 10**9}), "frontend.n_fft is 1000000000"),
    "frontend-text": (checkpoint(frontend={**HEADER["frontend"], "n_fft": "x"}), "do not fit together"),
    "model-huge": (checkpoint(model={**HEADER["model"], "hidden_size": 10**9}), "model.hidden_size is 1000000000"),
    "model-large": (checkpoint(model={**HEADER["model"], "hidden_size": 4096, "num_layers": 16}), "parameters"),
    "model-unknown": (checkpoint(model={"architecture": "x"}), "model.architecture is 'x'"),
    "weights": (checkpoint(), "do not fit together"),
    "format": (checkpoint(kws_format=9), "format 9"),
    "empty": (lambda folder: (folder / "c.safetensors").write_bytes(b""), "not a safetensors file"),
    "long-header": (sized("c.safetensors", b"{}", 1 << 62), "not a safetensors file"),
    "short-header": (sized("c.safetensors", b"{}", 1), "not a safetensors file"),
    "folder": (lambda folder: (folder / "c.safetensors").mkdir(), "does not exist"),
}
OPTIONS = {
    "model.hidden_size=1000000000": "model.hidden_size is 1000000000; it must be between 1 and 4096",
    "model.conv_kernel=1001": "model.conv_kernel is 1001",
    "frontend.n_fft=1000000000": "frontend.n_fft is 1000000000",
    "trainer.learning_rate=nan": "trainer.learning_rate is nan",
    "trainer.batch_size=1e12": "trainer.batch_size",
    "trainer.threads=-1": "trainer.threads is -1",
    "seed=-1": "seed is -1",
    "data.seed=-1": "data.seed is -1",
    "augment.snr_db_max=nan": "augment.snr_db_max is nan",
    "trainer.accelerator=mps": "trainer.accelerator is mps",
    "init_from=none.safetensors": "init_from is none.safetensors, which does not exist",
    "distillation.teachers=[none.safetensors]": "distillation.teachers is none.safetensors",
    "augment.noise_dir=none": "augment.noise_dir is none",
    "run_dir=a=b": "quote",
    "model.nothing=1": "nothing",
}


def speaks(folder: Path) -> None:
    """A model that hears a word in a recording."""
    write_tiny(folder / "m.onnx", detector={"pooling": "sum", "smoothing_ms": 400.0, "threshold": 0.5})
    soundfile.write(folder / "x.wav", say("yn"), SAMPLE_RATE)


def take(folder: Path) -> None:
    soundfile.write(folder / "x.wav", np.pad(0.5 * np.sin(np.arange(8000)), 12000), SAMPLE_RATE)


def silence(*words: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        for word in words:
            (folder / word).mkdir()
            for i in range(12):
                soundfile.write(folder / word / f"{i}.wav", np.zeros(16000), SAMPLE_RATE)

    return make


FULL, FOLDER = "no space is left for", "data=folder data.label_set=all data.root={}"
DISKS = [
    Case("save", "listen --model {}/m.onnx --file {}/x.wav --fast --save d", FULL, speaks, disk=3000),
    Case("record", "record yes --file {}/x.wav --takes 1 --countdown 0 --folder d", FULL, take, disk=3000),
    Case("web", "web --model gsc12_tiny --export d", FULL, disk=3000),
    Case("export", "export gsc12_tiny --variant c --output d", FULL, disk=3000),
    Case("scan", "scan {} --model {}/m.onnx --output {}/../d --workers 1", FULL, speaks, disk=300),
    Case("train", f"train {FOLDER} data.cache_dir=c", FULL, silence("a", "b"), disk=30_000),
]  # fmt: skip


def cases() -> list[Case]:
    found = [
        Case(f"checkpoint-{name}", "export {}/c.safetensors", says, make) for name, (make, says) in CHECKPOINTS.items()
    ]
    found += [Case(f"train-{given}", f"train {given}", says) for given, says in OPTIONS.items()]
    found.append(Case("one-class", f"train {FOLDER}", "holds one word", silence("yes")))
    found.append(Case("silent", f"train {FOLDER} data.cache_dir={{}}/../c", "holds only silence", silence("a", "b")))
    return found + DISKS


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_runs(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)
