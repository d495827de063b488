"""Hydra configs to dataclasses, for the commands that compose groups of options: train, evaluate, make-stream."""

from __future__ import annotations

import copy
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from kws import config as options
from kws.errors import KwsError
from kws.system.atomic import write_whole
from kws.training.run_files import ERROR, newest_unfinished
from kws.training.sweep import Failed


def config_dir() -> Path:
    """The folder of YAML configs: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def register(name: str, node: Any, group: str | None = None) -> None:
    """Make a dataclass (or one with values) known to Hydra: an unknown key or a wrong type then fails at composition.

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
        unfinished = newest_unfinished(Path("runs"))
        if unfinished is None:
            raise KwsError("resume=true found no unfinished run under runs/; name one with run_dir=...")
        return str(unfinished)
    return time.strftime("runs/%Y-%m-%d/%H-%M-%S")


OmegaConf.register_new_resolver("kws_run_dir", _choose_run_dir, use_cache=True, replace=True)


def main(task: Callable[[Any], Any], config_name: str, arguments: Sequence[str], folder: str = "commands") -> int:
    """Compose `configs/<folder>/<config_name>.yaml` and `arguments`, turn it into its dataclass, call `task` with it.

    Commands have a folder of their own: in the folder of the config groups `model=` would choose a group's member.
    Raises `KwsError` for options that do not compose, and what `task` raises; returns the exit status.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us instead of being printed by Hydra
    sys.argv[1:] = arguments  # where Hydra looks for them
    # What torch starts again for every device is `python -m` of the task's module.
    sys.modules["__main__"].__spec__ = sys.modules[task.__module__].__spec__

    @hydra.main(version_base="1.3", config_path=str(config_dir() / folder), config_name=config_name)
    def composed(config: DictConfig) -> Any:
        with _past_hydra(), _no_empty_folder():
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                return task(OmegaConf.to_object(config))
            try:
                return task(OmegaConf.to_object(config))
            except (KwsError, OmegaConfBaseException) as error:  # the other runs of the sweep go on
                write_whole(run_dir() / ERROR, f"{one_sentence(error)}\n".encode())
                return None

    try:
        try:
            composed()
        except Failed as failed:
            raise failed.__cause__ or failed from None
    except OverrideParseException as error:
        name = error.override.partition("=")[0]
        remedy = f"""quote a value that holds other characters than letters, digits and ./-: '{name}="VALUE"'"""
        raise KwsError(f"{error.override} cannot be read; {remedy}") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise KwsError(one_sentence(error)) from error
    return 0


class Check(Callback):
    """Says what is wrong with a run before Hydra makes its folder: of its options, then of what a function finds."""

    def __init__(self, check: str) -> None:
        """check: the function, `module.name`, of the options and the folder of the run; raises what is wrong."""
        self._check = get_method(check)

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra before a single run."""
        options = copy.deepcopy(config)
        with read_write(options), open_dict(options):
            del options["hydra"]
        with _past_hydra():
            self._check(OmegaConf.to_object(options), Path(str(config.hydra.run.dir)))


@contextmanager
def _no_empty_folder() -> Iterator[None]:
    """A run that fails before it has written anything leaves no folder, of which Hydra has made one."""
    try:
        yield
    except BaseException:
        folder = run_dir()
        kept = [path for path in folder.rglob("*") if path.is_file() and ".hydra" not in path.parts]
        if (folder / ".hydra").is_dir() and not any(path.stat().st_size for path in kept):
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # those that are empty now: of the day, of all runs
                folder.parent.rmdir()
                folder.parent.parent.rmdir()
        raise


@contextmanager
def _past_hydra() -> Iterator[None]:
    try:
        yield
    except (KwsError, OSError, OmegaConfBaseException) as error:
        raise Failed from error


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
