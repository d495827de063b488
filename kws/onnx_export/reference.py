"""What a firmware engineer needs to make the features: the front end's constants and a table to check against."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import torch

from kws.config import FrontendConfig
from kws.model.spotter import KeywordSpotter

FRAMES = 20
NOTE = (
    "Feed `samples` (int16; divide by 32768) as the start of a stream: the samples before them are zeros. "
    "Frame t ends with sample (t + 1) * hop_length - 1. `power` are the squared magnitudes of the DFT of frame "
    "`power_of_frame`; `features[t]` is what the model takes, natural logarithms; aim at a difference below 0.01. "
    "`logits` are the float32 model's, from the zero state."
)


def constants(config: FrontendConfig) -> dict[str, Any]:
    """Every number of the front end, as `kws.model.frontend` uses it; frequencies in Hz, lengths in samples."""
    values: dict[str, Any] = {
        "kind": config.kind,
        "sample_rate": config.sample_rate,
        "win_length": config.win_length,
        "hop_length": config.hop_length,
        "n_fft": config.n_fft,
        "window": "hann, periodic: w[n] = 0.5 - 0.5 cos(2 pi n / win_length); the DFT's other inputs are 0",
        "power": "re^2 + im^2, not divided by anything",
        "features": "ln(power + log_offset)",
        "log_offset": config.log_offset,
        "n_features": config.n_features,
    }
    if config.kind != "spectrogram":
        import librosa

        htk = config.mel_scale == "htk"
        edges = librosa.mel_frequencies(config.n_mels + 2, fmin=config.f_min, fmax=config.f_max, htk=htk)
        top = "1" if htk else "2 / (edge m + 2 - edge m)"
        values["features"] = "ln(sum over bins of filter * power + log_offset)"
        values["mel_filters"] = (
            f"band m: a triangle over bins k * sample_rate / n_fft, 0 at edge m, {top} at m + 1, 0 at m + 2"
        )
        values["mel_edges_hz"] = np.round(edges, 4).tolist()
    if config.kind == "mfcc":
        values["features"] += ", then the DCT-II with orthonormal scaling, its first n_features numbers"
    return values


@torch.inference_mode()
def table(spotter: KeywordSpotter) -> str:
    """JSON, a line for each frame: samples int16, the features float that must come of them, the model's logits."""
    config, hop = spotter.frontend_config, spotter.frontend_config.hop_length
    samples = _samples(FRAMES * hop // spotter.frame_length * spotter.frame_length, config.sample_rate)
    waveform = torch.from_numpy(samples.astype(np.float32) / 32768)[None]
    features, _ = spotter.frontend(waveform, waveform.new_zeros(1, spotter.frontend.state_size))
    logits, _ = spotter(waveform, spotter.initial_state(1))
    worked = len(features[0]) - 1
    frame = waveform[:, (worked + 1) * hop - config.win_length : (worked + 1) * hop]
    rows = {
        "samples": samples.reshape(-1, hop).tolist(),
        "features": np.round(features[0].numpy().astype(float), 4).tolist(),
        "logits": np.round(logits[0].numpy().astype(float), 4).tolist(),
    }
    values = {
        "note": NOTE,
        "constants": constants(config),
        "frontend": dataclasses.asdict(config),
        "labels": list(spotter.labels),
        "power_of_frame": worked,
        "power": [float(f"{x:.5g}") for x in spotter.frontend.power_spectrum(frame)[0].tolist()],
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()]
    for key, frames in rows.items():
        lines.append(f" {json.dumps(key)}: [\n  " + ",\n  ".join(json.dumps(row) for row in frames) + "\n ]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _samples(length: int, sample_rate: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Silence, then a rising tone over quiet noise, then full scale: each reveals another mistake."""
    time = np.arange(length) / sample_rate
    noise = np.random.default_rng(0).standard_normal(length) * 30
    tone = 8000 * np.sin(2 * np.pi * (200 * time + 8000 * time**2))
    loud = 32767 * np.sign(np.sin(2 * np.pi * 440 * time))
    parts = np.select([time < 0.02, time < 0.15], [noise * 0, noise + tone], loud)
    return np.clip(np.round(parts), -32768, 32767).astype(np.int16)
