"""Lists of words and phrases that come with the package: text files of `[name]`, an entry a line, `#` for comments."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def read_lists(package: str, file: str) -> dict[str, tuple[str, ...]]:
    """The lists of a text file in a package, by name, in the order of the file."""
    lists: dict[str, list[str]] = {}
    for line in resources.files(package).joinpath(file).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            entries = lists.setdefault(line[1:-1], [])
        elif line and not line.startswith("#"):
            entries.append(line)
    return {name: tuple(entries) for name, entries in lists.items()}
