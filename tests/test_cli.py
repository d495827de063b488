"""The `kws` command: its list, the doors that are `python -m` too, errors as sentences, models by name."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_onnx import write_tiny

import kws
from kws import cli
from kws.errors import DataError, DiskFullError, KwsError, ModelError
from kws.runtime import shipped
from kws.streaming import SpotterModel, StreamingSpotter, default_model

PACKAGE = Path(kws.__file__).parent
DOORS = {name: command for name, command in cli.COMMANDS.items() if command.module.count(".") == 1}


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == cli.main([]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert lines == 2 * [[name, command.summary] for name, command in cli.COMMANDS.items()]
    assert [*cli.COMMANDS].index("train") < [*cli.COMMANDS].index("export") < [*cli.COMMANDS].index("spot")
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("kws ")
    assert cli.main(["sing"]) == 2
    assert "kws has no command 'sing'" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")  # they are run a second time here
def test_every_door_is_a_command_by_both_names(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {path.stem for path in PACKAGE.glob("*.py") if "def main(" in path.read_text()} - {"cli", "entry"}
    assert {command.module for command in DOORS.values()} == {f"kws.{stem}" for stem in files}
    for name, command in DOORS.items():
        assert name.replace("-", "_") == command.module.removeprefix("kws.")
        called: list[list[str]] = []
        monkeypatch.setattr(cli, "main", lambda arguments: called.append(arguments) or 7)  # noqa: B023
        monkeypatch.setattr(sys, "argv", ["x", "--some", "option"])
        with pytest.raises(SystemExit) as end:
            runpy.run_module(command.module, run_name="__main__")
        assert (end.value.code, called) == (7, [[name, "--some", "option"]])


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if name not in ("train", "evaluate", "make-stream")])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    assert f"usage: kws {name} " in capsys.readouterr().out


def test_the_list_loads_no_command() -> None:
    code = "import sys; from kws import cli; cli.main(['--help']); print(sorted(m for m in sys.modules if 'kws' in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['kws', 'kws.cli', 'kws.errors']"


def raising(error: Exception) -> int:
    def command(arguments: object) -> int:
        raise error

    return cli.run(command, [])


def test_what_a_user_can_mend_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(cli.DEBUG, raising=False)
    for error in (KwsError("so"), DataError("so"), ModelError("so"), DiskFullError("so"), FileNotFoundError("so")):
        assert raising(error) == 1
        assert capsys.readouterr().err == "error: so\n"
        monkeypatch.setenv(cli.DEBUG, "1")
        with pytest.raises(type(error)):
            raising(error)
        monkeypatch.delenv(cli.DEBUG)


@pytest.mark.parametrize("error", [ValueError("x"), TypeError("x"), KeyError("x"), ImportError("x"), RuntimeError("x")])
def test_a_mistake_of_ours_is_a_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        raising(error)


def test_the_traceback_of_a_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kws.evaluate_stream", "nothing.onnx", "nowhere"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, cli.DEBUG: "1"})
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert "kws.errors.ModelError: nothing.onnx is not a file" in done.stderr


def test_no_module_of_ours_raises_a_bare_value_error() -> None:
    """A bare one would be shown as a traceback."""
    for path in PACKAGE.rglob("*.py"):
        assert "raise ValueError(" not in path.read_text(), path


def test_shipped_models_have_names(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted((PACKAGE / "models").glob("*.onnx"))
    for file in files:
        assert SpotterModel(file.stem).path == shipped.find_model(file.stem) == file
    assert StreamingSpotter().model.path == default_model() == PACKAGE / "models" / "gsc12.onnx"
    assert cli.main(["info", "--json"]) == cli.main(["info", "gsc12_tiny", "--json"]) == 0
    first, second = capsys.readouterr().out.split("}\n{")
    assert [json.loads(text)["parameters"] for text in (first + "}", "{" + second)] == [99956, 29640]
    assert cli.main(["info", "gsc13"]) == 1
    assert capsys.readouterr().err == (
        f"error: gsc13 is not a file, and no model that comes with kws ({', '.join(file.stem for file in files)}); "
        "give an ONNX model made by kws export\n"
    )


def test_a_file_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny(Path("gsc12"))
    assert SpotterModel("gsc12").labels == ("_silence_", "_unknown_", "yes", "no")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    with pytest.raises(ModelError, match="this copy of kws ships no model"):
        SpotterModel("gsc12_tiny")
