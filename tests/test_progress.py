"""Progress: one line a stage through a pipe, a bar on a terminal, nothing of a stage that fails."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

WORK = """
import sys
from kws.system.progress import Stage
with Stage("decoding", 20020) as stage:
    for _ in range(2002):
        stage.advance(10, "loss=1")
with Stage("one", None, "file", line=False) as stage:
    stage.advance()
with Stage("hidden", 3, show=False) as stage:
    stage.advance()
if "fail" in sys.argv:
    with Stage("failing", 3) as stage:
        raise SystemExit(3)
with Stage("unpacking", None, "file") as stage:
    stage.advance()
"""


def test_a_pipe_gets_one_line_for_each_stage():
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"decoding: 20,020 clips in \d+ s\nunpacking: 1 file in \d+ s\n", done.stderr)
    assert done.stdout == ""


def test_a_pipe_needs_no_tqdm():
    block = "import sys; sys.modules['tqdm'] = None\n"
    done = subprocess.run([sys.executable, "-c", block + WORK], capture_output=True, text=True, check=True)
    assert done.stderr.count("\n") == 2


def test_a_stage_that_fails_claims_nothing():
    done = subprocess.run([sys.executable, "-c", WORK, "fail"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert re.fullmatch(r"decoding: [^\n]*\n", done.stderr)


def test_a_terminal_gets_a_bar_and_the_line():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", WORK], stderr=theirs)
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    text = written.decode()
    assert re.search(r"decoding: +\d+%\|", text)
    assert re.search(r"decoding: 20,020 clips in \d+ s\r?\n", text)
    assert "hidden" not in text
