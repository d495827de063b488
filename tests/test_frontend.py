"""The front end against librosa, and its state against one large step."""

import librosa
import numpy as np
import pytest
import scipy.fft
import torch

from kws.config import FrontendConfig
from kws.model.frontend import Frontend

RATE = 16000
CONFIGS = [
    FrontendConfig(),
    FrontendConfig(kind="mfcc", n_mfcc=13, f_max=7600, n_mels=64, win_ms=32, hop_ms=20),
    FrontendConfig(kind="spectrogram", win_ms=16, n_fft=256, hop_ms=8),
    FrontendConfig(n_mels=32, f_min=60, f_max=3800, mel_scale="slaney"),
]


def speech_like(n, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(n) / RATE
    tones = sum(
        np.sin(2 * np.pi * f * t + rng.uniform(0, 6)) / (i + 1) for i, f in enumerate((180, 540, 1300, 2600, 5200))
    )
    return (0.1 * tones * (1 + np.sin(2 * np.pi * 3 * t)) + 0.01 * rng.standard_normal(n)).astype(np.float32)


def run(config, waveform):
    frontend = Frontend(config)
    features, state = frontend(torch.from_numpy(waveform)[None], torch.zeros(1, frontend.state_size))
    return features[0].numpy(), state[0].numpy()


def librosa_features(config, waveform):
    """The same features from librosa, whose frames are centred on a window padded to n_fft: hence the padding here."""
    left = (config.n_fft - config.win_length) // 2
    padded = np.pad(waveform, (config.context_length + left, config.n_fft))
    stft = librosa.stft(
        padded, n_fft=config.n_fft, win_length=config.win_length, hop_length=config.hop_length, center=False
    )
    power = np.abs(stft[:, : len(waveform) // config.hop_length]) ** 2
    if config.kind != "spectrogram":
        power = librosa.filters.mel(
            sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels, fmin=config.f_min, fmax=config.f_max,
            htk=config.mel_scale == "htk", norm=None if config.mel_scale == "htk" else "slaney",
        ) @ power  # fmt: skip
    log_power = np.log(power + config.log_offset)
    if config.kind == "mfcc":
        return scipy.fft.dct(log_power, type=2, norm="ortho", axis=0)[: config.n_mfcc].T
    return log_power.T


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.kind} {c.mel_scale}")
def test_equals_librosa(config):
    waveform = speech_like(16000)
    features, _ = run(config, waveform)
    expected = librosa_features(config, waveform)
    assert features.shape == expected.shape == (16000 // config.hop_length, config.n_features)
    np.testing.assert_allclose(features, expected, atol=2e-3)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.kind} {c.mel_scale}")
@pytest.mark.parametrize("hops", [1, 3, 10])
def test_blocks_equal_one_step(config, hops):
    waveform = speech_like(config.hop_length * 30)
    whole, last_state = run(config, waveform)
    frontend = Frontend(config)
    state, parts = torch.zeros(1, frontend.state_size), []
    for block in np.split(waveform, 30 // hops):
        features, state = frontend(torch.from_numpy(block)[None], state)
        parts.append(features[0].numpy())
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)
    np.testing.assert_array_equal(state[0].numpy(), last_state)


def test_is_causal():
    waveform = speech_like(16000)
    changed = waveform.copy()
    changed[8000:] = 0.5
    before, after = run(FrontendConfig(), waveform)[0], run(FrontendConfig(), changed)[0]
    np.testing.assert_array_equal(before[:50], after[:50])
    assert not np.allclose(before[50], after[50])


def test_digital_silence_is_the_log_of_the_offset():
    features, _ = run(FrontendConfig(), np.zeros(1600, np.float32))
    np.testing.assert_allclose(features, np.log(1e-6), rtol=1e-6)


def test_a_tone_lands_in_its_band():
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / RATE).astype(np.float32)
    features, _ = run(FrontendConfig(), tone)
    centres = librosa.mel_frequencies(42, fmin=20, fmax=4000, htk=True)[1:-1]
    assert abs(centres[features[50].argmax()] - 1000) < 60


def test_a_block_that_is_no_multiple_of_the_hop_is_refused():
    with pytest.raises(ValueError, match="161 samples is not a multiple of hop_length 160"):
        run(FrontendConfig(), np.zeros(161, np.float32))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hop_ms": 30}, "hop_ms 30 is longer than frontend.win_ms"),
        ({"n_mels": 300}, "n_mels is 300; it must be between 1 and 257"),
        ({"f_max": 9000}, "f_max 9000 Hz is above the Nyquist frequency 8000"),
        ({"f_min": 5000}, "f_min 5000 Hz must be"),
        ({"hop_ms": 10.03}, "choose a whole number"),
        ({"win_ms": 40}, "n_fft 512 is shorter than the window of 640"),
        ({"kind": "pcen"}, "choose one of log_mel, mfcc, spectrogram"),
        ({"n_mfcc": 41}, "n_mfcc is 41"),
        ({"hop_ms": 0}, "hop_ms is 0; it must be between 0.01"),
        ({"log_offset": 0}, "log_offset is 0"),
    ],
)
def test_values_out_of_range_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        FrontendConfig(**values)
