"""Compose a config as the commands do, without running one."""

from importlib import import_module

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from kws import entry


def compose_config(name, overrides=()):
    """The dataclass that the command `kws.<name>` would get for these overrides."""
    import_module(f"kws.{name}").register_schemas()
    folder = entry.config_dir() / ("" if name == "train" else "commands")
    with initialize_config_dir(str(folder), version_base="1.3"):
        return OmegaConf.to_object(compose(name, list(overrides)))
