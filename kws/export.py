"""Checkpoint to ONNX: `python -m kws.export checkpoint=FILE`. One self-describing file, or an error and no file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kws import entry
from kws.config import exact_samples
from kws.model.checkpoint import load_checkpoint
from kws.onnx_export import reference
from kws.onnx_export.onnx_file import export_onnx
from kws.onnx_export.parity import ExportError
from kws.system.atomic import write_whole

__all__ = ["ExportConfig", "ExportError", "export", "export_onnx"]

VARIANTS = ("waveform", "features")
PRECISIONS = ("float32", "int8")
DATA_LICENCES = {"speech_commands": "CC BY 4.0"}
LOCAL = (
    "root",
    "cache_dir",
    "test_dir",
    "train_recordings",
    "url",
    "download",
    "workers",
)  # of one machine: not for the card


@dataclass
class ExportConfig:
    """What to export and how."""

    checkpoint: str = "???"  # the safetensors file of a training run
    output: str = ""  # empty: beside the checkpoint, named after it and the options that differ from these
    variant: str = "waveform"  # waveform: audio in | features: log-mel in, made by the device's own front end
    precision: str = "float32"  # float32 | int8: dynamic quantisation of LSTM and dense layers, int8 weights elsewhere
    hops_per_step: int = 0  # hops in a block; 0: as many as one logits frame needs
    batch_size: int = 1  # streams that a step takes; 0: any number, chosen at each step
    licence: str = "Apache-2.0"  # of the weights, for the card

    def __post_init__(self) -> None:
        for name, allowed in (("variant", VARIANTS), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}")
        for name in ("hops_per_step", "batch_size"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")


def _default_path(config: ExportConfig) -> Path:
    """Beside the checkpoint, a name of its own for every combination of options."""
    parts = [Path(config.checkpoint).stem]
    parts += [value for value in (config.variant, config.precision) if value not in ("waveform", "float32")]
    parts += [f"{config.hops_per_step}hops"] if config.hops_per_step else []
    parts += [f"batch{config.batch_size or ''}"] if config.batch_size != 1 else []
    return Path(config.checkpoint).with_name("-".join(parts) + ".onnx")


def export(config: ExportConfig) -> Path:
    """Export by `config`; prints and returns the file."""
    checkpoint = Path(config.checkpoint)
    spotter, header = load_checkpoint(checkpoint)
    path = Path(config.output) if config.output else _default_path(config)
    info = header["info"]
    card: dict[str, Any] = {"validation_accuracy": info.get("best_accuracy"), "epochs": info.get("epoch")}
    card["licence"] = config.licence
    if trained := info.get("config"):
        card["data"] = {key: value for key, value in trained["data"].items() if key not in LOCAL}
        card["data_licence"] = DATA_LICENCES.get(trained["data"]["source"])
        card["clip_length"] = exact_samples(trained["data"]["clip_ms"], spotter.frontend_config.sample_rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    export_onnx(
        spotter,
        path,
        hops_per_step=config.hops_per_step,
        variant=config.variant,
        precision=config.precision,
        batch_size=config.batch_size,
        card=card,
    )
    print(f"{path}: {path.stat().st_size / 1000:.1f} kB, {config.variant}, {config.precision}")
    if config.variant == "features":
        table = path.with_suffix(".reference.json")
        write_whole(table, reference.table(spotter).encode())
        print(f"{table}: samples, and the features and logits that must come of them")
    return path


def register_schemas() -> None:
    """Make the options known to Hydra."""
    entry.register("export_schema", ExportConfig)


def main() -> None:
    """Entry of `python -m kws.export`."""
    register_schemas()
    entry.main(export, "export")


if __name__ == "__main__":
    main()
