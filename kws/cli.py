"""The `kws` command: finds the subcommand, loads its module only, turns errors into one sentence.

A subcommand is a module with `main(arguments) -> exit status`, and a line in `COMMANDS`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence

from kws import __version__

COMMANDS = {
    "spot": ("kws.apps.spot", "find keywords in audio files or in raw audio on standard input"),
    "info": ("kws.apps.info", "what a model says about itself: labels, sizes, latency, cost, thresholds, data"),
    "listen": ("kws.apps.listen", "hear keywords live, from a microphone or from a file played as one"),
    "record": ("kws.apps.record", "record takes of a word, for a data set of one's own"),
    "web": ("kws.apps.web_server", "hear keywords in the browser: serve the page, or write it to a folder"),
}


def usage() -> str:
    """What `kws --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(["usage: kws COMMAND ...", "", *lines, "", "kws COMMAND --help tells more; kws --version."])


def run(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Exit status of `command(arguments)`; an error that a user can mend becomes one sentence and status 1."""
    try:
        return command(arguments)
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `kws`. Status: 0 done, 1 an error, 2 a wrong call, 130 interrupted."""
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
    return run(importlib.import_module(COMMANDS[name][0]).main, rest)


if __name__ == "__main__":
    sys.exit(main())
