"""The files that leave the house: features in, int8, batches; their sizes, and what they refuse."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from kws import entry
from kws.config import FrontendConfig, RecurrentConfig
from kws.export import ExportError, export_onnx
from kws.export import export as run_export
from kws.model.checkpoint import save_checkpoint
from kws.model.frontend import Frontend
from kws.model.spotter import KeywordSpotter
from kws.onnx_export import parity
from kws.onnx_export.device_frontend import DeviceFrontend
from kws.onnx_export.quantize import quantize
from kws.runtime.onnx_model import ModelError, SpotterModel, open_session

LABELS = ("_silence_", "_unknown_", "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
TINY = RecurrentConfig(hidden_size=48, conv_channels=[12, 20, 32], projection_size=32)
SMALL = RecurrentConfig(hidden_size=88, conv_channels=[24, 32, 48], projection_size=64)


def make(config):
    torch.manual_seed(0)
    spotter = KeywordSpotter(FrontendConfig(), config, LABELS)
    spotter.fit_normalization([torch.randn(4, 1600) * 0.1])
    return spotter.eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The tiny preset in every variant and precision."""
    folder, spotter = tmp_path_factory.mktemp("variants"), make(TINY)
    paths = {}
    for variant in ("waveform", "features"):
        for precision in ("float32", "int8"):
            paths[variant, precision] = folder / f"{variant}-{precision}.onnx"
            export_onnx(spotter, paths[variant, precision], variant=variant, precision=precision)
    return spotter, paths


def noise(*shape):
    return (np.random.default_rng(1).standard_normal(shape) * 0.1).astype(np.float32)


def test_the_waveform_variant_adds_less_than_20_kb(files):
    _, paths = files
    for precision in ("float32", "int8"):
        difference = paths["waveform", precision].stat().st_size - paths["features", precision].stat().st_size
        assert 0 < difference < 6_000


def test_int8_keeps_the_size_budget(files, tmp_path):
    spotter, paths = files
    assert spotter.n_parameters < 30_000
    assert paths["waveform", "int8"].stat().st_size < 45_000
    small = make(SMALL)
    export_onnx(small, tmp_path / "small.onnx", precision="int8")
    assert small.n_parameters < 100_000
    assert (tmp_path / "small.onnx").stat().st_size < 130_000


@torch.no_grad()
def test_features_and_waveform_agree(files):
    spotter, paths = files
    session = open_session(str(paths["features", "float32"]))
    waveform = torch.from_numpy(noise(1, 3200))
    features, _ = spotter.frontend(waveform, torch.zeros(1, spotter.frontend.state_size))
    expected, _ = spotter(waveform, spotter.initial_state(1))
    state = np.zeros((1, spotter.classifier.state_size), np.float32)
    logits = []
    for block in np.split(features.numpy(), 10, axis=1):
        out, state = session.run(None, {"features": block, "state": state})
        logits.append(out)
    np.testing.assert_allclose(np.concatenate(logits, axis=1), expected.numpy(), atol=1e-4)


def test_standard_operators_only_save_for_the_quantised_lstm(files):
    for (_, precision), path in files[1].items():
        graph = onnx.load(path)
        onnx.checker.check_model(graph)
        operators = {node.op_type for node in graph.graph.node if node.domain not in ("", "ai.onnx")}
        assert operators == (set() if precision == "float32" else {"DynamicQuantizeLSTM"})
        assert graph.ir_version <= 9  # what onnxruntime 1.17 reads
        assert max(opset.version for opset in graph.opset_import if not opset.domain) <= 20


def test_int8_stays_near_float32(files):
    _, paths = files
    waveform = noise(16000)
    ours, exact = (SpotterModel(paths["waveform", p]).logits(waveform) for p in ("int8", "float32"))
    assert 0 < np.abs(ours - exact).max() < 0.2


def test_an_int8_model_that_strays_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "INT8_TOLERANCE", 1e-9)
    with pytest.raises(ExportError, match="posteriors of the int8 model differ"):
        export_onnx(make(TINY), tmp_path / "m.onnx", precision="int8")
    assert list(tmp_path.iterdir()) == []


def test_the_front_end_stays_exact_in_int8(files):
    """The state begins with the audio context; nothing of the front end may be among the quantised weights."""
    graph = onnx.load(files[1]["waveform", "int8"])
    normalised = next(i for i, node in enumerate(graph.graph.node) if node.op_type == "Sub")
    before = {node.op_type for node in list(graph.graph.node)[:normalised]}
    assert "MatMul" in before
    products = [node for node in list(graph.graph.node)[:normalised] if node.op_type == "MatMulInteger"]
    assert products == []


def test_quantising_twice_is_refused(files):
    with pytest.raises(ValueError, match="quantised already"):
        quantize(onnx.load(files[1]["waveform", "int8"]))


def test_int8_of_several_streams_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size 8 does not go with precision int8"):
        export_onnx(make(TINY), tmp_path / "m.onnx", precision="int8", batch_size=8)
    assert list(tmp_path.iterdir()) == []


def test_the_runtime_explains_why_it_takes_no_features(files):
    with pytest.raises(ModelError, match=r"takes features, not audio.*--variant waveform"):
        SpotterModel(files[1]["features", "float32"])


@pytest.mark.parametrize("batch_size", [0, 3])
def test_batches_equal_single_streams(batch_size, files, tmp_path):
    spotter, paths = files
    export_onnx(spotter, tmp_path / "b.onnx", batch_size=batch_size)
    model, single = SpotterModel(tmp_path / "b.onnx"), SpotterModel(paths["waveform", "float32"])
    assert model.batch_size == (batch_size or None)
    waveform, state = noise(3, 320), noise(3, model.state_size)
    logits, states = model.step(waveform, state)
    for i in range(3):
        one, one_state = single.step(waveform[i : i + 1], state[i : i + 1])
        np.testing.assert_allclose(logits[i], one[0], atol=1e-5)
        np.testing.assert_allclose(states[i], one_state[0], atol=1e-5)


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_other_cells_shrink_too(cell, tmp_path):
    spotter = make(RecurrentConfig(cell=cell, num_layers=2, hidden_size=24, conv_channels=[4], projection_size=16))
    export_onnx(spotter, tmp_path / "m.onnx", precision="int8")
    export_onnx(spotter, tmp_path / "b.onnx", batch_size=0)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["log_mel", "mfcc", "spectrogram"])
def test_the_front_end_of_devices_is_the_front_end(kind):
    config = FrontendConfig(kind=kind)
    waveform, state = torch.from_numpy(noise(2, 1600)), torch.zeros(2, config.context_length)
    ours, exact = (frontend(config)(waveform, state)[0] for frontend in (DeviceFrontend, Frontend))
    torch.testing.assert_close(ours, exact, atol=2e-4, rtol=0)


def reference_features(table):
    """Log-mel by the constants of the table alone, in double precision: what a firmware engineer would write."""
    c = table["constants"]
    n = np.arange(c["win_length"])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / c["win_length"])
    edges = np.array(c["mel_edges_hz"])
    bins = np.arange(c["n_fft"] // 2 + 1) * c["sample_rate"] / c["n_fft"]
    up = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0, np.minimum(up, down))
    samples = np.concatenate([np.zeros(c["win_length"] - c["hop_length"]), np.ravel(table["samples"]) / 32768])
    count = len(np.ravel(table["samples"])) // c["hop_length"]
    frames = np.stack([samples[t * c["hop_length"] :][: c["win_length"]] for t in range(count)])
    power = np.abs(np.fft.rfft(frames * window, c["n_fft"])) ** 2
    return np.log(power @ filters + c["log_offset"]), power


def test_the_reference_table_follows_from_its_constants(files, tmp_path):
    spotter, _ = files
    checkpoint = tmp_path / "best.safetensors"
    save_checkpoint(checkpoint, spotter)
    path = run_export(checkpoint, variant="features")
    assert path.name == "best-features.onnx"
    table = json.loads((tmp_path / "best-features.reference.json").read_text())
    features, power = reference_features(table)
    np.testing.assert_allclose(np.array(table["features"]), features, atol=2e-3)
    np.testing.assert_allclose(table["power"], power[table["power_of_frame"]], rtol=1e-2, atol=1e-3)
    metadata = {prop.key: json.loads(prop.value) for prop in onnx.load(path).metadata_props}
    assert metadata["frontend_constants"] == table["constants"]
    assert (metadata["variant"], metadata["precision"]) == ("features", "float32")
    session = onnxruntime.InferenceSession(str(path))
    state, logits = np.zeros((1, metadata["state_size"]), np.float32), []
    for block in np.split(np.array(table["features"], np.float32), 10):
        out, state = session.run(None, {"features": block[None], "state": state})
        logits.append(out[0])
    np.testing.assert_allclose(np.concatenate(logits), table["logits"], atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "wave"}, "choose one of waveform, features"),
        ({"precision": "int4"}, "choose one of float32, int8"),
        ({"batch_size": -1}, "batch_size is -1; it must be at least 0"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        run_export("x", **options)


WEB = """
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(readFileSync(process.argv[2]), { executionProviders: ["wasm"] });
const feeds = {};
for (const { name, shape } of session.inputMetadata) {
  const size = shape.reduce((a, b) => a * b);
  feeds[name] = new ort.Tensor("float32", Float32Array.from({ length: size }, (_, i) => Math.sin(i) * 0.1), shape);
}
const { logits, next_state } = await session.run(feeds);
console.log(JSON.stringify({ logits: Array.from(logits.data), next_state: Array.from(next_state.data) }));
"""


@pytest.fixture(scope="module")
def web_folder():
    """A folder in which node finds onnxruntime-web, installed once per machine."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = Path.home() / ".cache" / "kws-tests" / "onnxruntime-web"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules" / "onnxruntime-web").is_dir():
        install = ["npm", "install", "--no-audit", "--no-fund", "onnxruntime-web"]
        done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=200)
        if done.returncode:
            pytest.skip(f"onnxruntime-web cannot be installed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    (folder / "run.mjs").write_text(WEB)
    return folder


# int8 products of onnxruntime saturate on x86 processors without VNNI, so that they differ from one to another.
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("int8", 2e-2)])
@pytest.mark.parametrize("variant", ["waveform", "features"])
def test_the_browser_gives_the_same_numbers(variant, precision, tolerance, files, web_folder):
    path = files[1][variant, precision]
    done = subprocess.run(["node", "run.mjs", str(path)], cwd=web_folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    session = open_session(str(path))
    feeds = {x.name: np.sin(np.arange(np.prod(x.shape))).reshape(x.shape) * 0.1 for x in session.get_inputs()}
    outputs = session.run(["logits", "next_state"], {k: v.astype(np.float32) for k, v in feeds.items()})
    found = json.loads(done.stdout)
    for name, ours in zip(("logits", "next_state"), outputs, strict=True):
        np.testing.assert_allclose(found[name], ours.ravel(), atol=tolerance)


def test_no_telemetry_is_written_into_the_home_folder(files, tmp_path):
    import os
    import sys

    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(Path(entry.__file__).parent.parent)}
    for name in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    code = f"from kws.runtime.onnx_model import SpotterModel; SpotterModel({str(files[1]['waveform', 'float32'])!r})"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.rglob("*onnxruntime*")) == []
