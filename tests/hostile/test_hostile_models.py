"""Model files of strangers: every command that reads one refuses a bad one in a sentence that names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
from hostile import Case, check
from tiny_onnx import write_tiny

import kws

READERS = {
    "info": "info {}/m.onnx",
    "spot": "spot --model {}/m.onnx {}/x.wav",
    "listen": "listen --model {}/m.onnx --file {}/x.wav",
    "scan": "scan {} --model {}/m.onnx --output out",
    "calibrate": "calibrate {}/m.onnx {}",
    "evaluate-stream": "evaluate-stream {}/m.onnx {}",
    "benchmark": "benchmark {}/m.onnx",
    "web": "web --model {}/m.onnx --export out",
    "export": "export {}/m.onnx --variant c --output out",
}


def written(content: bytes) -> Callable[[Path], object]:
    """A file of these bytes, beside some audio."""

    def make(folder: Path) -> None:
        (folder / "m.onnx").write_bytes(content)
        soundfile.write(folder / "x.wav", np.zeros(16000), 16000)

    return make


def tiny(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: write_tiny(folder / "m.onnx", **changes)


def raw_metadata(text: str) -> Callable[[Path], object]:
    """A good file but for one value of its metadata, which is this text."""

    def make(folder: Path) -> None:
        model = onnx.load(write_tiny(folder / "m.onnx"))
        for entry in model.metadata_props:
            if entry.key == "detector":
                entry.value = text
        onnx.save(model, folder / "m.onnx")

    return make


def cases() -> list[Case]:
    contract = json.loads((Path(__file__).parents[1] / "contract.json").read_text())
    found = []
    for number, (changes, says) in enumerate(contract["bad"]):
        changes = {key: None if value == "(removed)" else value for key, value in changes.items()}
        found.append(Case(f"contract-{number}", "info {}/m.onnx", says, tiny(**changes)))
    whole = (Path(kws.__file__).parent / "models" / "gsc12_tiny.onnx").read_bytes()
    contents = {"empty": b"", "text": b"not a model", "cut": whole[:50_000], "zeros": bytes(5000)}
    found += [
        Case(f"{command}-{name}", arguments, "m.onnx", written(content))
        for command, arguments in READERS.items()
        for name, content in contents.items()
    ]
    for name, text in {"deep": "[" * 200_000, "cut": '{"a":', "number": "1e999", "nan": "NaN", "list": "[]"}.items():
        found.append(Case(f"json-{name}", "info {}/m.onnx", "detector", raw_metadata(text)))
    return found


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_models(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)
