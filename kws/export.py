"""Checkpoint to ONNX, or either of them to C: `kws export CHECKPOINT`. Whole and checked, or an error and no file."""

from __future__ import annotations

from kws import cli

if __name__ == "__main__":  # `kws export`, before imports that may be missing
    cli.door("export")

import argparse
import importlib
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kws.c.export import export_c
from kws.config import data_from_dict, exact_samples
from kws.errors import KwsError, between, one_of
from kws.runtime.shipped import find_model, is_shipped
from kws.system.atomic import write_whole

VARIANTS = ("waveform", "features", "c")
PRECISIONS = ("float32", "int8")
LICENCE = "Apache-2.0"
WITH_TORCH = {"export_onnx": "kws.onnx_export.onnx_file", "ExportError": "kws.onnx_export.parity"}
DATA_LICENCES = {"speech_commands": "CC BY 4.0"}
# Options of the data that are of one machine: not for the card.
LOCAL = {"root", "cache_dir", "test_dir", "train_recordings", "speech", "url", "download", "workers"}


def __getattr__(name: str) -> Any:
    """What needs torch, loaded when it is asked for: an ONNX file becomes C without."""
    if name not in WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(WITH_TORCH[name]), name)


def export(
    checkpoint: str | Path,
    output: str | Path | None = None,
    *,
    variant: str = "waveform",
    precision: str = "",
    hops_per_step: int = 0,
    batch_size: int = 1,
    licence: str = LICENCE,
) -> Path:
    """Export a checkpoint; prints and returns the ONNX file, or the folder of C.

    Args:
        checkpoint: the safetensors file of a training run; for `c` also an ONNX model, or the name of a shipped one.
        output: the file to write, or the folder; None: beside the checkpoint, named after it and the options that
            differ from these.
        variant: `waveform`, audio in, or `features`, log-mel in, made by the device's own front end; that one comes
            with a table to check the front end by; or `c`, sources that compile as they are (docs/devices.md).
        precision: `float32`, or `int8`: dynamic quantisation of LSTM and dense layers, int8 weights elsewhere; in C
            int8 weights and 16-bit activations. Empty: float32, or what the ONNX model has.
        hops_per_step: hops in a block; 0: as many as one logits frame needs.
        batch_size: streams that a step takes; 0: any number, chosen at each step.
        licence: of the weights, for the card.

    Raises:
        KwsError: for values out of range, and what `load_checkpoint` and `export_onnx` raise.
    """
    one_of("variant", variant, VARIANTS)
    one_of("precision", precision or PRECISIONS[0], PRECISIONS)
    between("hops_per_step", hops_per_step, 0)
    between("batch_size", batch_size, 0)
    if variant == "c":
        return _export_as_c(checkpoint, output, precision, hops_per_step, batch_size)
    precision = precision or "float32"

    from kws.model.checkpoint import load_checkpoint
    from kws.onnx_export import reference
    from kws.onnx_export.onnx_file import export_onnx

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


def _export_as_c(
    source: str | Path, output: str | Path | None, precision: str, hops_per_step: int, batch_size: int
) -> Path:
    """A folder of C from a checkpoint, by way of an ONNX file that is compared with torch, or from an ONNX model."""
    if hops_per_step or batch_size != 1:
        raise KwsError("variant c takes any number of samples at a time: leave out hops_per_step and batch_size")
    path = Path(source)
    with tempfile.TemporaryDirectory() as temporary:
        if path.suffix == ".safetensors":
            from kws.model.checkpoint import load_checkpoint
            from kws.onnx_export.onnx_file import export_onnx

            model = Path(temporary) / path.with_suffix(".onnx").name
            export_onnx(load_checkpoint(path)[0], model)
        else:
            model = path = find_model(source)
        beside = Path() if is_shipped(path) else path.parent
        folder = Path(output or beside / "-".join([path.stem, "c", *([precision] if precision else [])]))
        files = export_c(model, folder, precision=precision)
    print(f"{folder}: {', '.join(file.name for file in files)}; make -C {folder} compiles it")
    return folder


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
    add("checkpoint", metavar="CHECKPOINT", help="the safetensors file of a training run; for c also an ONNX model")
    add("--variant", default=VARIANTS[0], choices=VARIANTS, help="audio in (default); log-mel in; or C, for firmware")
    add("--precision", default="", choices=PRECISIONS, help="of weights and products (default: float32)")
    add("--hops-per-step", type=int, default=0, metavar="N", help="hops in a block (default: one logits frame)")
    add("--batch-size", type=int, default=1, metavar="N", help="streams that a step takes; 0: any number (default: 1)")
    add("--licence", default=LICENCE, metavar="NAME", help=f"of the weights, for the card (default: {LICENCE})")
    add("--output", metavar="FILE", help="what to write, c: a folder (default: beside the checkpoint, by the options)")
    export(**vars(parser.parse_args(arguments)))
    return 0
