from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_onnx import BLOCK_SIZE, LABELS, SAMPLE_RATE, say, tiny_logits, write_tiny

from kws.batched import BatchedSpotter
from kws.runtime.detector import DetectorConfig
from kws.streaming import ModelError, SpotterModel, StreamingSpotter


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SpotterModel:
    return SpotterModel(write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def whole_blocks(samples: np.ndarray) -> np.ndarray:
    return samples[: len(samples) // BLOCK_SIZE * BLOCK_SIZE]


# --- the model


def test_attributes(model: SpotterModel) -> None:
    assert model.labels == LABELS
    assert (model.sample_rate, model.hop_length, model.frame_length) == (16000, 160, 320)
    assert (model.block_size, model.clip_length, model.state_size, model.block_frames) == (640, 16000, 2, 2)
    assert model.metadata["kws_version"] == "0.1.0"
    assert model.detector == DetectorConfig(smoothing_ms=400.0, thresholds={"no": 0.8})


def test_logits_are_those_of_the_definition(model: SpotterModel) -> None:
    samples = whole_blocks(say("yny"))
    np.testing.assert_allclose(model.logits(samples), tiny_logits(samples), atol=1e-4)


def test_steps_chain_to_the_same_logits(model: SpotterModel) -> None:
    samples = whole_blocks(say("yn"))
    state, logits = np.zeros((1, 2), np.float32), []
    for block in samples.reshape(-1, 1, BLOCK_SIZE):
        block_logits, state = model.step(block, state)
        logits.append(block_logits[0])
    np.testing.assert_array_equal(np.concatenate(logits), model.logits(samples))


def test_a_last_part_is_filled_with_zeros(model: SpotterModel) -> None:
    samples = say("y")[: 5 * BLOCK_SIZE + 1]
    padded = np.pad(samples, (0, BLOCK_SIZE - 1))
    np.testing.assert_array_equal(model.logits(samples), model.logits(padded))
    assert model.logits(np.zeros(0, np.float32)).shape == (0, 4)


def test_any_batch_size_works_where_the_model_has_it(tmp_path: Path, model: SpotterModel) -> None:
    batched = SpotterModel(write_tiny(tmp_path / "any.onnx", batch="B"))
    assert batched.batch_size is None
    assert model.batch_size == 1
    rng = np.random.default_rng(0)
    waveform = rng.normal(0, 0.1, (3, BLOCK_SIZE)).astype(np.float32)
    state = rng.normal(0, 1, (3, 2)).astype(np.float32)
    logits, next_state = batched.step(waveform, state)
    for i in range(3):
        one = model.step(waveform[i : i + 1], state[i : i + 1])
        np.testing.assert_allclose(logits[i], one[0][0], atol=1e-6)
        np.testing.assert_allclose(next_state[i], one[1][0], atol=1e-6)
    np.testing.assert_array_equal(batched.logits(say("y")), model.logits(say("y")))


def test_a_model_of_a_fixed_batch_is_refused_for_one_stream(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="steps 8 streams at once"):
        StreamingSpotter(write_tiny(tmp_path / "eight.onnx", batch=8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kws_format": None}, "has no kws_format"),
        ({"kws_format": 3}, "its format is 3"),
        ({"labels": None}, "has no labels"),
        ({"labels": None, "detector": None}, "has no labels, detector"),
        ({"labels": "yes"}, "not a list of different names"),
        ({"labels": ["a", "a", "b", "c"]}, "not a list of different names"),
        ({"labels": ["_silence_", "_unknown_"]}, "needs a keyword"),
        ({"labels": ["_silence_", "yes", "no"]}, "logits is"),
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"sample_rate": "16000"}, "sample_rate is '16000'"),
        ({"block_size": 1280}, "waveform is"),
        ({"frame_length": 600}, "block_size 640 is no multiple"),
        ({"frame_length": 160}, "logits is"),
        ({"state_size": 3}, "state is"),
        ({"detector": "sum"}, "detector is 'sum'"),
        ({"detector": {"pooling": "max"}}, "detector.pooling is 'max'"),
        ({"detector": {"thresholds": {"maybe": 0.5}}}, "detector names 'maybe'"),
        ({"detector": {"smooth": 1}}, "no option smooth"),
    ],
)
def test_metadata_that_is_missing_or_contradicts_the_graph(tmp_path: Path, changes: dict, message: str) -> None:
    path = write_tiny(tmp_path / "bad.onnx", **changes)
    with pytest.raises(ModelError, match=message) as caught:
        SpotterModel(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing\.onnx is not a file"):
        SpotterModel(tmp_path / "nothing.onnx")
    with pytest.raises(ModelError, match="is not a file"):
        SpotterModel(tmp_path)
    whole = write_tiny(tmp_path / "tiny.onnx").read_bytes()
    for content in (b"", b"no model at all", whole[: len(whole) // 2]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(ModelError, match=r"bad\.onnx (cannot be loaded|is not a kws model)"):
            SpotterModel(tmp_path / "bad.onnx")


# --- streams


def test_detections_of_known_words(model: SpotterModel) -> None:
    spotter = StreamingSpotter(model)
    found = spotter.feed(say("ynn-y")) + spotter.flush()
    assert [d.keyword for d in found] == ["yes", "no", "no", "yes"]
    onset = np.array([0, 1, 2, 4]) * (1600 + 12000) + 12000  # samples
    for detection, first in zip(found, onset / SAMPLE_RATE, strict=True):
        assert first - 0.02 <= detection.start < detection.end <= first + 0.1
        assert detection.end <= detection.time <= first + 0.1
        assert detection.score >= 0.7


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=8).filter(any), st.booleans())
def test_the_cut_into_calls_does_not_matter(model: SpotterModel, sizes: list[int], as_int16: bool) -> None:
    samples = np.round(say("ynyy") * 32768).astype(np.int16)
    whole = StreamingSpotter(model)
    expected = whole.feed(samples.astype(np.float32) / 32768) + whole.flush()
    given_samples = samples if as_int16 else samples.astype(np.float32) / 32768
    spotter, found, start, i = StreamingSpotter(model), [], 0, 0
    while start < len(samples):
        size = sizes[i % len(sizes)]
        found += spotter.feed(given_samples[start : start + size])
        start, i = start + size, i + 1
    assert found + spotter.flush() == expected  # scores bit for bit


def test_single_samples(model: SpotterModel) -> None:
    samples = say("y", gap=2000)
    spotter, whole = StreamingSpotter(model), StreamingSpotter(model)
    found = [d for i in range(len(samples)) for d in spotter.feed(samples[i : i + 1])] + spotter.flush()
    assert found == whole.feed(samples) + whole.flush()
    assert found


def test_streams_share_nothing(model: SpotterModel) -> None:
    first, other = say("yyn"), say("nny")
    alone = [StreamingSpotter(model).feed(x) for x in (first, other)]
    a = StreamingSpotter(model)
    b = a.create_stream()
    together: list[list] = [[], []]
    for start in range(0, len(first), 700):
        together[0] += a.feed(first[start : start + 700])
        together[1] += b.feed(other[start : start + 700])
    assert together == alone


def test_flush_ends_the_stream_and_reset_begins_one(model: SpotterModel) -> None:
    spotter, samples = StreamingSpotter(model), say("yn")[:-11900]  # the last word ends within a block
    first = spotter.feed(samples) + spotter.flush()
    assert [d.keyword for d in first] == ["yes", "no"]
    assert spotter.feed(samples) + spotter.flush() == first
    spotter.feed(say("ny"))
    spotter.reset()
    assert not spotter.posteriors.any()
    assert spotter.feed(samples) + spotter.flush() == first
    assert spotter.flush() == []


def test_feeding_does_not_keep_the_callers_array(model: SpotterModel) -> None:
    samples = say("y")
    expected = StreamingSpotter(model).feed(samples)
    spotter, buffer, found = StreamingSpotter(model), np.empty(500, np.float32), []
    for start in range(0, len(samples), 500):
        part = samples[start : start + 500]
        buffer[: len(part)] = part
        found += spotter.feed(buffer[: len(part)])
        buffer[:] = 5
    assert found == expected


def test_posteriors_and_labels_for_a_display(model: SpotterModel) -> None:
    spotter = StreamingSpotter(model)
    spotter.feed(np.zeros(BLOCK_SIZE * 4, np.float32))
    assert spotter.labels == LABELS
    assert spotter.posteriors.sum() == pytest.approx(1)
    assert spotter.posteriors.argmax() == 0


def test_thresholds(model: SpotterModel) -> None:
    samples = say("yn")

    def keywords(**options: object) -> list[str]:
        return [d.keyword for d in StreamingSpotter(model, **options).feed(samples)]  # type: ignore[arg-type]

    assert keywords() == ["yes", "no"]
    assert keywords(thresholds={"yes": 1.0}) == ["no"]
    assert keywords(thresholds=1.0) == []
    assert keywords(detector=DetectorConfig(smoothing_ms=400, thresholds={"no": 1.0})) == ["yes"]
    with pytest.raises(ValueError, match="detector names 'maybe'"):
        keywords(thresholds={"maybe": 0.5})
    with pytest.raises(ValueError, match="threshold is 2"):
        keywords(thresholds=2)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.array([0.1, np.nan], np.float32), "NaN or infinity"),
        (np.array([0.1, np.inf], np.float32), "NaN or infinity"),
        (np.array([3000.0], np.float32), "must be scaled"),
        (np.zeros((2, 100), np.float32), r"shape \[2, 100\]"),
        (np.float32(0.5), "numpy array"),
        (np.array(0.5, np.float32), r"shape \[\]"),
        (np.zeros(10), "float64"),
        (np.zeros(10, np.int32), "int32"),
        ([0.0, 0.1], "list"),
        (b"\0\0", "bytes"),
    ],
)
def test_bad_samples_leave_the_stream_as_it_was(model: SpotterModel, samples: object, message: str) -> None:
    speech = say("y")
    expected = StreamingSpotter(model).feed(speech)
    spotter = StreamingSpotter(model)
    found = spotter.feed(speech[:12100])
    with pytest.raises(ValueError, match=message):
        spotter.feed(samples)  # type: ignore[arg-type]
    assert found + spotter.feed(speech[12100:]) == expected


def test_a_long_stream_is_numbered_without_drift(model: SpotterModel) -> None:
    silence = np.zeros(SAMPLE_RATE * 60, np.float32)
    spotter = StreamingSpotter(model)
    for _ in range(10):
        assert spotter.feed(silence) == []
    late = spotter.feed(say("y"))[0]
    assert late.start == pytest.approx(600.74, abs=0.03)


def test_the_runtime_needs_numpy_and_onnxruntime_only(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.onnx")
    code = f"""
import sys
import numpy as np
from kws.streaming import StreamingSpotter
StreamingSpotter({str(path)!r}).feed(np.zeros(16000, np.float32))
heavy = {{"torch", "torchaudio", "hydra", "omegaconf", "soundfile", "scipy", "librosa", "onnx", "matplotlib"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_operating_points(tmp_path: Path) -> None:
    """A file of format 2 promises rates of false alarms: the one asked for sets the thresholds, or the default one."""
    promise = {"hours": 3.0, "fa_interval": [0.1, 3.0], "extrapolated": False}
    low, high = {"yes": 5.0, "no": 4.0}, {"yes": 1.0, "no": 0.5}
    changes = {
        "kws_format": 2,
        "kind": "commands",
        "detector": {"pooling": "sum", "smoothing_ms": 400.0, "score": "log_ratio"},
        "operating_points": [
            {"fa_per_hour": 1, "thresholds": low, "false_alarms": 3, **promise},
            {"fa_per_hour": 5, "thresholds": high, "false_alarms": 15, **promise},
        ],
        "fa_per_hour": 1,
    }
    path = write_tiny(tmp_path / "two.onnx", **changes)
    model = SpotterModel(path)
    assert StreamingSpotter(model).thresholds == low
    assert StreamingSpotter(model, fa_per_hour=5).thresholds == high
    assert StreamingSpotter(model, fa_per_hour=5, thresholds={"no": 2.0}).thresholds == {"yes": 1.0, "no": 2.0}
    batched = write_tiny(tmp_path / "batch.onnx", batch=2, **changes)
    assert BatchedSpotter(batched, 2, fa_per_hour=5)._detectors[1].thresholds.tolist()[-2:] == [1.0, 0.5]
    with pytest.raises(ModelError, match=r"two.onnx has no operating point for 2 .*: it has those for 1, 5"):
        StreamingSpotter(model, fa_per_hour=2)
    with pytest.raises(ModelError, match="it has none"):
        StreamingSpotter(write_tiny(tmp_path / "one.onnx"), fa_per_hour=1)
