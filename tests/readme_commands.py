"""The commands of README.md and the quick starts, lines that begin with `$ ` in console blocks, and their outputs."""

import re
from pathlib import Path

REPO = Path(__file__).parent.parent
PAGES = ("README.md", "docs/embedded.md", "docs/ml.md", "docs/maker.md")  # in an order in which their commands can run
LABELS = "_silence_|_unknown_|yes|no|stop|go|left|right|house|seven|happy|tree|bird|wow"  # of the demo


def blocks(language):
    """The pages' fenced blocks of a language."""
    text = "\n".join((REPO / page).read_text(encoding="utf-8") for page in PAGES)
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def readme_commands():
    """Every command, in order -> the lines of output shown below it."""
    shown, command = {}, ""
    for line in "\n".join(blocks("console")).splitlines():
        if line.startswith("$ "):
            shown.setdefault(command := re.sub(r"\s+", " ", line[2:]).strip(), [])
        elif line:
            shown[command].append(line)
    return shown


def shape(line):
    """A line without what differs from one model to the next: numbers, words of the data set, lists of options."""
    line = re.sub(rf"(?<!\w)({LABELS})(?!\w)", "WORD", line)
    line = re.sub(r"(?<!\S)\S+=\S+( +\S+=\S+)*", "OPTIONS", line)
    line = re.sub(r"[-+]?\d([\d.,/-]*\d)?%?", "0", line)
    line = re.sub(r"0(, 0)+", "0", line)
    line = re.sub(r"(above|below) 0|0 to 0", "RANGE", line)
    return " ".join(line.split())


def unlike(shown, output):
    """The lines shown that `output` has nothing of the shape of, and, unless a line `...` is shown, the reverse."""
    real, expected = map(shape, output.splitlines()), [shape(line) for line in shown]
    real = {line for line in real if line}
    stale = [line for line in expected if line not in (*real, "", "...") and not is_start(line, real)]
    if "..." in expected:
        return stale
    return stale + [line for line in real if line not in expected and not any(is_start(e, [line]) for e in expected)]


def is_start(line, others):
    """Whether a line that ends with `...` goes on as one of `others`."""
    return line.endswith("...") and any(other.startswith(line[:-3].rstrip(" ,")) for other in others)
