"""Real speech for the tests that need it: found by KWS_SPEECH_COMMANDS, or unpacked once per machine from ../shared."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
CACHE = Path.home() / ".cache" / "kws-tests" / "speech-commands-recorded"


@pytest.fixture(scope="session")
def speech_commands_root():
    """A folder with `SpeechCommands/speech_commands_v0.02`, or one that data.root takes as well."""
    if given := os.environ.get("KWS_SPEECH_COMMANDS"):
        return Path(given)
    unpacked = CACHE / "SpeechCommands" / "speech_commands_v0.02"
    script = SHARED / "bin" / "unpack_speech_commands.py"
    if not unpacked.is_dir():
        if not script.is_file():
            pytest.skip(f"no real speech: KWS_SPEECH_COMMANDS is not set and {script} is not there")
        subprocess.run([sys.executable, script, CACHE, "--recorded-only"], check=False, stdout=subprocess.DEVNULL)
        if not unpacked.is_dir():
            pytest.skip(f"no real speech: {script} failed")
    return CACHE
