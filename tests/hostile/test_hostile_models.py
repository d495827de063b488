"""Model files of strangers: every command that reads one refuses a bad one in a sentence that names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import Case, check
from tiny_onnx import write_tiny

READERS = ("info", "spot", "listen", "web", "scan", "serve", "calibrate", "export")


def tiny(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: write_tiny(folder / "m.onnx", **changes)


def cases() -> list[Case]:
    contract = json.loads((Path(__file__).parents[1] / "contract.json").read_text())
    found = []
    for number, (changes, says) in enumerate(contract["bad"]):
        changes = {key: None if value == "(removed)" else value for key, value in changes.items()}
        found.append(Case(f"contract-{number}", "info {}/m.onnx", says, tiny(**changes)))
    return found


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_models(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)
