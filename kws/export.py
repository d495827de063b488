"""Checkpoint to ONNX: `python -m kws.export checkpoint=FILE`. One self-describing file, or an error and no file."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from kws import __version__, entry
from kws.checkpoint import FORMAT, load_checkpoint
from kws.config import exact_samples
from kws.model import KeywordSpotter

OPSET = 18  # onnxruntime 1.14 and later run it
PARITY_STEPS, PARITY_TOLERANCE = 50, 1e-4


@dataclass
class ExportConfig:
    """What to export and how."""

    checkpoint: str = "???"  # the safetensors file of a training run
    output: str = ""  # empty: beside the checkpoint, with the ending .onnx
    hops_per_step: int = 0  # hops in a block; 0: as many as one logits frame needs

    def __post_init__(self) -> None:
        if self.hops_per_step < 0:
            raise ValueError(f"hops_per_step is {self.hops_per_step}; it must be at least 1")


class ExportError(ValueError):
    """An exported model that does not do what the checkpoint does."""


def export_onnx(spotter: KeywordSpotter, path: Path, *, hops_per_step: int = 0, card: dict[str, Any] | None = None) -> None:
    """Write `spotter` as ONNX format 1 (see ARCHITECTURE.md) to `path`, after comparing it with torch.

    Args:
        spotter: on the CPU, in evaluation mode.
        path: the file to write; replaced only by a model that passed.
        hops_per_step: hops in a block of `waveform`; 0 means one logits frame.
        card: what `kws info` shows beside the derived facts: data, licence, accuracy.

    Raises:
        ValueError: if a block is not a whole number of logits frames.
        ExportError: if onnxruntime and torch differ after 50 chained steps.
        OSError: if `path` cannot be written.
    """
    frontend, model = spotter.frontend_config, spotter.model_config
    block_size = frontend.hop_length * (hops_per_step or model.time_stride)
    if block_size % spotter.frame_length:
        raise ValueError(
            f"hops_per_step {hops_per_step} is not a multiple of the {model.time_stride} hops of a logits frame "
            f"(model.time_stride)"
        )
    graph = _trace(spotter, block_size)
    metadata = {
        "kws_format": FORMAT,
        "kws_version": __version__,
        "labels": list(spotter.labels),
        "sample_rate": frontend.sample_rate,
        "hop_length": frontend.hop_length,
        "frame_length": spotter.frame_length,
        "block_size": block_size,
        "clip_length": (card or {}).get("clip_length", frontend.sample_rate),
        "state_size": spotter.state_size,
        "frontend": dataclasses.asdict(frontend),
        "model": dataclasses.asdict(model),
        "detector": {"pooling": model.pooling, "smoothing_ms": model.pool_ms},
        "card": {"parameters": spotter.n_parameters, **(card or {})},
    }
    onnx.helper.set_model_props(graph, {key: json.dumps(value) for key, value in metadata.items()})
    graph.producer_name, graph.producer_version = "kws", __version__
    onnx.checker.check_model(graph, full_check=True)
    serialized = graph.SerializeToString()
    check_parity(spotter, serialized, block_size)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        partial.write_bytes(serialized)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _trace(spotter: KeywordSpotter, block_size: int) -> onnx.ModelProto:
    example = (torch.zeros(1, block_size), torch.zeros(1, spotter.state_size))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            spotter,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=["waveform", "state"],
            output_names=["logits", "next_state"],
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    # The exporter's notes about the Python source are larger than a small model's graph.
    graph.graph.ClearField("metadata_props")
    for node in graph.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*graph.graph.input, *graph.graph.output, *graph.graph.value_info, *graph.graph.initializer):
        value.ClearField("metadata_props")
    graph.graph.ClearField("value_info")
    del graph.functions[:]
    return graph


@torch.inference_mode()
def check_parity(spotter: KeywordSpotter, model: bytes, block_size: int) -> None:
    """Chain 50 steps of noise from a random state through torch and onnxruntime; `ExportError` where they differ."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    state = (rng.standard_normal((1, spotter.state_size)) * 0.1).astype(np.float32)
    torch_state = torch.from_numpy(state)
    for step in range(PARITY_STEPS):
        waveform = (rng.standard_normal((1, block_size)) * 0.1).astype(np.float32)
        logits, state = session.run(["logits", "next_state"], {"waveform": waveform, "state": state})
        torch_logits, torch_state = spotter(torch.from_numpy(waveform), torch_state)
        for name, ours, theirs in (("logits", logits, torch_logits), ("state", state, torch_state)):
            error = float(np.abs(ours - theirs.numpy()).max())
            if not error <= PARITY_TOLERANCE:
                raise ExportError(f"{name} of onnxruntime and torch differ by {error:.2e} at step {step}; nothing was written")


def export(config: ExportConfig) -> Path:
    """Export by `config`; prints and returns the file."""
    checkpoint = Path(config.checkpoint)
    spotter, header = load_checkpoint(checkpoint)
    path = Path(config.output) if config.output else checkpoint.with_suffix(".onnx")
    info = header["info"]
    card: dict[str, Any] = {"validation_accuracy": info.get("best_accuracy"), "epochs": info.get("epoch")}
    if trained := info.get("config"):
        card["data"] = trained["data"]
        card["clip_length"] = exact_samples(trained["data"]["clip_ms"], spotter.frontend_config.sample_rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    export_onnx(spotter, path, hops_per_step=config.hops_per_step, card=card)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB, equal to torch over {PARITY_STEPS} steps")
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
