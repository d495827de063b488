"""The spotter against a numpy LSTM, and the contract of every stateful layer: any blocks give the same output."""

import numpy as np
import pytest
import torch
from composing import compose_config
from numpy_lstm import lstm

from kws.config import FrontendConfig, RecurrentConfig, whole_frames
from kws.model.frontend import Frontend, Normalization
from kws.model.layer import Serial, verify_contract
from kws.model.recurrent import CausalConv, Recurrent
from kws.model.spotter import KeywordSpotter
from kws.runtime.detector import Detector, DetectorConfig, pool_posteriors

LABELS = ("_silence_", "_unknown_", "yes", "no")
MODELS = {
    "small": RecurrentConfig(hidden_size=12, conv_channels=[4, 6], conv_kernel=3, projection_size=8),
    "wide_kernel": RecurrentConfig(hidden_size=12, conv_channels=[4], conv_kernel=5, time_stride=1, projection_size=0),
    "plain": RecurrentConfig(hidden_size=12, conv_channels=[], time_stride=1, projection_size=0),
    "two_layers": RecurrentConfig(hidden_size=12, num_layers=2, conv_channels=[4], conv_kernel=3),
    "gru": RecurrentConfig(cell="gru", hidden_size=12, conv_channels=[4], conv_kernel=3),
    "rnn": RecurrentConfig(cell="rnn", hidden_size=12, conv_channels=[4], conv_kernel=3, pooling="mean", pool_ms=300),
}


def make(model, seed=0):
    torch.manual_seed(seed)
    return KeywordSpotter(FrontendConfig(), model, LABELS).eval()


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.1


FRONTENDS = {
    "log_mel": FrontendConfig(),
    "mfcc": FrontendConfig(kind="mfcc"),
    "spectrogram": FrontendConfig(kind="spectrogram"),
    "no_overlap": FrontendConfig(win_ms=20, hop_ms=20),  # no state
}
LAYERS = {
    **{
        f"frontend {name}": lambda config=config: (Frontend(config), noise(3, 320 * 7))
        for name, config in FRONTENDS.items()
    },
    "conv": lambda: (CausalConv(2, 3, n_bands=6, kernel=3, time_stride=1), noise(3, 2, 9, 6)),
    "conv that strides": lambda: (CausalConv(2, 3, n_bands=6, kernel=5, time_stride=2), noise(3, 2, 18, 6)),
    "conv without overlap": lambda: (CausalConv(2, 3, n_bands=6, kernel=2, time_stride=2), noise(3, 2, 18, 6)),
    **{
        f"{layers} {cell}": lambda cell=cell, layers=layers: (
            Recurrent(5, RecurrentConfig(cell=cell, hidden_size=7, num_layers=layers)),
            noise(3, 11, 5),
        )
        for cell in ("lstm", "gru", "rnn")
        for layers in (1, 2)
    },
    "no layer": lambda: (Serial(), noise(3, 11, 5)),
    "stateless layers": lambda: (Serial(Normalization(5), torch.nn.Linear(5, 2)), noise(3, 11, 5)),
    "layers in layers": lambda: (
        Serial(
            Serial(Recurrent(5, RecurrentConfig(hidden_size=7)), torch.nn.ReLU()),
            Recurrent(7, RecurrentConfig(cell="gru", hidden_size=3)),
        ),
        noise(3, 11, 5),
    ),
    **{f"spotter {name}": lambda config=config: (make(config), noise(3, 160 * 22)) for name, config in MODELS.items()},
    **{
        f"classifier {name}": lambda config=config: (make(config).classifier, noise(3, 22, 40))
        for name, config in MODELS.items()
    },
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_keeps_the_contract(name):
    torch.manual_seed(0)
    layer, x = LAYERS[name]()
    verify_contract(layer.eval(), x, torch.Generator().manual_seed(2), time_axis=2 if name.startswith("conv") else 1)


class Broken(torch.nn.Module):
    """A sum over time that goes wrong in one way."""

    state_size, stride = 1, 1

    def __init__(self, fault):
        super().__init__()
        self.fault, self.hidden = fault, 0.0
        self.state_size = 2 if fault == "size" else 1

    def forward(self, x, state):
        if self.fault == "hidden":  # state as an attribute of the module
            self.hidden = self.hidden + x.mean()
            return x + state + self.hidden, state + x.sum(1, keepdim=True)
        if self.fault == "lookahead":
            return x + torch.cat([x[:, 1:], x[:, :1] * 0], 1), state + x.sum(1, keepdim=True)
        if self.fault == "lanes":
            return x - x.mean(0), state + x.sum(1, keepdim=True)
        if self.fault == "ends":
            return state + x.cumsum(1), state
        if self.fault == "size":
            return x, state[:, :1] + x.sum(1, keepdim=True)
        if self.fault == "dtype":
            return x, (state + x.sum(1, keepdim=True)).double()
        if self.fault == "steps":
            return x[:, 1:], state + x.sum(1, keepdim=True)
        total = state + x.cumsum(1)
        if self.fault == "in place":
            state += x.sum(1, keepdim=True)
            return total, state
        return total, total[:, -1:]


FAULTS = {
    "lookahead": "cut at",
    "lanes": "lane 0 alone",
    "ends": "nothing changes",
    "size": r"becomes \[3, 1\]",
    "dtype": "becomes torch.float64",
    "steps": "makes 8 steps, not 9",
    "hidden": "cut at",
    "in place": "changes the state",
}


def test_a_sum_keeps_the_contract():
    verify_contract(Broken(""), noise(3, 9), torch.Generator())


@pytest.mark.parametrize("fault", FAULTS)
def test_the_contract_finds(fault):
    with pytest.raises(AssertionError, match=FAULTS[fault]):
        verify_contract(Broken(fault), noise(3, 9), torch.Generator())


def test_layers_in_a_row_are_their_composition():
    torch.manual_seed(0)
    first, second = (
        Recurrent(5, RecurrentConfig(hidden_size=4)),
        Recurrent(4, RecurrentConfig(cell="gru", hidden_size=3)),
    )
    serial, x = Serial(first, torch.nn.ReLU(), second), noise(2, 6, 5)
    state = noise(2, serial.state_size)
    y, next_state = serial(x, state)
    between, first_state = first(x, state[:, :8])
    expected, second_state = second(between.relu(), state[:, 8:])
    assert (first.state_size, second.state_size, serial.state_size, serial.stride) == (8, 3, 11, 1)
    assert torch.equal(y, expected)
    assert torch.equal(next_state, torch.cat([first_state, second_state], 1))


def test_strides_multiply():
    spotter = make(MODELS["small"])
    assert (spotter.frontend.stride, spotter.classifier.stride, spotter.stride) == (160, 2, 320)
    logits, _ = spotter(noise(1, 6400), spotter.initial_state(1))
    assert logits.shape == (1, 20, len(LABELS))


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
    layer = Recurrent(5, RecurrentConfig(hidden_size=7, conv_channels=[], time_stride=1))
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
    layer = Recurrent(5, RecurrentConfig(hidden_size=7, forget_bias=1.5, conv_channels=[], time_stride=1))
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
    spotter = make(RecurrentConfig(pooling=pooling, pool_ms=1000))
    logits = np.random.default_rng(0).normal(0, 5, (4, 30, 4)).astype(np.float32)
    ours = spotter.pool(torch.from_numpy(logits)).exp().numpy()
    np.testing.assert_allclose(ours, pool_posteriors(logits, pooling), atol=1e-5)
    softmax = np.exp(logits - logits.max(-1, keepdims=True))
    softmax /= softmax.sum(-1, keepdims=True)
    by_hand = np.exp(logits).sum(1) / np.exp(logits).sum((1, 2))[:, None] if pooling == "sum" else softmax.mean(1)
    np.testing.assert_allclose(ours, by_hand, atol=1e-5)


def test_pool_looks_at_the_end_of_the_clip_only():
    spotter = make(RecurrentConfig(pooling="mean", pool_ms=200))
    logits = torch.randn(2, 50, 4)
    changed = logits.clone()
    changed[:, :40] = 9
    assert spotter.pool_frames == 10
    torch.testing.assert_close(spotter.pool(logits), spotter.pool(changed))


@pytest.mark.parametrize(
    ("milliseconds", "frames"),
    [(0, 1), (1, 1), (20, 1), (20.5, 2), (490, 25), (500, 25), (500.000000001, 25), (510, 26)],
)
def test_milliseconds_are_rounded_up_to_frames_everywhere(milliseconds, frames):
    """Of 20 ms; by training as by the detector."""
    assert whole_frames(milliseconds, 16000, 320) == frames
    if milliseconds:
        spotter = make(RecurrentConfig(hidden_size=4, conv_channels=[2], pool_ms=milliseconds))
        assert spotter.pool_frames == frames
    detector = Detector(LABELS, 320, 16000, DetectorConfig(smoothing_ms=milliseconds))
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, 4)).astype(np.float32)
    detector.process(logits)
    np.testing.assert_allclose(detector.posteriors, pool_posteriors(logits[-frames:], "sum"), rtol=1e-9)


def test_a_window_of_no_whole_number_of_frames_is_one_window():
    """hop_ms=20 and a stride of 2: 500 ms are 12.5 frames, and 13 for training and detector alike."""
    frontend = FrontendConfig(hop_ms=20)
    spotter = KeywordSpotter(frontend, RecurrentConfig(hidden_size=4, conv_channels=[2]), LABELS)
    assert (spotter.frame_length, spotter.pool_frames, whole_frames(500, 16000, 640)) == (640, 13, 13)


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
    normalised = (features - spotter.normalize.mean) / spotter.normalize.std
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
        RecurrentConfig(**values)


def test_a_block_that_is_no_multiple_of_the_frame_is_refused():
    spotter = make(MODELS["small"])
    with pytest.raises(ValueError, match="480 samples is not a multiple of 320"):
        spotter(torch.zeros(1, 480), spotter.initial_state(1))
