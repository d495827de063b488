"""The documentation: every link leads somewhere, every command in it is one that kws takes, the site is whole."""

import contextlib
import importlib.util
import io
import re
import shlex
from pathlib import Path

import pytest

from kws import cli
from kws.completion import COMPOSED, parser_of

REPO = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("make_docs", REPO / "scripts" / "make_docs.py")
make_docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_docs)
PAGES = [path for path in make_docs.pages() if path.suffix == ".md"]


def anchors(page):
    """The anchors of a page's headings, as they are made of their text."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for written, target, anchor in make_docs.links(page):
        assert target.exists(), f"{page.name} links to {written}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name} links to {written}"


def test_every_page_is_in_the_navigation():
    navigation = (REPO / "zensical.toml").read_text(encoding="utf-8")
    named = set(re.findall(r'= "([\w.-]+\.md)"', navigation))
    assert named == {name for path, name in make_docs.pages().items() if path.suffix == ".md"}


def commands(page):
    """The calls of kws in a page's blocks of code, without their comments, pipes and what fills a gap."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:console|sh|bash)\n(.*?)```", text, re.DOTALL) + re.findall(
        r"(?:^    \S.*\n)+", text, re.MULTILINE
    )
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        line = re.sub(r"\s#\s.*", "", line.strip().removeprefix("$ "))
        if line.startswith("kws ") and "..." not in line and "[OPTION" not in line:
            yield re.split(r" [|>&] |;", line)[0]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_commands_are_what_kws_takes(page):
    for command in commands(page):
        _, name, *arguments = shlex.split(command)
        if name.startswith("-") or set(arguments) & {"--help", "--list-devices"}:
            continue
        assert name in cli.COMMANDS, command
        if name in COMPOSED:
            assert all("=" in each or each in ("-m", "--cfg", "job") for each in arguments), command
            continue
        refused = io.StringIO()
        parser = parser_of(name)
        intermixed = parser.parse_intermixed_args if name in ("calibrate", "evaluate-stream") else parser.parse_args
        with contextlib.redirect_stderr(refused), contextlib.suppress(SystemExit):
            intermixed(arguments)
        assert not refused.getvalue(), f"{page.name}: {command}\n{refused.getvalue()}"


def test_links_move_with_the_pages():
    names = make_docs.pages()
    text = make_docs.moved(REPO / "README.md", names)
    assert "](ml.md)" in text
    assert "](docs/" not in text
    assert "![The page of kws web while it listens](web-wide-light.png)" in text
    assert "](../" not in "".join(make_docs.moved(page, names) for page in PAGES)


def test_the_readme_is_two_screens():
    assert len((REPO / "README.md").read_text(encoding="utf-8").splitlines()) <= 80
