"""The Hydra entry of every `python -m kws.*` command: finds and checks configs, turns errors into one sentence."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kws import config as options


def config_dir() -> Path:
    """The folder of YAML configs: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def register(name: str, node: type, group: str | None = None) -> None:
    """Make a dataclass known to Hydra as a schema, so that an unknown key or a wrong type fails at composition.

    A command registers its own schema first, without a group, which forgets another command's in the same process.
    """
    store = ConfigStore.instance()
    if group is None:
        for other in [key for key in store.repo if key != "hydra" and not key.startswith("_")]:
            del store.repo[other]
    store.store(name=name, node=node, group=group)


def register_data_sources(suffix: str = "") -> None:
    """The options of the `data` group: whole (for commands), or as schemas of the YAML files (with a suffix)."""
    for name, node in options.DATA_SOURCES.items():
        register(f"{name}{suffix}", node, "data")


def run_dir() -> Path:
    """The output folder of the current Hydra job."""
    return Path(HydraConfig.get().runtime.output_dir)


def _choose_run_dir(given: str, resume: bool) -> str:
    """The `run_dir` asked for, else the newest unfinished run to resume, else a new folder under `runs`."""
    if given:
        return given
    if resume:
        unfinished = [
            p.parent for p in Path("runs").glob("*/*/last.safetensors") if not (p.parent / "result.json").exists()
        ]
        if not unfinished:
            raise ValueError("resume=true found no unfinished run under runs/; name one with run_dir=...")
        return str(max(unfinished, key=lambda folder: (folder / "last.safetensors").stat().st_mtime))
    return time.strftime("runs/%Y-%m-%d/%H-%M-%S")


OmegaConf.register_new_resolver("kws_run_dir", _choose_run_dir, use_cache=True, replace=True)


def main(task: Callable[[Any], Any], config_name: str, folder: str = "commands") -> None:
    """Compose `configs/<folder>/<config_name>.yaml`, turn it into its dataclass and call `task` with it.

    Commands have a folder of their own: in the folder of the config groups `model=` would choose a group's member.
    Any error that a user can mend ends with one sentence on standard error and exit status 1; Ctrl-C with 130.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us instead of being printed by Hydra
    mendable = (HydraException, OmegaConfBaseException, ValueError, OSError, ImportError)

    @hydra.main(version_base="1.3", config_path=str(config_dir() / folder), config_name=config_name)
    def composed(config: DictConfig) -> Any:
        try:
            return task(OmegaConf.to_object(config))
        except mendable as error:
            _fail(error)

    try:
        composed()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except mendable as error:
        _fail(error)


def _fail(error: BaseException) -> NoReturn:
    print(f"error: {one_sentence(error)}", file=sys.stderr)
    sys.exit(1)


def one_sentence(error: BaseException) -> str:
    """What an error says, without the lines in which Hydra and OmegaConf describe themselves."""
    lines: list[str] = []
    current: BaseException | None = error
    while current is not None:
        for line in str(current).splitlines():
            line = line.strip().replace("Available options in", "there are, in")
            if line.startswith("Config search path"):
                break
            if line and not line.startswith(
                ("full_key:", "object_type=", "reference_type=", "To append", "Set the env")
            ):
                lines.append(line)
        current = current.__cause__ if isinstance(current, HydraException) else None
    options = [line for line in lines if not line.endswith("schema")]
    text = "; ".join(dict.fromkeys(options)) or type(error).__name__
    full_key = str(getattr(error, "full_key", None) or "")
    return text if full_key in text else f"{full_key}: {text}"
