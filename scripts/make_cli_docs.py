"""Write docs/cli.md, every command and option, from the parsers and the dataclasses of options.

python scripts/make_cli_docs.py            # tests/test_cli_docs.py says when it must be run
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import re
import textwrap
from pathlib import Path

from kws.cli import COMMANDS
from kws.completion import COMPOSED, parser_of

TARGET = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
OPTIONS = {
    "train": ("kws.config", "TrainConfig"),
    "evaluate": ("kws.evaluate", "EvaluateConfig"),
    "make-stream": ("kws.recordings.config", "MakeStreamConfig"),
}
HEAD = """# Commands

Made from the parsers by `python scripts/make_cli_docs.py`; a test keeps it so. `python -m kws.X` is `kws X` for those
that make and measure models. Exit status: 0 done, 1 an error (one sentence says which, and what to do), 2 a wrong call,
130 interrupted; `KWS_DEBUG=1` in the environment shows the traceback of an error.
"""
COMPOSED_TEXT = "Options are `OPTION=VALUE`, composed by Hydra; `kws {} --cfg job` shows them all with their values."


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def table(rows: list[tuple[str, str]]) -> list[str]:
    return ["| option | what |", "|---|---|", *(f"| {name} | {cell(text)} |" for name, text in rows), ""]


def of_parser(name: str) -> list[str]:
    """A command's arguments, apart from the form in which this version of Python would print them."""
    parser = parser_of(name)
    formatter = argparse.HelpFormatter(parser.prog)
    usage, rows = [f"kws {name}"], []
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or action.dest == "help":
            continue
        text = formatter._expand_help(action) if action.help else ""
        if action.choices is not None:
            text += f" ({', '.join(map(str, action.choices))})"
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        if action.option_strings:
            value = "" if action.nargs == 0 else f" [{metavar}]" if action.nargs == "?" else f" {metavar}"
            rows.append((f"`{action.option_strings[-1]}{value}`", text))
        else:
            forms = {"+": f"{metavar} ...", "*": f"[{metavar} ...]", "?": f"[{metavar}]"}
            usage.append(forms.get(str(action.nargs), metavar))
            rows.append((f"`{metavar}`", text))
    epilog = parser.epilog or ""
    shown = ["```text", *epilog.splitlines(), "```"] if "\n" in epilog else textwrap.wrap(epilog, 119)
    return [f"    {' '.join([*usage, '[OPTION ...]'])}", "", *table(rows), *shown, ""]


def fields(node: type, prefix: str = "") -> list[tuple[str, str]]:
    """The fields of a dataclass with the comments beside them; those of dataclasses within it after them."""
    own, within = [], []
    source = inspect.getsource(node)
    types = inspect.get_annotations(node, eval_str=True)
    for field in dataclasses.fields(node):
        line = re.search(rf"^    {field.name}: .*$", source, re.MULTILINE)
        comment = line[0].partition("  # ")[2] if line else ""
        if dataclasses.is_dataclass(types.get(field.name)):
            within += fields(types[field.name], f"{prefix}{field.name}.")
        elif line:
            default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
            shown = {"": "empty", "???": "must be given"}.get(str(default), f"{default}")
            own.append((f"`{prefix}{field.name}`", f"{comment} (default: {shown})".strip()))
    return own + within


def document() -> str:
    """The whole page."""
    lines = [HEAD, "| command | what | extra |", "|---|---|---|"]
    for name, command in COMMANDS.items():
        lines.append(
            f"| [`kws {name}`](#kws-{name}) | {cell(command.summary)} | {command.extra and f'`{command.extra}`'} |"
        )
    for name, command in COMMANDS.items():
        lines += ["", f"## kws {name}", "", f"{command.summary[:1].upper()}{command.summary[1:]}.", ""]
        if name in COMPOSED:
            module, node = OPTIONS[name]
            lines += [COMPOSED_TEXT.format(name), ""]
            lines += table(fields(getattr(importlib.import_module(module), node)))
        else:
            lines += of_parser(name)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
    print(TARGET)
