"""What stands around `kws serve`: its container, the Home Assistant add-on, the systemd unit. None needs its host."""

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from kws import __version__, cli
from kws.apps.wake import serve

DEPLOY = Path(__file__).parent.parent / "deploy"
ADDON = DEPLOY / "home-assistant" / "kws"


@pytest.fixture(scope="module")
def addon():
    spec = importlib.util.spec_from_file_location("addon_run", ADDON / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_options_of_the_addon_are_those_of_the_command(addon, tmp_path):
    config = yaml.safe_load((ADDON / "config.yaml").read_text())
    assert config["version"] == __version__
    assert f"kws[serve]=={__version__}" in (ADDON / "Dockerfile").read_text()
    assert set(config["schema"]) == set(
        yaml.safe_load((ADDON / "translations" / "en.yaml").read_text())["configuration"]
    )
    models = tmp_path / "models"
    given = {"models": str(models), "save": "heard", "fa_per_hour": 0.5}
    assert set(given) == set(config["schema"])
    assert "--models" not in addon.command({**config["options"], "models": str(models)})
    (models / "computer").mkdir()
    (models / "computer" / "model.onnx").touch()
    program, name, *arguments = addon.command(given)
    assert (program, name) == ("kws", "serve")
    options = serve._arguments(arguments)
    assert (options.models, options.save, options.fa_per_hour) == (models, Path("heard"), 0.5)
    assert options.uri.endswith(f":{addon.PORT}")
    assert f"{addon.PORT}/tcp" in config["ports"]
    json.dumps(config)


@pytest.mark.parametrize("file", ["Dockerfile", "home-assistant/kws/Dockerfile"])
def test_the_containers_check_themselves_by_a_command_that_there_is(file):
    text = (DEPLOY / file).read_text()
    check = json.loads(re.search(r"HEALTHCHECK.* CMD (\[.*\])", text)[1])
    assert check[:2] == ["kws", "serve"]
    assert serve._arguments(check[2:]).check
    assert "EXPOSE 10400" in text or "home-assistant" in file
    if "ENTRYPOINT" in text:
        assert "USER kws" in text


def test_the_context_of_the_container_holds_what_the_build_needs():
    kept = {line[1:] for line in (DEPLOY.parent / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    project = (DEPLOY.parent / "pyproject.toml").read_text()
    assert {"kws", "configs", "pyproject.toml", "hatch_build.py"} <= kept
    for needed in re.findall(r'(?:readme = |license-files = \[)"(.*?)"', project):
        assert needed in kept


def test_the_unit_is_one_that_systemd_takes(tmp_path):
    text = (DEPLOY / "kws-serve.service").read_text()
    command = re.search(r"^ExecStart=/opt/kws/bin/(.*)$", text, re.MULTILINE)[1].split()
    assert command[1] in cli.COMMANDS
    serve._arguments(command[2:])
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "kws-serve.service"
    unit.write_text(text.replace("/opt/kws/bin/kws", shutil.which("true")))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
