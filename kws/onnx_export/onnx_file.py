"""A spotter as one self-describing ONNX file, or an error and no file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from kws import __version__
from kws.errors import KwsError
from kws.model.layer import Layer
from kws.model.spotter import KeywordSpotter
from kws.onnx_export import parity, reference
from kws.onnx_export.operations import multiplications, per_second
from kws.onnx_export.quantize import quantize
from kws.onnx_export.trace import trace
from kws.runtime.contract import FORMAT, KINDS
from kws.system.atomic import write_whole


def export_onnx(
    spotter: KeywordSpotter,
    path: Path,
    *,
    hops_per_step: int = 0,
    variant: str = "waveform",
    precision: str = "float32",
    batch_size: int = 1,
    card: Mapping[str, Any] | None = None,
    kind: str = KINDS[0],
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write `spotter` as ONNX format 2 (see ARCHITECTURE.md) to `path`, after comparing it with torch.

    Args:
        spotter: on the CPU, in evaluation mode.
        path: the file to write; replaced only by a model that passed.
        hops_per_step: hops in a block; 0 means one logits frame.
        variant: `waveform`, or `features` for what follows the front end.
        precision: `float32` or `int8`.
        batch_size: streams that a step takes; 0: any number.
        card: what `kws info` shows beside the derived facts: data, licence, accuracy.
        kind: what the logits are, of `kws.runtime.contract.KINDS`.
        more: further metadata, in place of what would be written.

    Raises:
        ValueError: if a block is not a whole number of logits frames, int8 is asked for several streams at once, or the
            model hears whole clips.
        ExportError: if onnxruntime and torch differ after 50 chained steps.
        OSError: if `path` cannot be written.
    """
    frontend, model = spotter.frontend_config, spotter.model_config
    if not isinstance(spotter.classifier, Layer):
        raise KwsError(
            f"{model.architecture} hears whole clips and cannot be streamed; export a recurrent model, e.g. model=small"
        )
    stride = spotter.classifier.stride
    hops = hops_per_step or stride
    if hops % stride:
        raise KwsError(
            f"hops_per_step {hops_per_step} is not a multiple of the {stride} hops of a logits frame "
            f"(model.time_stride)"
        )
    if precision == "int8" and batch_size != 1:
        raise KwsError(
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
        "kind": kind,
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
        "model": model.to_dict(),
        "detector": {"pooling": model.pooling, "smoothing_ms": model.pool_ms, "score": "log_ratio"},
        "card": {
            "parameters": spotter.n_parameters,
            "multiplications_per_second": round(cost),
            **(card or {}),
        },
        **(more or {}),
    }
    if variant == "features":
        metadata["frontend_constants"] = reference.constants(frontend)
    onnx.helper.set_model_props(graph, {key: json.dumps(value) for key, value in metadata.items()})
    graph.producer_name, graph.producer_version = "kws", __version__
    write_whole(path, graph.SerializeToString())
