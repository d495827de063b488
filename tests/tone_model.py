"""A model that needs no training and that every engine runs: a tone of 500 Hz says "yes", one of 2 kHz says "no"."""

import json
from pathlib import Path

import numpy as np
import onnx
import torch

from kws.config import FrontendConfig, RecurrentConfig
from kws.model.spotter import KeywordSpotter
from kws.onnx_export.onnx_file import export_onnx

LABELS = ("_silence_", "_unknown_", "yes", "no")
TONES = {"y": 500, "n": 2000}  # Hz


def write_tone_model(path: Path) -> Path:
    """Write it: each of its two tanh cells hears one mel band."""
    shape = RecurrentConfig(cell="rnn", hidden_size=2, conv_channels=[], time_stride=1, projection_size=0, pool_ms=200)
    made = KeywordSpotter(FrontendConfig(), shape, LABELS).eval()
    filters = made.frontend.mel_filters  # [bins, n_mels]
    made.normalize.std.fill_(4)
    with torch.no_grad():
        for name, values in made.named_parameters():
            values.zero_()
            if "weight_ih" in name:
                for unit, hertz in enumerate(TONES.values()):
                    values[unit, filters[round(hertz * 512 / 16000)].argmax()] = 1
            elif values.shape == (len(LABELS), 2):
                values[2, 0] = values[3, 1] = 6
            elif values.shape == (len(LABELS),):
                values[0] = 2
    export_onnx(made, path, hops_per_step=4)
    model = onnx.load(path)
    detector = next(entry for entry in model.metadata_props if entry.key == "detector")
    detector.value = json.dumps({"pooling": "sum", "smoothing_ms": 400, "score": "posterior"})
    onnx.save(model, path)
    return path


def say_tones(words: str, length: int = 3200, gap: int = 12000) -> np.ndarray:
    """Samples in which the model hears "y" as yes and "n" as no: float32 in [-1, 1]."""
    fade = np.minimum(1, np.minimum(np.arange(length), np.arange(length)[::-1]) / 400)
    parts = [np.zeros(gap)]
    for word in words:
        parts += [0.4 * fade * np.sin(2 * np.pi * TONES[word] / 16000 * np.arange(length)), np.zeros(gap)]
    samples = np.concatenate(parts)
    return (samples + np.random.default_rng(0).normal(0, 1e-4, len(samples))).astype(np.float32)
