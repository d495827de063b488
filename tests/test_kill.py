"""SIGKILL at a random moment: the next run ends as one that was never killed, and nothing is left (`make kill`: 50)."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="partials of the dead are looked for on POSIX alone")


def test_packing_survives_a_kill(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("kill", Path(__file__).parents[1] / "scripts" / "kill.py")
    kill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kill)
    kill.prepare(tmp_path)
    assert kill.kill("pack", 3, np.random.default_rng(1), tmp_path) == []
    assert kill.kill("export", 1, np.random.default_rng(1), tmp_path) == []
