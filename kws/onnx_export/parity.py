"""An exported graph against torch, and an int8 graph against the float32 graph that it was made from."""

from __future__ import annotations

import numpy as np
import torch

from kws.errors import KwsError
from kws.model.spotter import KeywordSpotter
from kws.onnx_export.trace import after_frontend
from kws.runtime.onnx_model import open_session
from kws.runtime.posteriors import pool_posteriors
from kws.system.arrays import Float32

STEPS, TOLERANCE = 50, 1e-4
INT8_TOLERANCE = 0.2  # mean difference of posteriors; a wrong scale gives more. Accuracy is judged by kws.evaluate


class ExportError(KwsError):
    """An exported model that does not do what the checkpoint does."""


def _noise(rng: np.random.Generator, *shape: int) -> Float32:
    return (rng.standard_normal(shape) * 0.1).astype(np.float32)


@torch.inference_mode()
def check_float(spotter: KeywordSpotter, model: bytes, variant: str, hops: int) -> None:
    """Chain 50 steps of noise from a random state through torch and onnxruntime; `ExportError` where they differ."""
    session = open_session(model)
    streams = session.get_inputs()[0].shape[0]
    streams = streams if isinstance(streams, int) else 3
    rng = np.random.default_rng(0)
    step = spotter if variant == "waveform" else after_frontend(spotter)
    state = _noise(rng, streams, step.state_size)
    torch_state = torch.from_numpy(state)
    context = torch.zeros(streams, spotter.frontend.state_size)
    for i in range(STEPS):
        block = torch.from_numpy(_noise(rng, streams, hops * spotter.frontend_config.hop_length))
        if variant == "features":
            block, context = spotter.frontend(block, context)
        logits, state = session.run(["logits", "next_state"], {variant: block.numpy(), "state": state})
        torch_logits, torch_state = step(block, torch_state)
        for name, ours, theirs in (("logits", logits, torch_logits), ("state", state, torch_state)):
            error = float(np.abs(ours - theirs.numpy()).max())
            if not error <= TOLERANCE:
                raise ExportError(
                    f"{name} of onnxruntime and torch differ by {error:.2e} at step {i}; nothing was written"
                )


def check_int8(exact: bytes, quantized: bytes) -> None:
    """Chain 50 steps of noise through both; `ExportError` if the posteriors of the int8 model lie elsewhere."""
    sessions = [open_session(model) for model in (exact, quantized)]
    rng = np.random.default_rng(0)
    first, state = sessions[0].get_inputs()
    states = [np.zeros(state.shape, np.float32)] * 2
    differences = []
    for _ in range(STEPS):
        block = _noise(rng, *first.shape)
        logits = []
        for i, session in enumerate(sessions):
            out, states[i] = session.run(["logits", "next_state"], {first.name: block, "state": states[i]})
            logits.append(out)
        ours, theirs = (pool_posteriors(x, "mean") for x in logits)
        differences.append(np.abs(ours - theirs).max())
    error = float(np.mean(differences))
    if not error <= INT8_TOLERANCE:
        raise ExportError(f"posteriors of the int8 model differ by {error:.2f} from float32; nothing was written")
