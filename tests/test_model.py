"""The spotter against a numpy LSTM, and the contract of every stateful layer: any blocks give the same output."""

import numpy as np
import pytest
import torch
from composing import compose_config
from numpy_lstm import lstm

from kws.config import FrontendConfig, ModelConfig
from kws.model.spotter import CausalConv, KeywordSpotter, Recurrent
from kws.runtime.detector import pool_posteriors

LABELS = ("_silence_", "_unknown_", "yes", "no")
MODELS = {
    "small": ModelConfig(hidden_size=12, conv_channels=[4, 6], conv_kernel=3, projection_size=8),
    "wide_kernel": ModelConfig(hidden_size=12, conv_channels=[4], conv_kernel=5, time_stride=1, projection_size=0),
    "plain": ModelConfig(hidden_size=12, conv_channels=[], time_stride=1, projection_size=0),
    "two_layers": ModelConfig(hidden_size=12, num_layers=2, conv_channels=[4], conv_kernel=3),
    "gru": ModelConfig(cell="gru", hidden_size=12, conv_channels=[4], conv_kernel=3),
    "rnn": ModelConfig(cell="rnn", hidden_size=12, conv_channels=[4], conv_kernel=3, pooling="mean", pool_ms=300),
}


def make(model, seed=0):
    torch.manual_seed(seed)
    return KeywordSpotter(FrontendConfig(), model, LABELS).eval()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("hops", [2, 4, 20])
@torch.no_grad()
def test_blocks_equal_one_step(name, hops):
    spotter = make(MODELS[name])
    waveform = torch.randn(3, 160 * 40) * 0.1
    state = torch.randn(3, spotter.state_size) * 0.1
    whole, last_state = spotter(waveform, state)
    assert whole.shape == (3, 6400 // spotter.frame_length, len(LABELS))
    parts = []
    for block in waveform.split(160 * hops, dim=1):
        logits, state = spotter(block, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, last_state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_lanes_do_not_mix(name):
    spotter = make(MODELS[name])
    waveform = torch.randn(3, 3200) * 0.1
    together, states = spotter(waveform, spotter.initial_state(3))
    for lane in range(3):
        alone, state = spotter(waveform[lane : lane + 1], spotter.initial_state(1))
        torch.testing.assert_close(together[lane : lane + 1], alone, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(states[lane : lane + 1], state, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_state_carries_the_past():
    spotter = make(MODELS["small"])
    waveform = torch.randn(1, 3200) * 0.1
    _, state = spotter(torch.randn(1, 3200), spotter.initial_state(1))
    fresh, _ = spotter(waveform, spotter.initial_state(1))
    carried, _ = spotter(waveform, state)
    assert not torch.allclose(fresh, carried, atol=1e-3)


@torch.no_grad()
def test_lstm_equals_the_gate_equations():
    torch.manual_seed(0)
    layer = Recurrent(5, ModelConfig(hidden_size=7, conv_channels=[], time_stride=1))
    x, state = torch.randn(1, 20, 5), torch.randn(1, layer.state_size)
    y, next_state = layer(x, state)
    cell = {name: value.double().numpy() for name, value in layer.cell.named_parameters()}
    expected, h, c = lstm(
        x[0].double().numpy(), state[0, :7].double().numpy(), state[0, 7:].double().numpy(),
        cell["weight_ih_l0"], cell["weight_hh_l0"], cell["bias_ih_l0"] + cell["bias_hh_l0"],
    )  # fmt: skip
    np.testing.assert_allclose(y[0].numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(next_state[0].numpy(), np.concatenate([h, c]), atol=1e-6)


def test_forget_gate_starts_open():
    layer = Recurrent(5, ModelConfig(hidden_size=7, forget_bias=1.5, conv_channels=[], time_stride=1))
    total = (layer.cell.bias_ih_l0 + layer.cell.bias_hh_l0).detach().numpy()
    np.testing.assert_allclose(total[7:14], 1.5)
    assert not np.allclose(total[:7], 1.5)


@torch.no_grad()
def test_convolution_equals_a_direct_sum():
    torch.manual_seed(0)
    layer = CausalConv(2, 3, n_bands=6, kernel=3, time_stride=2).eval()
    x = torch.randn(1, 2, 8, 6)
    y, history = layer(x, torch.zeros(1, layer.state_size))
    padded = np.pad(x[0].numpy(), ((0, 0), (1, 0), (1, 1)))  # one frame of history, one band on each side
    weight = layer.conv.weight.numpy()
    expected = np.zeros((3, 4, 3))
    for t in range(4):
        for band in range(3):
            patch = padded[:, 2 * t : 2 * t + 3, 2 * band : 2 * band + 3]
            expected[:, t, band] = np.maximum((weight * patch).sum((1, 2, 3)) / np.sqrt(1 + 1e-5), 0)
    np.testing.assert_allclose(y[0].numpy(), expected, atol=1e-5)
    np.testing.assert_array_equal(history[0].numpy(), x[0, :, -1:].flatten().numpy())


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_torch_and_numpy_pool_alike(pooling):
    spotter = make(ModelConfig(pooling=pooling, pool_ms=1000))
    logits = np.random.default_rng(0).normal(0, 5, (4, 30, 4)).astype(np.float32)
    ours = spotter.pool(torch.from_numpy(logits)).exp().numpy()
    np.testing.assert_allclose(ours, pool_posteriors(logits, pooling), atol=1e-5)
    softmax = np.exp(logits - logits.max(-1, keepdims=True))
    softmax /= softmax.sum(-1, keepdims=True)
    by_hand = np.exp(logits).sum(1) / np.exp(logits).sum((1, 2))[:, None] if pooling == "sum" else softmax.mean(1)
    np.testing.assert_allclose(ours, by_hand, atol=1e-5)


def test_pool_looks_at_the_end_of_the_clip_only():
    spotter = make(ModelConfig(pooling="mean", pool_ms=200))
    logits = torch.randn(2, 50, 4)
    changed = logits.clone()
    changed[:, :40] = 9
    assert spotter.pool_frames == 10
    torch.testing.assert_close(spotter.pool(logits), spotter.pool(changed))


@pytest.mark.parametrize(("preset", "limit"), [("small", 100_000), ("tiny", 30_000)])
def test_presets_stay_below_their_limits(preset, limit):
    config = compose_config("train", [f"model={preset}"])
    labels = [str(i) for i in range(12)]
    n = KeywordSpotter(config.frontend, config.model, labels).n_parameters
    assert 0.75 * limit < n <= limit


def test_normalisation_gives_zero_mean_and_unit_variance():
    spotter = make(MODELS["small"])
    waveforms = [torch.randn(8, 16000) * 0.1, torch.randn(8, 16000) * 0.01]
    spotter.fit_normalization(waveforms)
    features, _ = spotter.frontend(torch.cat(waveforms), torch.zeros(16, spotter.frontend.state_size))
    normalised = (features - spotter.feature_mean) / spotter.feature_std
    np.testing.assert_allclose(normalised.mean((0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(normalised.std((0, 1)), 1, atol=1e-2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cell": "transformer"}, "choose one of lstm, gru, rnn"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"conv_channels": [], "time_stride": 2}, "time_stride 2 needs model.conv_channels"),
        ({"dropout": 1.5}, "dropout is 1.5"),
        ({"pool_ms": 0}, "pool_ms is 0"),
        ({"time_stride": 9}, "skips frames"),
    ],
)
def test_values_out_of_range_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**values)


def test_a_block_that_is_no_multiple_of_the_frame_is_refused():
    spotter = make(MODELS["small"])
    with pytest.raises(ValueError, match="480 samples is not a multiple of 320"):
        spotter(torch.zeros(1, 480), spotter.initial_state(1))
