"""Scripts over the page's modules, run by node, with the engine for browsers beside them where it can be had."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kws.apps.web_server import PAGE
from kws.c.build import EngineError, wasm_library


def needs_engine() -> None:
    """Skips the test where there is no engine for browsers."""
    try:
        wasm_library()
    except EngineError as error:
        pytest.skip(str(error))


def node(tmp_path: Path, script: str, given: Any) -> Any:
    """What a script that imports the page's modules gives for `given`, as JSON."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    shutil.copytree(PAGE, tmp_path / "page")
    with suppress(EngineError):
        shutil.copyfile(wasm_library(), tmp_path / "page" / "kws.wasm")
    (tmp_path / "page" / "package.json").write_text('{"type": "module"}')
    (tmp_path / "given.json").write_text(json.dumps(given))
    head = "import fs from 'fs'; const given = JSON.parse(fs.readFileSync(process.argv[2]));\n"
    (tmp_path / "page" / "run.js").write_text(head + script)
    command = ["node", tmp_path / "page" / "run.js", tmp_path / "given.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
