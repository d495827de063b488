"""What several test files need and is slow to get: real speech, exported models."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
CACHE = Path.home() / ".cache" / "kws-tests" / "speech-commands-recorded"


@pytest.fixture(scope="session")
def speech_commands_root():
    """A folder with `SpeechCommands/speech_commands_v0.02`, or one that data.root takes as well.

    Found by KWS_SPEECH_COMMANDS, or unpacked once per machine from ../shared.
    """
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


@pytest.fixture(scope="session")
def exported_shape(tmp_path_factory):
    """The spotter of a shape, by name, and the ONNX file that is made of it once."""

    @functools.cache
    def make(name):
        from shapes import SHAPES, spotter

        from kws.onnx_export.onnx_file import export_onnx

        made, path = spotter(*SHAPES[name]), tmp_path_factory.mktemp("shape") / "model.onnx"
        export_onnx(made, path)
        return made, path

    return make
