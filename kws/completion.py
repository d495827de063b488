"""`kws completion SHELL`: what makes a shell complete `kws`; and the parser of every command, for docs/cli.md."""

from __future__ import annotations

from kws import cli

if __name__ == "__main__":  # `kws completion`, before imports that may be missing
    cli.door("completion")

import argparse
import importlib
from collections.abc import Sequence
from contextlib import suppress
from unittest import mock

import shtab

from kws.cli import COMMANDS
from kws.errors import KwsError

COMPOSED = ("train", "evaluate", "make-stream")  # take OPTION=VALUE, by Hydra
WHERE = """Put it where the shell looks:
  bash: kws completion bash > ~/.local/share/bash-completion/completions/kws
  zsh:  kws completion zsh > DIR/_kws, in a DIR of $fpath
  tcsh: kws completion tcsh > /etc/profile.d/kws.completion.csh"""
FILES = ("FILE", "ONNX", "MODEL", "AUDIO", "CHECKPOINT", "WAV")
FOLDERS = ("DIR", "RECORDINGS")


class _Found(Exception):
    """A parser, on its way out of the command that made it."""


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser with which a command reads its arguments.

    The command is begun, and halted where it would read them. Raises `ModuleNotFoundError` where an extra is missing,
    `KwsError` for a command of options that Hydra composes.
    """

    def halt(parser: argparse.ArgumentParser, *_: object) -> None:
        raise _Found(parser)

    if name in COMPOSED:
        raise KwsError(f"kws {name} has no flags: its options are OPTION=VALUE, shown by kws {name} --cfg job")
    module = importlib.import_module(COMMANDS[name].module)
    ours = argparse.ArgumentParser
    with (
        mock.patch.object(ours, "parse_args", halt),
        mock.patch.object(ours, "parse_intermixed_args", halt),
    ):
        try:
            module.main([])
        except _Found as found:
            return found.args[0]  # type: ignore[no-any-return]
    raise AssertionError(f"kws {name} reads its arguments in another way")


def whole_parser() -> argparse.ArgumentParser:
    """`kws` with its commands; one whose extra is not installed, or that Hydra composes, has its name alone."""
    parser = argparse.ArgumentParser(prog="kws", description="keyword spotting")
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, command in COMMANDS.items():
        own = None
        if name not in COMPOSED:
            with suppress(ModuleNotFoundError):
                own = parser_of(name)
        made = commands.add_parser(name, help=command.summary, parents=[own] if own else [], add_help=own is None)
        for action in made._actions:
            metavar = action.metavar if isinstance(action.metavar, str) else ""
            if metavar in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif metavar in FOLDERS:
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `kws completion`: the exit status."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="kws completion", description=__doc__, epilog=WHERE, formatter_class=form)
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="for which shell")
    options = parser.parse_args(arguments)
    print(shtab.complete(whole_parser(), options.shell))
    return 0
