"""ONNX files: equal to torch and to a numpy LSTM, self-describing, and never left behind when wrong."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy_lstm import lstm
from shapes import SHAPES

from kws import __version__
from kws.config import FrontendConfig, RecurrentConfig, model_from_dict
from kws.export import ExportError, export_onnx
from kws.model.spotter import KeywordSpotter
from kws.onnx_export import onnx_file, parity
from kws.streaming import SpotterModel

LABELS = ("_silence_", "_unknown_", "yes", "no")


def make(**model):
    torch.manual_seed(0)
    options = {"hidden_size": 8, "conv_channels": [4], "conv_kernel": 3, "projection_size": 6, **model}
    spotter = KeywordSpotter(FrontendConfig(), RecurrentConfig(**options), LABELS)
    spotter.fit_normalization([torch.randn(4, 1600) * 0.1])
    return spotter.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    spotter = make()
    export_onnx(spotter, path, hops_per_step=4, card={"licence": "none"})
    return spotter, path


@torch.no_grad()
def chain(spotter, path, steps=50):
    """Largest differences of logits and state over chained steps from a random state."""
    session = onnxruntime.InferenceSession(str(path))
    block = session.get_inputs()[0].shape[1]
    rng = np.random.default_rng(5)
    state = rng.standard_normal((1, spotter.state_size)).astype(np.float32) * 0.3
    torch_state, worst = torch.from_numpy(state), 0.0
    for _ in range(steps):
        waveform = rng.standard_normal((1, block)).astype(np.float32) * 0.2
        logits, state = session.run(None, {"waveform": waveform, "state": state})
        torch_logits, torch_state = spotter(torch.from_numpy(waveform), torch_state)
        worst = max(worst, np.abs(logits - torch_logits.numpy()).max(), np.abs(state - torch_state.numpy()).max())
    return worst


def test_fifty_chained_steps_equal_torch(exported):
    assert chain(*exported) < 1e-4


@pytest.mark.parametrize("name", SHAPES)
def test_every_front_end_cell_and_depth_exports(name, exported_shape):
    assert chain(*exported_shape(name)) < 1e-4


@torch.no_grad()
def test_exported_lstm_equals_the_gate_equations(tmp_path):
    """No convolution, no projection: features from the torch front end, everything behind it in numpy."""
    spotter = make(conv_channels=[], time_stride=1, projection_size=0)
    export_onnx(spotter, tmp_path / "m.onnx", hops_per_step=10)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    rng = np.random.default_rng(0)
    waveform = rng.standard_normal((1, 1600)).astype(np.float32) * 0.1
    state = rng.standard_normal((1, spotter.state_size)).astype(np.float32) * 0.1
    logits, next_state = session.run(None, {"waveform": waveform, "state": state})
    context = spotter.frontend.state_size
    features, _ = spotter.frontend(torch.from_numpy(waveform), torch.from_numpy(state[:, :context]))
    x = ((features - spotter.normalize.mean) / spotter.normalize.std)[0].double().numpy()
    cell = {k: v.double().numpy() for k, v in spotter.classifier.recurrent.cell.named_parameters()}
    h, c = np.split(state[0, context:].astype(float), 2)
    bias = cell["bias_ih_l0"] + cell["bias_hh_l0"]
    y, h, c = lstm(x, h, c, cell["weight_ih_l0"], cell["weight_hh_l0"], bias)
    head = spotter.classifier.head
    expected = y @ head.weight.double().numpy().T + head.bias.double().numpy()
    np.testing.assert_allclose(logits[0], expected, atol=1e-5)
    np.testing.assert_allclose(next_state[0, context:], np.concatenate([h, c]), atol=1e-5)


def test_the_file_describes_itself(exported):
    spotter, path = exported
    graph = onnx.load(path)
    metadata = {p.key: json.loads(p.value) for p in graph.metadata_props}
    assert metadata["kws_version"] == __version__
    assert metadata["labels"] == list(LABELS)
    assert (metadata["sample_rate"], metadata["hop_length"], metadata["block_size"]) == (16000, 160, 640)
    assert FrontendConfig(**metadata["frontend"]) == spotter.frontend_config
    assert model_from_dict(metadata["model"]) == spotter.model_config
    assert metadata["card"]["parameters"] == spotter.n_parameters
    assert metadata["card"]["licence"] == "none"
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
    model = SpotterModel(path)
    assert (model.labels, model.block_size, model.state_size) == (LABELS, 640, spotter.state_size)


def test_a_parity_error_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "TOLERANCE", 1e-12)
    with pytest.raises(ExportError, match="differ by"):
        export_onnx(make(), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_is_ignored_is_noticed(tmp_path, monkeypatch):
    trace = onnx_file.trace

    def without_state(spotter, *options):
        graph = trace(spotter, *options)
        zeros = onnx.numpy_helper.from_array(np.zeros((1, spotter.state_size), np.float32), "zeros")
        graph.graph.initializer.append(zeros)
        for node in graph.graph.node:
            node.input[:] = ["zeros" if name == "state" else name for name in node.input]
        return graph

    monkeypatch.setattr(onnx_file, "trace", without_state)
    with pytest.raises(ExportError, match="differ"):
        export_onnx(make(), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_hops_that_do_not_fill_a_frame_are_refused(tmp_path):
    with pytest.raises(ValueError, match="hops_per_step 3 is not a multiple of the 2 hops"):
        export_onnx(make(), tmp_path / "m.onnx", hops_per_step=3)
