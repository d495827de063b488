"""What a detection sets off beside its line on the screen: a second of audio kept, a command run."""

from __future__ import annotations

import datetime
import itertools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kws.audio.files import write_audio
from kws.errors import KwsError
from kws.runtime.detector import Detection
from kws.system.arrays import Float32

BEFORE_SECONDS, AFTER_SECONDS = 0.8, 0.2  # around the end of the evidence: the second that is kept
HISTORY_SECONDS = 5.0  # more than a detection may be held back


class ClipSaver:
    """Writes the audio around each detection to `folder/KEYWORD/<time>_<score>.wav`, 16-bit: a data set of its own."""

    def __init__(self, folder: str | Path, sample_rate: int, before: float = BEFORE_SECONDS) -> None:
        """before: seconds that are kept ahead of the end of the evidence. Raises `OSError` if `folder` cannot be made.

        What is no part of a file's name is a `_` in that of a keyword's folder.
        """
        self.folder, self._rate, self._before = Path(folder), sample_rate, before
        self.folder.mkdir(parents=True, exist_ok=True)
        self._history: Float32 = np.zeros(0, np.float32)
        self._heard = 0  # samples of the stream
        self._due: list[tuple[int, Detection]] = []  # last sample, detection

    def add(self, samples: Float32, found: Sequence[Detection]) -> None:
        """The next samples of the stream, and what was detected with them."""
        self._history = np.concatenate([self._history, samples])
        self._heard += len(samples)
        self._due += [(round((each.end + AFTER_SECONDS) * self._rate), each) for each in found]
        for end, detection in [due for due in self._due if due[0] <= self._heard]:
            self._write(end, detection)
        self._due = [due for due in self._due if due[0] > self._heard]
        self._history = self._history[-round(HISTORY_SECONDS * self._rate) :]

    def flush(self) -> None:
        """End the stream: silence fills what is still missing."""
        if self._due:
            self.add(np.zeros(max(end for end, _ in self._due) - self._heard, np.float32), ())

    def _write(self, end: int, detection: Detection) -> None:
        first = end - round((self._before + AFTER_SECONDS) * self._rate)
        origin = self._heard - len(self._history)
        clip = self._history[max(0, first - origin) : end - origin]
        clip = np.pad(clip, (end - first - len(clip), 0))
        folder = self.folder / re.sub(r'[<>:"/\\|?*]|^[. ]+|[. ]+$', "_", detection.keyword)
        folder.mkdir(exist_ok=True)
        now = datetime.datetime.now().strftime("%Y%m%dT%H%M%S.%f")[:-3]
        name = f"{now}_{detection.score:.2f}"
        names = itertools.chain([name], (f"{name}_{count}" for count in itertools.count(2)))  # another stream's
        path = next(path for each in names if not (path := folder / f"{each}.wav").exists())
        write_audio(path, clip, self._rate)


class Commands:
    """Runs a command for each detection of a keyword: no shell, and nobody waits for it to end.

    It finds the detection in its environment: KWS_KEYWORD, KWS_SCORE, KWS_START, KWS_END, KWS_TIME (seconds).
    """

    def __init__(self, given: Sequence[str], keywords: Sequence[str]) -> None:
        """`given`: `KEYWORD=COMMAND` each. Raises `ValueError` for another form, an unknown keyword or command."""
        self._commands: dict[str, list[list[str]]] = {}
        self._running: list[subprocess.Popen[bytes]] = []
        for text in given:
            keyword, equals, command = text.partition("=")
            try:
                words = shlex.split(command)
            except ValueError as error:
                raise KwsError(f"--on {text} cannot be read ({error}); quote the command as in a shell") from None
            if not equals or not words:
                raise KwsError(f"--on {text} is not KEYWORD=COMMAND, for example yes='notify-send heard yes'")
            if keyword not in keywords:
                raise KwsError(f"--on {text} names {keyword!r}; the model's keywords are {', '.join(keywords)}")
            if shutil.which(words[0]) is None:
                raise KwsError(f"--on {text}: there is no program {words[0]!r}; give its whole path")
            self._commands.setdefault(keyword, []).append(words)

    def run(self, detection: Detection) -> None:
        """Start the commands of a detection. Raises `OSError` if one cannot be started any more."""
        self._running = [process for process in self._running if process.poll() is None]
        told = {f"KWS_{name.upper()}": str(value) for name, value in detection._asdict().items()}
        for words in self._commands.get(detection.keyword, []):
            process = subprocess.Popen(words, env={**os.environ, **told}, stdin=subprocess.DEVNULL)
            self._running.append(process)
