"""Checkpoint to ONNX: `python -m kws.export checkpoint=FILE`. One self-describing file, or an error and no file."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from kws import __version__, entry, parity, reference
from kws.checkpoint import FORMAT, load_checkpoint
from kws.config import exact_samples
from kws.model import KeywordSpotter
from kws.operations import multiplications, per_second
from kws.parity import ExportError
from kws.quantize import quantize
from kws.trace import trace

__all__ = ["ExportConfig", "ExportError", "export", "export_onnx"]

VARIANTS = ("waveform", "features")
PRECISIONS = ("float32", "int8")
DATA_LICENCES = {"speech_commands": "CC BY 4.0"}
LOCAL = (
    "root",
    "cache_dir",
    "test_dir",
    "train_stream",
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


def export_onnx(
    spotter: KeywordSpotter,
    path: Path,
    *,
    hops_per_step: int = 0,
    variant: str = "waveform",
    precision: str = "float32",
    batch_size: int = 1,
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write `spotter` as ONNX format 1 (see ARCHITECTURE.md) to `path`, after comparing it with torch.

    Args:
        spotter: on the CPU, in evaluation mode.
        path: the file to write; replaced only by a model that passed.
        hops_per_step: hops in a block; 0 means one logits frame.
        variant: `waveform`, or `features` for what follows the front end.
        precision: `float32` or `int8`.
        batch_size: streams that a step takes; 0: any number.
        card: what `kws info` shows beside the derived facts: data, licence, accuracy.

    Raises:
        ValueError: if a block is not a whole number of logits frames, int8 is asked for several streams at once, or the
            model hears whole clips.
        ExportError: if onnxruntime and torch differ after 50 chained steps.
        OSError: if `path` cannot be written.
    """
    frontend, model = spotter.frontend_config, spotter.model_config
    if not model.is_streamed:
        raise ValueError(
            f"{model.architecture} hears whole clips and cannot be streamed; export a recurrent model, e.g. model=small"
        )
    hops = hops_per_step or model.time_stride
    if hops % model.time_stride:
        raise ValueError(
            f"hops_per_step {hops_per_step} is not a multiple of the {model.time_stride} hops of a logits frame "
            f"(model.time_stride)"
        )
    if precision == "int8" and batch_size != 1:
        raise ValueError(
            f"batch_size {batch_size} does not go with precision int8, whose scales are taken over a whole step: "
            "a stream would depend on its neighbours; choose float32"
        )
    graph = trace(spotter, variant, hops, batch_size)
    onnx.checker.check_model(graph, full_check=True)
    parity.check_float(spotter, graph.SerializeToString(), variant, hops)
    cost = per_second(multiplications(graph), spotter, hops)
    if precision == "int8":
        exact, graph = graph, quantize(graph)
        onnx.checker.check_model(graph)
        parity.check_int8(exact.SerializeToString(), graph.SerializeToString())
    metadata = {
        "kws_format": FORMAT,
        "kws_version": __version__,
        "variant": variant,
        "precision": precision,
        "labels": list(spotter.labels),
        "sample_rate": frontend.sample_rate,
        "hop_length": frontend.hop_length,
        "frame_length": spotter.frame_length,
        "block_size": hops * frontend.hop_length,
        "clip_length": (card or {}).get("clip_length", frontend.sample_rate),
        "state_size": spotter.state_size if variant == "waveform" else spotter.classifier.state_size,
        "frontend": dataclasses.asdict(frontend),
        "model": dataclasses.asdict(model),
        "detector": {"pooling": model.pooling, "smoothing_ms": model.pool_ms},
        "card": {
            "parameters": spotter.n_parameters,
            "multiplications_per_second": round(cost),
            **(card or {}),
        },
    }
    if variant == "features":
        metadata["frontend_constants"] = reference.constants(frontend)
    onnx.helper.set_model_props(graph, {key: json.dumps(value) for key, value in metadata.items()})
    graph.producer_name, graph.producer_version = "kws", __version__
    write_whole(path, graph.SerializeToString())


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path`: the whole of it, or nothing."""
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
