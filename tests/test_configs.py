"""Every config file composes, and says what it is."""

import pytest
import yaml
from composing import compose_config

from kws import entry
from kws.config import TrainConfig
from kws.recordings.config import MakeStreamConfig

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


@pytest.mark.parametrize("path", [*sorted(ROOT.glob("*/*.yaml")), ROOT / "train.yaml"], ids=lambda p: str(p.stem))
def test_no_value_repeats_its_default(path):
    """Of the dataclass that the file's schema is; an experiment changes what it chooses, so its base is that."""
    values = {key: value for key, value in yaml.safe_load(path.read_text()).items() if key not in ("defaults", "hydra")}
    group = path.parent.name
    if group == "experiment":
        with_values = compose_config("train", [f"experiment={path.stem}"])
        bases = {group: type(getattr(with_values, group))() for group in values}
        values = {(group, key): value for group, options in values.items() for key, value in options.items()}
        repeated = [key for key, value in values.items() if getattr(bases[key[0]], key[1]) == value]
    elif group == "commands" or path.stem == "train":
        assert not values
        return
    else:
        base = type(getattr(compose_config("train", [f"{group}={path.stem}"]), group))()
        repeated = [key for key, value in values.items() if getattr(base, key) == value]
    assert not repeated


def test_a_recipe_repeats_no_default():
    base = MakeStreamConfig("x")
    for path in (ROOT / "commands" / "recipe").glob("*.yaml"):
        assert not [key for key, value in yaml.safe_load(path.read_text()).items() if getattr(base, key) == value]


def test_every_command_is_composed_above():
    commands = {path.stem for path in (ROOT / "commands").glob("*.yaml")} - {"quiet"}
    (cases,) = (mark for mark in test_every_command_composes.pytestmark if mark.name == "parametrize")
    assert {name for name, _ in cases.args[1]} == commands


@pytest.mark.parametrize("path", sorted(ROOT.glob("**/*.yaml")), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_file_begins_with_what_it_is(path):
    assert path.read_text().startswith("# ")
