"""Checkpoints: weights, every option and the labels in one safetensors file, written atomically."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kws import __version__
from kws.config import FrontendConfig, labels_fault, model_from_dict
from kws.errors import KwsError
from kws.model.spotter import KeywordSpotter
from kws.system.atomic import write_whole

FORMAT = 1
_MODEL = "model."
_RENAMED = {"feature_mean": "normalize.mean", "feature_std": "normalize.std"}  # tensors of the first checkpoints


class CheckpointError(KwsError):
    """A file that is not a usable checkpoint."""


def save_checkpoint(
    path: Path,
    spotter: KeywordSpotter,
    *,
    extra: Mapping[str, Tensor] | None = None,
    info: Mapping[str, Any] | None = None,
) -> None:
    """Write `spotter` to `path`; the file is whole or not there.

    Args:
        path: the file, normally `*.safetensors`; its folder must exist.
        spotter: the weights and options to keep.
        extra: further tensors (the state of the training), kept beside the weights.
        info: further JSON values: the training configuration, epoch, accuracy.

    Raises:
        OSError: if it cannot be written; nothing is left behind then.
    """
    tensors = {f"{_MODEL}{name}": value.detach().cpu().contiguous() for name, value in spotter.state_dict().items()}
    tensors |= {name: value.detach().cpu().contiguous() for name, value in (extra or {}).items()}
    header = {
        "kws_format": FORMAT,
        "kws_version": __version__,
        "labels": list(spotter.labels),
        "frontend": dataclasses.asdict(spotter.frontend_config),
        "model": spotter.model_config.to_dict(),
        "info": dict(info or {}),
    }
    write_whole(path, save(tensors, metadata={"kws": json.dumps(header)}))


def read_header(path: Path) -> dict[str, Any]:
    """The options, labels and `info` of a checkpoint.

    Raises:
        CheckpointError: if `path` is missing, not a checkpoint of this project, or of another format.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give the checkpoint.safetensors of a training run")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        header = json.loads(metadata["kws"])
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file ({error}); give the file of a training run") from error
    except (KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} was not written by kws; give the file of a training run") from error
    except RecursionError as error:
        raise CheckpointError(
            f"{path} holds a header that is nested too deeply; give that of a training run"
        ) from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} holds a header that is no table; give the file of a training run")
    if header.get("kws_format") != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {header.get('kws_format')} (kws {header.get('kws_version')}); "
            f"this is kws {__version__}, which reads format {FORMAT}: train again or use that version"
        )
    for key in ("frontend", "model", "info"):
        if not isinstance(header.get(key), dict):
            raise CheckpointError(f"{path} holds no table {key} in its header; give the file of a training run")
    if what := labels_fault(header.get("labels")):
        raise CheckpointError(f"{path} cannot be used: {what[:300]}")
    return header


def load_checkpoint(path: Path) -> tuple[KeywordSpotter, dict[str, Any]]:
    """The spotter of a checkpoint, in evaluation mode on the CPU, and its header.

    Raises:
        CheckpointError: as `read_header`, or if weights and options do not fit together.
    """
    header = read_header(path)
    tensors = {_RENAMED.get(name, name): value for name, value in read_tensors(path, _MODEL).items()}
    try:
        frontend, model = FrontendConfig(**header["frontend"]), model_from_dict(header["model"])
        spotter = KeywordSpotter(frontend, model, header["labels"])
        spotter.load_state_dict(tensors)
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} holds weights and options that do not fit together ({reason})") from error
    return spotter.eval(), header


def read_tensors(path: Path, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, named without it."""
    with safe_open(path, framework="pt") as file:
        return {name[len(prefix) :]: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
