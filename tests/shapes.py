"""Spotters of every kind of part, small and with random weights: what an export and an engine have to get right."""

import torch

from kws.config import FrontendConfig, RecurrentConfig, SpeechEmbeddingConfig
from kws.model.spotter import KeywordSpotter

LABELS = ("_silence_", "_unknown_", "yes", "no", "stop")


def spotter(frontend: dict, model: dict, seed: int = 0) -> KeywordSpotter:
    """Random weights, normalisation and batch statistics, so that every parameter counts."""
    torch.manual_seed(seed)
    config = SpeechEmbeddingConfig(**model) if "head_frames" in model else RecurrentConfig(**model)
    made = KeywordSpotter(FrontendConfig(**frontend), config, LABELS)
    for layer in made.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(layer.bias)
    made.normalize.mean.normal_(-4, 1)
    made.normalize.std.uniform_(3, 5)
    return made.eval()


# Every part of the engine: cells, depths, front ends, odd sizes, kernels, strides, an FFT with a radix-2 pass.
SHAPES = {
    "default": ({}, {"conv_channels": [8, 16], "hidden_size": 16, "projection_size": 24}),
    "gru": ({}, {"cell": "gru", "hidden_size": 19, "num_layers": 2, "conv_channels": [5, 7], "projection_size": 9}),
    "rnn on mfcc": (
        {"kind": "mfcc", "n_mfcc": 13},
        {"cell": "rnn", "hidden_size": 8, "conv_channels": [], "time_stride": 1, "projection_size": 0},
    ),
    "spectrogram": (
        {"kind": "spectrogram", "n_fft": 256, "win_ms": 12.0, "hop_ms": 5.0},
        {"conv_channels": [3], "conv_kernel": 5, "time_stride": 3, "projection_size": 0, "hidden_size": 12},
    ),
    "long window": (
        {"n_fft": 1024, "win_ms": 40.0, "hop_ms": 20.0, "f_max": 8000.0, "n_mels": 33},
        {"conv_channels": [4, 4, 4], "conv_kernel": 4, "time_stride": 2, "num_layers": 3, "hidden_size": 10},
    ),
    "two tanh layers": ({}, {"cell": "rnn", "num_layers": 2, "hidden_size": 9, "conv_channels": [4]}),
    "speech embedding": (
        {"n_mels": 32, "f_min": 60.0, "f_max": 3800.0, "mel_scale": "slaney", "log_offset": 1e-7},
        {"head_frames": 5},
    ),
    "phonemes": (
        {"n_mels": 32, "f_min": 60.0, "f_max": 3800.0, "mel_scale": "slaney", "log_offset": 1e-7},
        {"speech_convs": 15, "conv_channels": [], "time_stride": 1, "projection_size": 0, "hidden_size": 9},
    ),
    "odd window": (
        {"f_max": 4000.0, "sample_rate": 8000, "n_fft": 256, "win_ms": 25.125, "hop_ms": 10.0, "n_mels": 20},
        {"conv_channels": [6], "conv_kernel": 3, "time_stride": 1, "projection_size": 5, "hidden_size": 7},
    ),
}
