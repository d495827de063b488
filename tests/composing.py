"""Compose a config as the commands do, without running one."""

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from kws import entry, evaluate, export, train


def compose_config(name, overrides=()):
    """The dataclass that the command `name` would get for these overrides."""
    {"train": train, "evaluate": evaluate, "export": export}[name].register_schemas()
    folder = entry.config_dir() / ("" if name == "train" else "commands")
    with initialize_config_dir(str(folder), version_base="1.3"):
        return OmegaConf.to_object(compose(name, list(overrides)))
