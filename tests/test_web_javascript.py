"""The page's JavaScript computes what Python computes: shared vectors, run by node."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from javascript import node
from tiny_onnx import say, tiny_logits, write_tiny

from kws.audio.levels import decibels, rms
from kws.audio.resample import resampled
from kws.config import FrontendConfig, whole_frames
from kws.runtime.detector import Detector, DetectorConfig
from kws.runtime.onnx_model import SpotterModel

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


def speech_like_logits(seed: int, n_frames: int = 1500) -> np.ndarray:
    """Logits in which words come and go, some for long, some soon again."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (n_frames, len(WORDS)))
    logits[:, 0] += 2
    frame = 0
    while frame < n_frames:
        length = int(rng.integers(3, 40))
        logits[frame : frame + length, rng.integers(2, len(WORDS))] += rng.uniform(1, 8)
        frame += length + int(rng.integers(0, 60))
    return logits.astype(np.float32)


def test_milliseconds_become_as_many_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    durations = [*np.arange(0.0, 1000.0, 10.0), *rng.uniform(0, 3000, 20)]
    given = [[ms, rate, frame] for ms in durations for rate in (8000, 16000, 44100) for frame in (80, 160, 320, 441)]
    script = """
        import { wholeFrames } from "./detector.js";
        console.log(JSON.stringify(given.map((each) => wholeFrames(...each))));
    """
    assert node(tmp_path, script, given) == [whole_frames(*each) for each in given]


@pytest.mark.parametrize("case", range(len(CONFIGS)))
def test_the_detector(tmp_path: Path, case: int) -> None:
    config = DetectorConfig.from_dict(CONFIGS[case])
    logits = speech_like_logits(case)
    detector = Detector(WORDS, 320, 16000, config, 1280)
    expected = [found._asdict() for found in [*detector.process(logits), *detector.flush()]]
    assert len(expected) > 5
    script = """
        import { Detector } from "./detector.js";
        const detector = new Detector(given.labels, 320, 16000, given.config, 1280);
        const found = given.logits.flatMap((frame) => detector.process(frame));
        const { posteriors, scores } = detector;
        console.log(JSON.stringify({ found: [...found, ...detector.flush()], posteriors, scores }));
    """
    given = {"labels": WORDS, "config": config.to_dict(), "logits": logits.tolist()}
    got = node(tmp_path, script, given)
    assert len(got["found"]) == len(expected)
    for theirs, ours in zip(got["found"], expected, strict=True):
        assert theirs.pop("score") == pytest.approx(ours.pop("score"), abs=1e-9)
        assert theirs == pytest.approx(ours)
    np.testing.assert_allclose(got["posteriors"], detector.posteriors, atol=1e-9)
    spoken = list(detector.keywords.values())
    np.testing.assert_allclose(np.array(got["scores"])[spoken], detector.scores[spoken], atol=1e-9)


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


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kind": "spectrogram"},
        {"n_mels": 20, "f_max": 7600.0, "win_ms": 30.0},
        {"n_mels": 32, "f_min": 60.0, "f_max": 3800.0, "mel_scale": "slaney"},
    ],
)
def test_the_picture_is_what_the_model_sees(tmp_path: Path, changes: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    from kws.model.frontend import Frontend

    config = FrontendConfig(**changes)
    samples = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    frontend = Frontend(config)
    expected, _ = frontend(torch.from_numpy(samples)[None], torch.zeros(1, frontend.state_size))
    script = """
        import { Features } from "./features.js";
        const features = new Features(given.config);
        const samples = Float32Array.from(given.samples);
        const frames = [...features.process(samples.subarray(0, 1234)), ...features.process(samples.subarray(1234))];
        console.log(JSON.stringify(frames.map((frame) => [...frame])));
    """
    got = node(tmp_path, script, {"config": asdict(config), "samples": samples.tolist()})
    np.testing.assert_allclose(got, expected[0].numpy(), atol=2e-3)


def test_metadata_and_streaming(tmp_path: Path) -> None:
    """Metadata out of the ONNX file, and blocks, state and flush as in Python, over a stand-in for onnxruntime."""
    path = write_tiny(tmp_path / "tiny.onnx", frontend=asdict(FrontendConfig()))
    samples = say("yn")[:-123]
    whole = np.pad(samples, (0, -len(samples) % 640))
    script = """
        import { readMetadata, SpotterModel, StreamingSpotter } from "./model.js";
        const bytes = new Uint8Array(fs.readFileSync(given.path));
        let fed = 0;
        const session = { run: async ({ waveform, state }) => ({
          logits: { data: Float32Array.from(given.logits.slice(fed, fed + 8)), at: (fed += 8) },
          next_state: state,
        }) };
        class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
        const ort = { Tensor, InferenceSession: { create: async () => session } };
        const spotter = new StreamingSpotter(await SpotterModel.load(bytes, ort));
        const found = [];
        const samples = Float32Array.from(given.samples);
        for (let at = 0; at < samples.length; at += 1000) {
          found.push(...(await spotter.feed(samples.subarray(at, at + 1000))));
        }
        found.push(...(await spotter.flush()));
        const refused = [new Uint8Array(100).fill(255), bytes.slice(0, 200)].map((wrong) => {
          try { readMetadata(wrong); return "taken"; } catch (error) { return error.message; }
        });
        console.log(JSON.stringify({ metadata: readMetadata(bytes), found, fed, refused }));
    """
    logits = tiny_logits(whole).reshape(-1)
    got = node(tmp_path, script, {"path": str(path), "samples": samples.tolist(), "logits": logits.tolist()})
    model = SpotterModel(path)
    assert got["metadata"] == model.metadata
    assert got["fed"] == len(logits)
    assert [found["keyword"] for found in got["found"]] == ["yes", "no"]
    for message in got["refused"]:
        assert message.startswith("This is not")
