"""What several test files need and is slow to get: real speech, exported models."""

import copy
import functools
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

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


@pytest.fixture(scope="session", autouse=True)
def traced_once():
    """What costs seconds in every export is done once: a trace of the same weights, torch's table of its operators."""
    if "kws.onnx_export.onnx_file" not in sys.modules:
        yield  # no test of an export was collected
        return
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    from kws.onnx_export import onnx_file, operations
    from kws.onnx_export.trace import trace

    made = {}

    def kept(spotter, variant, hops, batch_size):
        weights = [(name, value.numpy().tobytes()) for name, value in spotter.state_dict().items()]
        key = (str(spotter), str(spotter.frontend_config), str(spotter.model_config), variant, hops, batch_size)
        key = (*key, hash(tuple(weights)))
        if key not in made:
            made[key] = trace(spotter, variant, hops, batch_size)
        return copy.deepcopy(made[key])

    table = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
    with (
        mock.patch.object(onnx_file, "trace", kept),
        mock.patch.object(operations, "trace", kept),
        mock.patch.object(ONNXRegistry, "from_torchlib", table),
    ):
        yield


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
