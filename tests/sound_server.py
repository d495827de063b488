"""A PulseAudio for tests, with a null sink whose monitor is an ALSA input device: real capture, no sound card."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

ALSA = """
pcm.kws {{ type pulse server "{server}" device "kws.monitor" hint {{ show on description "kws" }} }}
pcm.!default {{ type pulse server "{server}" device "kws.monitor" }}
"""


class SoundServer:
    """Start it, play to it, stop it, start it again. `environment`: for processes that record from it."""

    def __init__(self) -> None:
        """Skips the test where PulseAudio or its ALSA plugin is not installed."""
        for program in ("pulseaudio", "pactl", "paplay"):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed")
        if not any(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
            pytest.skip("ALSA's PulseAudio plugin (libasound2-plugins) is not installed")
        self.folder = Path(tempfile.mkdtemp(prefix="kws-"))  # a socket's path must be short
        server = f"unix:{self.folder}/socket"
        (self.folder / "asound.conf").write_text(ALSA.format(server=server))
        self.environment = {
            **os.environ,
            "HOME": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.folder),
            "PULSE_SERVER": server,
            "ALSA_CONFIG_PATH": f"/usr/share/alsa/alsa.conf:{self.folder}/asound.conf",
        }
        self.start()

    def start(self) -> None:
        (self.folder / "socket").unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                *[
                    "pulseaudio",
                    "-n",
                    "--daemonize=no",
                    "--exit-idle-time=-1",
                    "--use-pid-file=no",
                    "--disable-shm=yes",
                ],
                *("-L", "module-null-sink sink_name=kws rate=44100 channels=2"),
                *("-L", f"module-native-protocol-unix auth-anonymous=1 socket={self.folder}/socket"),
            ],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(100):
            asked = subprocess.run(["pactl", "info"], env=self.environment, capture_output=True)
            if asked.returncode == 0:
                return
            time.sleep(0.1)
        self.stop()
        pytest.skip("PulseAudio does not start here")

    def play(self, file: Path) -> None:
        """Play a file to its end."""
        subprocess.run(["paplay", file], env=self.environment, check=True, timeout=60)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)
