"""The page's JavaScript computes what Python computes: shared vectors, run by node."""

from __future__ import annotations

import base64
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from javascript import needs_engine, node
from shapes import SHAPES
from tiny_onnx import write_tiny

from kws.audio.levels import decibels, rms
from kws.audio.resample import resampled
from kws.c.block import make_block
from kws.c.detector import numbers, tables
from kws.c.engine import CModel
from kws.c.weights import read_weights
from kws.config import FrontendConfig, whole_frames
from kws.runtime.detector import Detector, DetectorConfig
from kws.runtime.shipped import find_model
from kws.streaming import StreamingSpotter

SHIPPED = ("gsc12", "gsc12_int8", "gsc12_tiny", "gsc12_tiny_int8")
WORDS = ("_silence_", "_unknown_", "yes", "no", "stop", "stop-music", "music")
CONFIGS: list[dict[str, Any]] = [
    {},
    {"pooling": "mean", "smoothing_ms": 400.0, "threshold": 0.6},
    {"pooling": "mean", "smoothing_ms": 400.0, "threshold": 0.5, "unknown_bias": 1.5},
    {"pooling": "sum", "smoothing_ms": 200.0, "threshold": 0.5, "thresholds": {"no": 0.8}, "refractory_ms": 100.0},
    {"pooling": "mean", "smoothing_ms": 300.0, "threshold": 0.4, "min_duration_ms": 100.0, "hold_ms": 300.0},
    {"pooling": "sum", "smoothing_ms": 500.0, "threshold": 0.5, "release": 0.3, "suppress": {"yes": ["no"]}},
    {"pooling": "mean", "smoothing_ms": 20.0, "threshold": 0.7, "refractory_ms": 0.0, "hold_ms": 0.0},
    {"pooling": "mean", "smoothing_ms": 400.0, "score": "log_ratio", "threshold": 1.5, "thresholds": {"no": -0.5}},
    {"pooling": "sum", "smoothing_ms": 300.0, "score": "log_ratio", "threshold": 4.0, "refractory_ms": 100.0},
]


def test_milliseconds_become_as_many_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    durations = [*np.arange(0.0, 1000.0, 10.0), *rng.uniform(0, 3000, 20)]
    given = [[ms, rate, frame] for ms in durations for rate in (8000, 16000, 44100) for frame in (80, 160, 320, 441)]
    script = """
        import { wholeFrames } from "./detector.js";
        console.log(JSON.stringify(given.map((each) => wholeFrames(...each))));
    """
    assert node(tmp_path, script, given) == [whole_frames(*each) for each in given]


def test_the_engine_is_given_the_same_options(tmp_path: Path) -> None:
    configs = [DetectorConfig.from_dict(config) for config in CONFIGS]
    script = """
        import { detectorOptions } from "./detector.js";
        console.log(JSON.stringify(given.configs.map((config) => detectorOptions(given.metadata, config))));
    """
    metadata = {"labels": WORDS, "frame_length": 320, "sample_rate": 16000, "block_size": 1280}
    given = {"metadata": metadata, "configs": [config.to_dict() for config in configs]}
    for got, config in zip(node(tmp_path, script, given), configs, strict=True):
        detector = Detector(WORDS, 320, 16000, config, 1280)
        for name, value in numbers(detector).items():
            assert got[name] == value, name
        for name, table in tables(detector).items():
            got_table = np.array(sorted(got[name]) if name == "longer" else got[name], table.dtype)
            np.testing.assert_array_equal(got_table.reshape(table.shape), table, name)


def test_the_resampler(tmp_path: Path) -> None:
    """Its filter is soxr's but in the last tenth below the Nyquist frequency: 50 dB below white noise, 95 elsewhere."""
    rng = np.random.default_rng(0)
    rates = [(48000, 16000), (44100, 16000), (8000, 16000), (16000, 16000), (22050, 16000), (96000, 16000)]
    cases, inputs = [case for case in rates for _ in range(2)], []
    for i, (rate_in, rate_out) in enumerate(rates):
        noise = rng.normal(0, 0.2, 8000 + i)
        low = np.fft.rfftfreq(len(noise), 1 / rate_in) < 0.6 * min(rate_in, rate_out) / 2
        inputs += [noise, np.fft.irfft(np.fft.rfft(noise) * low, len(noise)) * np.hanning(len(noise))]
    script = """
        import { Resampler } from "./resampler.js";
        console.log(JSON.stringify(given.cases.map(([from, to], i) => {
          const resampler = new Resampler(from, to);
          const input = Float32Array.from(given.inputs[i]);
          const run = (step) => {
            const out = [];
            for (let at = 0; at < input.length; at += step) {
              out.push(...resampler.process(input.subarray(at, at + step)));
            }
            return [...out, ...resampler.flush()];
          };
          return [run(input.length), run(441)];
        })));
    """
    got = node(tmp_path, script, {"cases": cases, "inputs": [x.tolist() for x in inputs]})
    for i, ((rate_in, rate_out), samples, (whole, cut)) in enumerate(zip(cases, inputs, got, strict=True)):
        expected = resampled(samples.astype(np.float32), rate_in, rate_out)
        assert whole == cut
        assert len(whole) == len(expected)
        error = decibels((rms(whole - expected) + 1e-9) / rms(expected))
        assert error < (-95 if i % 2 else -50), (rate_in, error)


def test_a_file_gives_the_block_that_python_makes(exported_shape: Any, tmp_path: Path) -> None:
    paths = [*(exported_shape(shape)[1] for shape in SHAPES), *map(find_model, SHIPPED)]
    script = """
        import { makeBlock } from "./block.js";
        import { readOnnx } from "./onnx.js";
        import { readWeights } from "./weights.js";
        const block = (path) => makeBlock(readWeights(readOnnx(new Uint8Array(fs.readFileSync(path)))));
        console.log(JSON.stringify(given.map((path) => Buffer.from(block(path).buffer).toString("base64"))));
    """
    for path, block in zip(paths, node(tmp_path, script, [str(path) for path in paths]), strict=True):
        assert base64.b64decode(block) == make_block(read_weights(path)), path


@pytest.mark.parametrize("name", SHIPPED)
def test_a_spotter_finds_in_node_what_python_finds(name: str, tmp_path: Path) -> None:
    """At thresholds that noise reaches, in odd pieces of float and int16; the same scores to the last bit."""
    needs_engine()
    config = DetectorConfig(pooling="mean", smoothing_ms=300, threshold=0.02, refractory_ms=100, unknown_bias=-2.0)
    rng = np.random.default_rng(3)
    loud = np.repeat(10 ** rng.uniform(0, 4, 100), 1600)
    x = (rng.standard_normal(160000) * loud).clip(-32768, 32767).astype("<i2")
    x.tofile(tmp_path / "clip")
    script = """
        import { loadModel, Spotter } from "./spotter.js";
        const spotter = new Spotter(await loadModel(new URL(`file://${given.model}`)), { detector: given.config });
        const clip = new Int16Array(new Uint8Array(fs.readFileSync(given.clip)).buffer);
        const found = [];
        let spectra = [];
        for (let at = 0; at < clip.length; at += 777) {
          const part = clip.subarray(at, at + 777);
          found.push(...spotter.feed(at % 2 ? part : Float32Array.from(part, (x) => x / 32768)));
          spectra.push(...spotter.spectra);
        }
        const { posteriors, scores, thresholds } = spotter;
        found.push(...spotter.flush());
        const again = [...spotter.feed(clip), ...spotter.flush()];
        for (const keyword of spotter.model.keywords) spotter.setThreshold(keyword, 1);
        const none = [...spotter.feed(clip), ...spotter.flush()];
        const refused = [Float32Array.of(NaN), Float32Array.of(11), [1, 2]].map((samples) => {
          try { return spotter.feed(samples); } catch (error) { return error.message; }
        });
        spectra = spectra.map((each) => [...each]);
        console.log(JSON.stringify({
          found, again, none, refused, spectra, posteriors: [...posteriors], scores, thresholds: [...thresholds],
        }));
    """
    given = {"model": str(find_model(name)), "clip": str(tmp_path / "clip"), "config": config.to_dict()}
    got = node(tmp_path, script, given)
    model = CModel(name)
    spotter = StreamingSpotter(model, detector=config)
    expected = spotter.feed(x)
    np.testing.assert_allclose(got["posteriors"], spotter.posteriors, atol=1e-7)
    np.testing.assert_allclose(got["scores"], spotter.scores, atol=1e-6)
    expected += spotter.flush()
    assert len(expected) > 5
    assert got["found"] == got["again"] == [found._asdict() for found in expected]
    assert len(got["none"]) < len(expected)
    assert [name for name, _ in got["thresholds"]] == list(spotter.thresholds)
    assert got["refused"][0] == got["refused"][1] == "A sample is not a number, or was not scaled to [-1, 1]."
    np.testing.assert_allclose(got["spectra"], log_mel(x / 32768, model.metadata["frontend"]), atol=2e-3)


def log_mel(x: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Natural logarithms of the power in each mel band, of each hop, in float64."""
    librosa = pytest.importorskip("librosa")
    window, hop = round(config["win_ms"] * 16), round(config["hop_ms"] * 16)
    padded = np.concatenate([np.zeros(window - hop), x])
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    power = np.abs(np.fft.rfft(frames * hann, config["n_fft"])) ** 2
    is_slaney = config.get("mel_scale") == "slaney"
    scale = {"htk": not is_slaney, "norm": "slaney" if is_slaney else None}
    edges = {"n_mels": config["n_mels"], "fmin": config["f_min"], "fmax": config["f_max"]}
    filters = librosa.filters.mel(sr=16000, n_fft=config["n_fft"], dtype=np.float64, **edges, **scale)
    return np.log(power @ filters.T + config["log_offset"])


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    tiny = write_tiny(tmp_path / "tiny.onnx", frontend=asdict(FrontendConfig()))
    script = """
        import { loadModel } from "./spotter.js";
        const bytes = new Uint8Array(fs.readFileSync(given.tiny));
        const wrong = [new Uint8Array(100).fill(255), new Uint8Array(0), bytes.slice(0, 200), bytes];
        const said = [];
        for (const each of wrong) said.push(await loadModel(each).then(() => "taken", (error) => error.message));
        console.log(JSON.stringify(said));
    """
    said = node(tmp_path, script, {"tiny": str(tiny)})
    assert said[:3] == ["This is not an ONNX file."] * 3
    assert said[3].startswith("The engine cannot run this model: ")
