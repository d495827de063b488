"""The `kws` command: finds the subcommand, loads its module only, turns errors that a user can mend into one sentence.

A subcommand is a module with `main(arguments) -> exit status`, and a line in `COMMANDS`. The doors among them
(`kws.train`, `kws.evaluate`, ...) run as `python -m` too, which is the same: they come here before their imports.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

from kws import __version__
from kws.errors import KwsError

DEBUG = "KWS_DEBUG"  # set to 1 in the environment: the traceback of every error


class Command(NamedTuple):
    """One subcommand: its module, the extra of pyproject.toml that it needs (or none), and what it does.

    `late`: packages of the extra that its module imports only when they are used, looked for before any work is done.
    """

    module: str
    extra: str
    summary: str
    late: tuple[str, ...] = ()


COMMANDS = {  # in the order of use
    "record": Command("kws.apps.record", "", "record takes of a word, for a data set of one's own"),
    "new": Command("kws.new", "words", "make a spotter for one's own words, from text or with a few takes"),
    "train": Command("kws.train", "train", "train on Speech Commands, synthetic speech or one's own recordings"),
    "evaluate": Command("kws.evaluate", "train", "accuracy on clips, of a checkpoint or an ONNX file; where it errs"),
    "export": Command("kws.export", "train", "make a checkpoint an ONNX file that describes itself, or C for firmware"),
    "make-stream": Command("kws.make_stream", "train", "make hours of audio with known words, to measure or train on"),
    "calibrate": Command(
        "kws.calibrate", "measure", "choose a model's thresholds for so many false alarms an hour", ("onnx", "scipy")
    ),
    "evaluate-stream": Command(
        "kws.evaluate_stream", "measure", "misses, false alarms and delay over hours of audio", ("scipy", "matplotlib")
    ),
    "info": Command("kws.apps.info", "", "what a model says of itself: labels, sizes, latency, cost, thresholds, data"),
    "benchmark": Command("kws.benchmark", "measure", "what models cost at run time, beside peers"),
    "spot": Command("kws.apps.spot", "", "find keywords in audio files or in raw audio on standard input"),
    "scan": Command("kws.apps.scan", "", "find keywords in an archive of audio, on all cores; stopped, it goes on"),
    "listen": Command("kws.apps.listen", "", "hear keywords live, from a microphone or from a file played as one"),
    "serve": Command("kws.apps.wake.serve", "serve", "hear keywords for Home Assistant: a Wyoming wake-word service"),
    "web": Command("kws.apps.web_server", "", "hear keywords in the browser: serve the page, or write it to a folder"),
    "doctor": Command("kws.apps.doctor", "", "whether kws works on this machine; trouble and its remedy"),
    "completion": Command("kws.completion", "completion", "make bash, zsh or tcsh complete kws"),
}


def usage() -> str:
    """What `kws --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    end = f"kws COMMAND --help tells more; kws --version. {DEBUG}=1 in the environment: the traceback of an error."
    return "\n".join(["usage: kws COMMAND ...", "", *lines, "", end])


def run(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Exit status of `command(arguments)`; an error that a user can mend becomes one sentence and status 1.

    SIGTERM ends it as Ctrl-C does.
    """
    try:
        with _terminable():
            status = command(arguments)
            sys.stdout.flush()
            return status
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as interrupt:
        print("\ninterrupted", file=sys.stderr)
        return 143 if isinstance(interrupt, _Terminated) else 130
    except (KwsError, OSError) as error:
        if os.environ.get(DEBUG) == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # nothing more can be written there
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


class _Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Within it, SIGTERM raises what Ctrl-C does, unless somebody else handles it."""

    def terminate(number: int, frame: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what is half-written is being removed
        raise _Terminated

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _call(name: str, arguments: Sequence[str]) -> int:
    """Load a subcommand and call it. Raises `KwsError` for a package that it needs and that is not installed."""
    module, extra, _, late = COMMANDS[name]

    def lacking(package: str) -> KwsError:
        return KwsError(f"kws {name} needs {package}, which is not installed; pip install 'kws[{extra}]'")

    if missing := [package for package in late if importlib.util.find_spec(package) is None]:
        raise lacking(missing[0])
    try:
        return int(importlib.import_module(module).main(arguments))
    except ModuleNotFoundError as error:
        if not extra or not error.name or error.name.split(".")[0] == "kws":
            raise
        raise lacking(error.name) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `kws`. Status: 0 done, 1 an error, 2 a wrong call, 130 interrupted, 143 ended by SIGTERM."""
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"kws {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"error: kws has no command {name!r}; it has {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return run(functools.partial(_call, name), rest)


def door(name: str) -> NoReturn:
    """`python -m kws.X`: the subcommand `name` with the arguments of this process."""
    sys.exit(main([name, *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
