"""Build the documentation site into site/: the pages of docs/ and of the repository's top, by Zensical.

    python scripts/make_docs.py

The pages are gathered in one folder, `build/docs`, and their links with them: a link to another page stays one, a link
to a file that is no page (a script, a test) becomes its name.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
GATHERED = REPO / "build" / "docs"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def pages() -> dict[Path, str]:
    """Every file of the site and the name that it has there."""
    top = {REPO / "README.md": "index.md", REPO / "kws" / "models" / "MODEL_CARD.md": "MODEL_CARD.md"}
    top |= {REPO / name: name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")}
    files = [path for path in sorted((REPO / "docs").iterdir()) if path.suffix in (".md", ".png", ".csv", ".svg")]
    return {**top, **{path: path.name for path in files}}


def links(page: Path) -> list[tuple[str, Path, str]]:
    """The links of a page within the repository: as written, the file, the anchor without its #."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = []
    for _, _, target, anchor in LINK.findall(text):
        if not re.match(r"[a-z]+:", target):
            found.append((target + anchor, (page.parent / target).resolve() if target else page, anchor[1:]))
    return found


def moved(page: Path, names: dict[Path, str]) -> str:
    """The text of a page, its links as they are in the gathered folder."""

    def link(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups(default="")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        name = names.get((page.parent / target).resolve())
        return f"{image}[{text}]({name}{anchor})" if name else text

    return LINK.sub(link, page.read_text(encoding="utf-8"))


def main() -> int:
    """Gather and build: the exit status of Zensical."""
    names = pages()
    shutil.rmtree(GATHERED, ignore_errors=True)
    GATHERED.mkdir(parents=True)
    for path, name in names.items():
        if path.suffix == ".md":
            (GATHERED / name).write_text(moved(path, names), encoding="utf-8")
        else:
            shutil.copyfile(path, GATHERED / name)
    return subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=REPO).returncode


if __name__ == "__main__":
    sys.exit(main())
