"""A hand-made ONNX spotter of format 1 and its numpy twin: a frame whose mean is high says "yes", low says "no".

Its state is [decayed block mean, decayed count of blocks], and both move the logits, so a wrong state shows at once.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from kws.config import FrontendConfig

LABELS = ("_silence_", "_unknown_", "yes", "no")
SAMPLE_RATE, FRAME_LENGTH, BLOCK_SIZE = 16000, 320, 640
SCALE = np.array([0.0, 0.0, 40.0, -40.0], np.float32)  # logits for a frame mean of 1
BIAS = np.array([2.0, 0.0, 0.0, 0.0], np.float32)
FROM_STATE = np.array([[0.0, 0.0, -8.0, 8.0], [0.01, 0.0, 0.0, 0.0]], np.float32)  # [state, label]
DECAY = np.array([0.5, 0.9], np.float32)


def metadata(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "kws_format": 1,
        "kws_version": "0.1.0",
        "labels": list(LABELS),
        "sample_rate": SAMPLE_RATE,
        "hop_length": 160,
        "frame_length": FRAME_LENGTH,
        "block_size": BLOCK_SIZE,
        "clip_length": SAMPLE_RATE,
        "state_size": 2,
        "frontend": asdict(FrontendConfig()),
        "model": {"cell": "none", "pool_ms": 400.0},
        "detector": {"pooling": "sum", "smoothing_ms": 400.0, "thresholds": {"no": 0.8}},
        "card": {},
    }
    values.update(changes)
    return {key: value for key, value in values.items() if value is not None}


def write_tiny(path: Path, batch: int | str = 1, **changes: Any) -> Path:
    """Write the model; `changes` replace metadata (None removes a key), so that it may contradict the graph."""
    t, k = BLOCK_SIZE // FRAME_LENGTH, len(LABELS)

    def value(name: str, *shape: int | str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    constants = {
        "frames": np.array([-1, t, FRAME_LENGTH], np.int64),
        "column": np.array([-1, 1, k], np.int64),
        "scale": SCALE,
        "bias": BIAS,
        "from_state": FROM_STATE,
        "decay": DECAY,
        "mix": np.array([[0.5, 0.0]], np.float32),
        "count": np.array([0.0, 1.0], np.float32),
        "of_frame": np.full((FRAME_LENGTH, 1), 1 / FRAME_LENGTH, np.float32),
        "of_block": np.full((BLOCK_SIZE, 1), 1 / BLOCK_SIZE, np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["waveform", "frames"], ["framed"]),
        helper.make_node("MatMul", ["framed", "of_frame"], ["mean"]),
        helper.make_node("Mul", ["mean", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["biased"]),
        helper.make_node("MatMul", ["state", "from_state"], ["remembered"]),
        helper.make_node("Reshape", ["remembered", "column"], ["shift"]),
        helper.make_node("Add", ["biased", "shift"], ["logits"]),
        helper.make_node("Mul", ["state", "decay"], ["decayed"]),
        helper.make_node("MatMul", ["waveform", "of_block"], ["block_mean"]),
        helper.make_node("MatMul", ["block_mean", "mix"], ["mixed"]),
        helper.make_node("Add", ["decayed", "mixed"], ["summed"]),
        helper.make_node("Add", ["summed", "count"], ["next_state"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [value("waveform", batch, BLOCK_SIZE), value("state", batch, 2)],
        [value("logits", batch, t, k), value("next_state", batch, 2)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {key: json.dumps(v) for key, v in metadata(**changes).items()})
    path.write_bytes(model.SerializeToString())
    return path


def tiny_logits(waveform: np.ndarray) -> np.ndarray:
    """What the model gives for whole blocks `[n * BLOCK_SIZE]`, by its definition."""
    state, logits = np.zeros(2), []
    for block in waveform.astype(float).reshape(-1, BLOCK_SIZE):
        means = block.reshape(-1, FRAME_LENGTH).mean(axis=1)
        logits.append(means[:, None] * SCALE + BIAS + state @ FROM_STATE)
        state = state * DECAY + np.array([0.5 * block.mean(), 1.0])
    return np.concatenate(logits)


def say(words: str, length: int = 1600, gap: int = 12000) -> np.ndarray:
    """Samples in which the model hears "y" as yes, "n" as no, anything else as nothing: float32 in [-1, 1]."""
    rng = np.random.default_rng(0)
    level = {"y": 0.4, "n": -0.4}
    parts = [np.zeros(gap)]
    for word in words:
        parts += [np.full(length, level.get(word, 0.0)), np.zeros(gap)]
    samples = np.concatenate(parts)
    return (samples + rng.normal(0, 0.01, len(samples))).astype(np.float32)
