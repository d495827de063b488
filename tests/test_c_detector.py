"""The C engine's detector against Python's: the same detections to a frame, whatever the options."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kws.c.build import EngineError, library
from kws.c.detector import CDetector, memory_size
from kws.errors import KwsError
from kws.runtime.detector import Detector, DetectorConfig

try:
    library("plain")
except EngineError as error:
    pytest.skip(f"no C engine here: {error}", allow_module_level=True)

LABELS = ("_silence_", "_unknown_", "stop", "stop music", "yes", "music")


def utterances(rng: np.random.Generator, frames: int, labels: tuple[str, ...]) -> np.ndarray:
    """Logits in which labels are said one after another, some strongly, some weakly, some twice in a row."""
    logits = rng.normal(0, 1, (frames, len(labels)))
    logits[:, 0] += 3
    at = 0
    while at < frames:
        length = int(rng.integers(2, 15))
        logits[at : at + length, rng.integers(len(labels))] += rng.uniform(2, 12)
        at += length + int(rng.integers(0, 30))
    return logits.astype(np.float32)


def same(config: DetectorConfig, labels: tuple[str, ...], logits: np.ndarray, cuts: list[int], block: int) -> int:
    """Assert that both find the same; how many detections."""
    ours = Detector(labels, 320, 16000, config, 320 * block)
    theirs = CDetector(ours, library())
    assert library().kws_host_detector_memory_bytes(theirs.options_pointer) == memory_size(ours)
    expected, found = [], []
    for part in np.split(logits, sorted(min(cut, len(logits)) for cut in cuts)):
        expected += ours.process(part)
        found += theirs.process(part)
        if len(part):
            np.testing.assert_allclose(theirs.posteriors, ours.posteriors, atol=1e-5)
    expected, found = expected + ours.flush(), found + theirs.flush()
    assert [d._replace(score=0) for d in found] == [d._replace(score=0) for d in expected]
    np.testing.assert_allclose([d.score for d in found], [d.score for d in expected], atol=1e-4)
    ours.reset()
    again = ours.process(logits) + ours.flush()  # both began anew
    assert [d.time for d in theirs.process(logits) + theirs.flush()] == [d.time for d in again]
    return len(found)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000),
    pooling=st.sampled_from(["sum", "mean"]),
    score=st.sampled_from(["posterior", "log_ratio"]),
    smoothing=st.sampled_from([20, 100, 560, 1000]),
    durations=st.tuples(*[st.sampled_from([0, 20, 60, 200, 500])] * 3),
    threshold=st.floats(0.05, 0.95),
    release=st.floats(0.1, 1),
    bias=st.floats(-3, 3),
    cuts=st.lists(st.integers(0, 400), max_size=5),
    others=st.booleans(),
    block=st.sampled_from([1, 4]),
)
def test_the_same_detections_to_a_frame(
    seed, pooling, score, smoothing, durations, threshold, release, bias, cuts, others, block
):
    config = DetectorConfig(
        pooling=pooling,
        score=score,
        smoothing_ms=smoothing,
        threshold=threshold if score == "posterior" else 8 * threshold - 4,
        unknown_bias=bias,
        release=release,
        min_duration_ms=durations[0],
        refractory_ms=durations[1],
        hold_ms=durations[2],
    )
    labels = LABELS if others else LABELS[2:]
    same(config, labels, utterances(np.random.default_rng(seed), 400, labels), cuts, block)


@pytest.mark.parametrize("score", ["posterior", "log_ratio"])
def test_an_hour_of_frames_and_many_detections(score):
    config = DetectorConfig(score=score, threshold=0.6, smoothing_ms=500)
    assert same(config, LABELS, utterances(np.random.default_rng(1), 180_000, LABELS), [7, 90_000], 1) > 1000


def test_what_cannot_be_is_refused():
    detector = Detector(LABELS, 320, 16000)
    theirs = CDetector(detector, library())
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(KwsError, match="NaN"):
            theirs.process(np.full((1, 6), bad, np.float32))
    detector.window = 0
    with pytest.raises(KwsError, match="does not take"):
        CDetector(detector, library())
    c = library()
    assert c.kws_host_detector_init(None, None, None, 0) == -1
    assert c.kws_host_detect(None, None, 0, None) == -1
    assert c.kws_host_end(None, None, None) == -1
    assert c.kws_host_detector_memory_bytes(None) == 0
