"""Every config file composes, and says what it is."""

import pytest
from composing import compose_config

from kws import entry
from kws.config import TrainConfig

ROOT = entry.config_dir()
MEMBERS = sorted(p.relative_to(ROOT) for p in ROOT.glob("*/*.yaml") if p.parent.name != "commands")


@pytest.mark.parametrize("member", MEMBERS, ids=str)
def test_every_group_member_composes(member):
    assert isinstance(compose_config("train", [f"{member.parent}={member.stem}"]), TrainConfig)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("evaluate", ["model=x"]),
        ("evaluate", ["model=x", "data=folder"]),
        ("make_stream", ["output=x"]),
        ("make_stream", ["output=x", "data=synthetic"]),
    ],
)
def test_every_command_composes(name, overrides):
    assert compose_config(name, overrides)


def test_every_command_is_composed_above():
    commands = {path.stem for path in (ROOT / "commands").glob("*.yaml")} - {"quiet"}
    (cases,) = (mark for mark in test_every_command_composes.pytestmark if mark.name == "parametrize")
    assert {name for name, _ in cases.args[1]} == commands


@pytest.mark.parametrize("path", sorted(ROOT.glob("**/*.yaml")), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_file_begins_with_what_it_is(path):
    assert path.read_text().startswith("# ")
