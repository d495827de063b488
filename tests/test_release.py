"""A release that could happen today: one version, files that hold what they must, a workflow that is whole."""

import importlib.util
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from kws import __version__

REPO = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def release():
    spec = importlib.util.spec_from_file_location("release", REPO / "scripts" / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_version_everywhere(release):
    assert [*release.contradictions()] == []
    assert len([*release.contradictions("9.9.9")]) == len(release.REPEATED) + 1
    project = (REPO / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in project
    assert f'"{__version__}"' not in project


def test_the_sdist_holds_what_a_build_needs_and_nothing_else(release, tmp_path):
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(REPO)]
    subprocess.run(command, check=True, capture_output=True)
    (sdist,) = tmp_path.glob("*.tar.gz")
    assert sdist.name == f"kws-{__version__}.tar.gz"
    assert release.check(sdist) == []
    names = release.names_in(sdist)
    assert {"pyproject.toml", "hatch_build.py", "LICENSE", "Makefile", "npm/package.json", "tests/test_cli.py"} <= names
    assert not {name.split("/")[0] for name in names} & {"runs", "site", "build", "data", ".cache"}
    with tarfile.open(sdist) as archive:
        metadata = archive.extractfile(f"kws-{__version__}/PKG-INFO").read().decode()
    assert f"\nVersion: {__version__}\n" in metadata


def test_what_is_wrong_with_a_wheel_is_said(release, tmp_path):
    wheel = tmp_path / "kws-0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("kws/__pycache__/x.pyc", b"")
        archive.writestr("kws/__init__.py", b"")
    told = " ".join(release.check(wheel))
    for part in ("lacks kws/models/gsc12.onnx", "has no C engine", "holds kws/__pycache__/x.pyc"):
        assert part in told


def test_the_workflow_tests_every_python_on_every_system():
    workflow = yaml.safe_load((REPO / ".github" / "workflows" / "tests.yml").read_text())
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python-version"] == ["3.10", "3.11", "3.12", "3.13"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    targets = re.findall(r"^([a-z]+):", (REPO / "Makefile").read_text(), re.MULTILINE)
    for job in workflow["jobs"].values():
        assert set([job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])) <= set(
            workflow["jobs"]
        )
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            for target in re.findall(r"^make (\w+)", step.get("run", ""), re.MULTILINE):
                assert target in targets
            for script in re.findall(r"scripts/\w+\.py", step.get("run", "")):
                assert (REPO / script).is_file()


def test_the_templates_and_the_citation_are_what_their_readers_take():
    for path in (REPO / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        if path.name != "config.yml":
            assert {"name", "description", "body"} <= set(form)
            assert all(field["type"] in ("input", "textarea", "dropdown", "markdown") for field in form["body"])
            assert len({field["id"] for field in form["body"]}) == len(form["body"])
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version"} <= set(citation)
    assert str(citation["version"]) == __version__
