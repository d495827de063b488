"""docs/cli.md is what the parsers say, and a shell that completes `kws` knows its commands and options."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from kws import cli

REPO = Path(__file__).parent.parent


def test_the_page_of_commands_is_what_the_parsers_say():
    spec = importlib.util.spec_from_file_location("make_cli_docs", REPO / "scripts" / "make_cli_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.document()
    shown = (REPO / "docs" / "cli.md").read_text(encoding="utf-8")
    assert shown == text, "options have changed: run python scripts/make_cli_docs.py"
    for name in cli.COMMANDS:
        assert f"\n## kws {name}\n" in text
    assert "| `--fa-per-hour X` |" in text
    assert "| `trainer.learning_rate` |" in text
    assert str(REPO) not in text


def completed(script, *words):
    """What bash offers for the last of `words`."""
    line = " ".join(f"'{word}'" for word in words)
    ask = f'source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMP_LINE="{" ".join(words)}"'
    function = "$(complete -p kws | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
    code = f'{ask}; COMP_POINT=${{#COMP_LINE}}; {function} kws "{words[-1]}"; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_bash_completes_commands_and_options(tmp_path, capsys):
    pytest.importorskip("shtab")
    if not shutil.which("bash"):
        pytest.skip("bash is not installed")
    assert cli.main(["completion", "bash"]) == 0
    script = tmp_path / "kws"
    script.write_text(capsys.readouterr().out)
    assert {"serve", "spot", "scan"} <= set(completed(script, "kws", "s"))
    assert set(completed(script, "kws", "")) >= set(cli.COMMANDS)
    assert completed(script, "kws", "serve", "--zero") == ["--zeroconf"]
    assert completed(script, "kws", "completion", "b") == ["bash"]
