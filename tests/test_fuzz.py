"""A thousand damaged inputs of each kind, from a fixed seed: an error that a user can mend, or none."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from fuzzing import TARGETS, fault, inputs

pytest.importorskip("wyoming")
COUNTS = {"safetensors": 300}  # each makes a model of torch's


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_is_understood_or_refused(name: str, tmp_path: Path) -> None:
    for number, content in enumerate(itertools.islice(inputs(name, seed=0), COUNTS.get(name, 1000))):
        what = fault(name, content, tmp_path)
        assert not what, f"case {number}: {content[:200]!r}\n{what}"
