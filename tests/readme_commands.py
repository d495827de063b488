"""The commands of README.md: lines that begin with `$ ` in its console blocks."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def readme_commands():
    """Every command, in order, its continuation lines joined."""
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    return [re.sub(r"\s+", " ", line[2:]).strip() for line in text.splitlines() if line.startswith("$ ")]
