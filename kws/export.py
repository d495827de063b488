"""Checkpoint to ONNX: `kws export CHECKPOINT`. One self-describing file, or an error and no file."""

from __future__ import annotations

from kws import cli

if __name__ == "__main__":  # `kws export`, before imports that may be missing
    cli.door("export")

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kws.config import data_from_dict, exact_samples
from kws.errors import KwsError
from kws.model.checkpoint import load_checkpoint
from kws.onnx_export import reference
from kws.onnx_export.onnx_file import export_onnx
from kws.onnx_export.parity import ExportError
from kws.system.atomic import write_whole

__all__ = ["ExportError", "export", "export_onnx"]

VARIANTS = ("waveform", "features")
PRECISIONS = ("float32", "int8")
LICENCE = "Apache-2.0"
DATA_LICENCES = {"speech_commands": "CC BY 4.0"}
# Options of the data that are of one machine: not for the card.
LOCAL = {"root", "cache_dir", "test_dir", "train_recordings", "speech", "url", "download", "workers"}


def export(
    checkpoint: str | Path,
    output: str | Path | None = None,
    *,
    variant: str = "waveform",
    precision: str = "float32",
    hops_per_step: int = 0,
    batch_size: int = 1,
    licence: str = LICENCE,
) -> Path:
    """Export a checkpoint; prints and returns the ONNX file.

    Args:
        checkpoint: the safetensors file of a training run.
        output: the file to write; None: beside the checkpoint, named after it and the options that differ from these.
        variant: `waveform`, audio in, or `features`, log-mel in, made by the device's own front end; that one comes
            with a table to check the front end by.
        precision: `float32`, or `int8`: dynamic quantisation of LSTM and dense layers, int8 weights elsewhere.
        hops_per_step: hops in a block; 0: as many as one logits frame needs.
        batch_size: streams that a step takes; 0: any number, chosen at each step.
        licence: of the weights, for the card.

    Raises:
        KwsError: for values out of range, and what `load_checkpoint` and `export_onnx` raise.
    """
    for name, value, allowed in (("variant", variant, VARIANTS), ("precision", precision, PRECISIONS)):
        if value not in allowed:
            raise KwsError(f"{name} is {value!r}; choose one of {', '.join(allowed)}")
    for name, number in {"hops_per_step": hops_per_step, "batch_size": batch_size}.items():
        if number < 0:
            raise KwsError(f"{name} is {number}; it must be at least 0")
    spotter, header = load_checkpoint(Path(checkpoint))
    info = header["info"]
    card: dict[str, Any] = {"validation_accuracy": info.get("best_accuracy"), "epochs": info.get("epoch")}
    card["licence"] = licence
    if trained := info.get("config"):
        data = data_from_dict(trained["data"])
        card["data"] = {key: value for key, value in asdict(data).items() if key not in LOCAL}
        card["data_licence"] = DATA_LICENCES.get(data.source)
        card["clip_length"] = exact_samples(data.clip_ms, spotter.frontend_config.sample_rate)
    options: dict[str, Any] = {"variant": variant, "precision": precision, "hops_per_step": hops_per_step}
    path = Path(output or _default_path(Path(checkpoint), **options, batch_size=batch_size))
    path.parent.mkdir(parents=True, exist_ok=True)
    export_onnx(spotter, path, **options, batch_size=batch_size, card=card)
    print(f"{path}: {path.stat().st_size / 1000:.1f} kB, {variant}, {precision}")
    if variant == "features":
        table = path.with_suffix(".reference.json")
        write_whole(table, reference.table(spotter).encode())
        print(f"{table}: samples, and the features and logits that must come of them")
    return path


def _default_path(checkpoint: Path, variant: str, precision: str, hops_per_step: int, batch_size: int) -> Path:
    """Beside the checkpoint, a name of its own for every combination of options."""
    parts = [checkpoint.stem, *(value for value in (variant, precision) if value not in ("waveform", "float32"))]
    parts += [f"{hops_per_step}hops"] if hops_per_step else []
    parts += [f"batch{batch_size or ''}"] if batch_size != 1 else []
    return checkpoint.with_name("-".join(parts) + ".onnx")


def main(arguments: Sequence[str]) -> int:
    """Entry of `kws export`: the exit status."""
    parser = argparse.ArgumentParser(prog="kws export", description=__doc__)
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="the safetensors file of a training run")
    add("--variant", default=VARIANTS[0], choices=VARIANTS, help="audio in (default), or log-mel in, for firmware")
    add("--precision", default=PRECISIONS[0], choices=PRECISIONS, help="of weights and products (default: float32)")
    add("--hops-per-step", type=int, default=0, metavar="N", help="hops in a block (default: one logits frame)")
    add("--batch-size", type=int, default=1, metavar="N", help="streams that a step takes; 0: any number (default: 1)")
    add("--licence", default=LICENCE, metavar="NAME", help=f"of the weights, for the card (default: {LICENCE})")
    add("--output", metavar="ONNX", help="the file to write (default: beside the checkpoint, named by the options)")
    export(**vars(parser.parse_args(arguments)))
    return 0
