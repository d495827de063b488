"""The commands of docs/devices.md, from an installation to a detection on the emulated board, one after the other."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
ON_PATH = """
python() { "$PYTHON" "$@"; }
kws() { "$PYTHON" -m kws.cli "$@"; }
"""


def commands() -> list[str]:
    block = re.search(r"```console\n(.*?)```", (REPO / "docs" / "devices.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    return [command.strip() for command in re.split(r"^\$ ", block[1], flags=re.MULTILINE) if command.strip()]


def test_there_are_at_most_ten():
    assert 5 < len(commands()) <= 10


@pytest.mark.timeout(900)
def test_from_an_installation_to_a_detection_on_the_board(tmp_path):
    pytest.importorskip("espeakng_loader")
    for tool in ("make", "gcc", "arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    printed = []
    for command in commands():
        if command.startswith("pip "):  # what it installs is tried by tests/test_wheel.py
            options = ["--dry-run", "--quiet", "--no-deps", "--no-build-isolation"]
            done = subprocess.run([sys.executable, "-m", *shlex.split(command), *options], cwd=REPO, check=False)
            assert done.returncode == 0
        elif command.startswith("apt-get "):  # done by .ci/run before the tests
            assert set(command.split()[3:]) - {"make"} <= set(
                (REPO / ".ci" / "run").read_text().replace('"', " ").split()
            )
        else:
            environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(REPO)}
            run = ["bash", "-c", ON_PATH + command]
            done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            printed.append(done.stdout if "run-board" not in command else done.stderr)  # where semihosting prints
    board, host, python = printed[-4], printed[-2], printed[-1]
    start, _, keyword, _ = host.split()
    assert keyword == "yes"
    assert f"yes begins at millisecond {round(1000 * float(start))}\n" in board
    assert "instructions a second of audio" in board
    assert python.split()[3] == "yes"
