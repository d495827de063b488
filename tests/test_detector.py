from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.runtime.detector import Detection, Detector, DetectorConfig, longer_keywords, pool_posteriors

LABELS = ("_silence_", "_unknown_", "yes", "no")
FRAME, RATE = 320, 16000  # 20 ms


def logits_of(
    spoken: dict[int, str], length: int, strength: float = 9.0, labels: tuple[str, ...] = LABELS
) -> np.ndarray:
    """Silence, but for single frames that say a label."""
    z = np.zeros((length, len(labels)), np.float32)
    z[:, 0] = 2
    for frame, name in spoken.items():
        z[frame, labels.index(name)] = strength
    return z


def detector(labels: tuple[str, ...] = LABELS, block_size: int = 0, **options: object) -> Detector:
    return Detector(labels, FRAME, RATE, DetectorConfig(**options), block_size)  # type: ignore[arg-type]


def cut(d: Detector, z: np.ndarray, sizes: list[int]) -> list[Detection]:
    found, start, i = [], 0, 0
    while start < len(z):
        size = sizes[i % len(sizes)]
        found += d.process(z[start : start + size])
        start, i = start + size, i + 1
    return found + d.flush()


def naive(z: np.ndarray, config: DetectorConfig, labels: tuple[str, ...]) -> list[tuple[str, int, float]]:
    """The documented rules, frame by frame with plain sums: (keyword, frame, score), suppression left out."""

    def frames(ms: float) -> int:
        return max(1, math.ceil(ms * RATE / 1000 / FRAME - 1e-9))

    is_ratio = config.score == "log_ratio"

    def level(own: float, sums: np.ndarray, k: int) -> float:
        others = np.delete(sums, k).sum()
        if not is_ratio:
            return own / (own + others)
        rivals = [sums[j] for j, label in enumerate(labels) if label.startswith("_")]
        return own / (sum(rivals) if rivals else others)

    def leads(sums: np.ndarray, k: int) -> bool:
        return not is_ratio or all(sums[k] >= x for x, label in zip(sums, labels, strict=True) if label[0] != "_")

    e = np.exp(z.astype(float) + [config.unknown_bias if name == "_unknown_" else 0 for name in labels])
    if config.pooling == "mean":
        e = e / e.sum(axis=1, keepdims=True)
    found = []
    for k, name in enumerate(labels):
        if name.startswith("_"):
            continue
        threshold = config.thresholds.get(name, config.threshold)
        limit = math.exp(threshold) if is_ratio else threshold
        active, fresh, run, release = False, 0, 0, 0
        for t in range(len(z)):
            if active:
                if t < release or level(e[t, k], e[t], k) >= limit * config.release:
                    continue
                active, fresh = False, t
            window = e[max(0, t - frames(config.smoothing_ms) + 1) : t + 1]
            mine = e[max(fresh, t - frames(config.smoothing_ms) + 1) : t + 1, k].sum()
            sums = window.sum(axis=0)
            reached = level(mine, sums, k)
            run = run + 1 if reached >= limit and leads(sums, k) else 0
            if run == frames(config.min_duration_ms):
                found.append((name, t, math.log(reached) if is_ratio else reached))
                active, release, run = True, t + frames(config.refractory_ms), 0
    return sorted(found, key=lambda item: (item[1], labels.index(item[0])))


# --- pooling


def test_pooling_by_its_definition() -> None:
    z = np.random.default_rng(0).normal(0, 3, (2, 7, 4)).astype(np.float32)
    e = np.exp(z.astype(float))
    np.testing.assert_allclose(pool_posteriors(z, "sum"), e.sum(1) / e.sum((1, 2))[:, None], rtol=1e-12)
    softmax = e / e.sum(-1, keepdims=True)
    np.testing.assert_allclose(pool_posteriors(z, "mean"), softmax.mean(1), rtol=1e-12)


@pytest.mark.parametrize("pooling", ["sum", "mean"])
@pytest.mark.parametrize("size", [-1e30, -700.0, 700.0, 1e30])
def test_pooling_survives_any_logit(pooling: str, size: float) -> None:
    z = np.zeros((5, 3))
    z[2, 1] = size
    p = pool_posteriors(z, pooling)
    assert np.isfinite(p).all()
    assert p.sum() == pytest.approx(1)
    assert (p.argmax() == 1) == (size > 0)


def test_unknown_pooling_is_refused() -> None:
    with pytest.raises(ValueError, match="pooling is 'max'"):
        pool_posteriors(np.zeros((3, 2)), "max")


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_posteriors_are_the_pooled_window(pooling: str) -> None:
    z = np.random.default_rng(1).normal(0, 3, (130, 4)).astype(np.float32)
    d = detector(pooling=pooling, smoothing_ms=340)  # 17 frames
    for t in range(len(z)):
        d.process(z[t : t + 1])
        np.testing.assert_allclose(d.posteriors, pool_posteriors(z[max(0, t - 16) : t + 1], pooling), rtol=1e-12)


def test_no_drift_after_loud_evidence() -> None:
    z = np.zeros((3000, 4), np.float32)
    z[:1500, 2] = 300  # e^300 beside e^0 would leave a running sum with nothing but rounding errors
    d = detector()
    d.process(z)
    np.testing.assert_allclose(d.posteriors, 0.25, rtol=1e-12)


# --- one detection per utterance, known answers


def test_a_word_is_detected_once_though_its_evidence_stays_in_the_window() -> None:
    found = detector().process(logits_of({30: "yes", 31: "yes", 33: "yes"}, 200))
    assert [(d.keyword, d.start, d.end, d.time) for d in found] == [("yes", 0.60, 0.62, 0.62)]
    e = np.exp(9.0)
    assert found[0].score == pytest.approx((e + 30) / (e + 30 + 31 * (2 + np.e**2)), rel=1e-9)


def test_silence_and_unknown_are_never_detected() -> None:
    assert detector(threshold=0.1).process(logits_of({30: "_unknown_"}, 100, strength=50)) == []


def test_time_is_the_end_of_the_block() -> None:
    assert detector(block_size=4 * FRAME).process(logits_of({29: "yes"}, 100))[0].time == 0.64


def test_repetitions_within_the_window_are_told_apart() -> None:
    z = logits_of({30: "yes", 60: "yes", 90: "yes"}, 200)
    assert [round(d.end, 2) for d in detector(refractory_ms=500).process(z)] == [0.62, 1.22, 1.82]
    assert len(detector(refractory_ms=700).process(z)) == 2


def test_refractory_is_per_keyword() -> None:
    z = logits_of({30: "yes", 31: "yes"}, 100)
    z[34:36, LABELS.index("no")] = 14
    assert [d.keyword for d in detector(refractory_ms=1000).process(z)] == ["yes", "no"]


def test_an_utterance_goes_on_until_a_frame_releases_it() -> None:
    held = logits_of(dict.fromkeys(range(30, 110), "yes"), 200)
    assert len(detector(refractory_ms=200).process(held)) == 1
    between = 0.6 * 0.7  # posterior of one frame, above or below release * threshold
    rest = 2 * 1.0 + np.exp(2.0)
    held[70, LABELS.index("yes")] = np.log(between / (1 - between) * rest)
    assert len(detector(refractory_ms=200, release=0.5).process(held)) == 1
    assert len(detector(refractory_ms=200, release=0.7).process(held)) == 2


def test_minimum_duration() -> None:
    z = logits_of({30: "yes"}, 100)
    z[40] = [9.5, 0, 0, 0]  # outweighs the word after 10 frames over the threshold
    assert [d.time for d in detector(min_duration_ms=200).process(z)] == [0.8]
    assert detector(min_duration_ms=220).process(z) == []


def test_thresholds_by_keyword() -> None:
    z = logits_of({30: "yes", 130: "no"}, 200)
    assert [d.keyword for d in detector(threshold=0.999).process(z)] == []
    assert [d.keyword for d in detector(threshold=0.999, thresholds={"no": 0.5}).process(z)] == ["no"]


# --- a keyword that is part of a longer one

PHRASES = ("_unknown_", "stop", "stop music", "music")


def test_longer_keywords() -> None:
    assert longer_keywords(["stop", "stop music", "music", "top", "hey_stop"]) == {
        "stop": ["stop music", "hey_stop"],
        "music": ["stop music"],
    }
    assert longer_keywords(["on", "one", "go", "gopher"]) == {}


def test_the_longer_keyword_silences_its_parts() -> None:
    z = logits_of({30: "stop", 55: "stop music", 60: "music"}, 300, labels=PHRASES)
    z[55, 2] = 14
    z[60, 3] = 18
    found = cut(detector(PHRASES, hold_ms=800), z, [7])
    assert [(d.keyword, d.time) for d in found] == [("stop music", 1.12)]


def test_a_part_alone_is_reported_after_the_hold() -> None:
    z = logits_of({30: "stop", 130: "stop music"}, 300, labels=PHRASES)
    found = cut(detector(PHRASES, hold_ms=800), z, [300])
    assert [(d.keyword, round(d.end, 2), round(d.time, 2)) for d in found] == [
        ("stop", 0.62, 1.42),
        ("stop music", 2.62, 2.62),
    ]


def test_the_end_of_the_stream_releases_what_was_held() -> None:
    d = detector(PHRASES, hold_ms=800)
    assert d.process(logits_of({30: "stop"}, 40, labels=PHRASES)) == []
    assert [(x.keyword, x.time) for x in d.flush()] == [("stop", 0.8)]
    assert d.flush() == []


def test_suppression_can_be_given_or_switched_off() -> None:
    z = logits_of({30: "stop", 55: "stop music"}, 300, labels=PHRASES)
    z[55, 2] = 14
    assert [d.keyword for d in cut(detector(PHRASES, suppress={}), z, [50])] == ["stop", "stop music"]
    z = logits_of({30: "yes", 45: "no"}, 300)
    z[45, 3] = 14
    assert [d.keyword for d in cut(detector(suppress={"yes": ["no"]}), z, [50])] == ["no"]


# --- log ratios


@pytest.mark.parametrize(("labels", "rivals"), [(LABELS, 2), (("_silence_", "yes", "no"), 1), (("go", "yes", "no"), 2)])
def test_a_log_ratio_by_its_definition(labels: tuple[str, ...], rivals: int) -> None:
    """One frame of a window of one: the difference of logits, to the labels that are no keywords or to all others."""
    z = np.zeros((5, len(labels)), np.float32)
    z[2, labels.index("yes")] = 9
    found = cut(detector(labels, score="log_ratio", smoothing_ms=20.0, threshold=3.0, suppress={}), z, [2])
    assert [(d.keyword, d.start) for d in found] == [("yes", 0.04)]
    assert found[0].score == pytest.approx(9 - math.log(rivals), abs=1e-9)


def test_of_two_keywords_only_the_stronger_fires() -> None:
    """Both are far above `_unknown_`; the weaker waits until the stronger has left the window."""
    z = np.zeros((40, len(LABELS)), np.float32)
    z[5:10, LABELS.index("yes")], z[5:15, LABELS.index("no")] = 9, 6
    found = cut(detector(score="log_ratio", pooling="sum", smoothing_ms=100.0, threshold=4.0), z, [3])
    assert [(d.keyword, round(d.time / 0.02)) for d in found] == [("yes", 6), ("no", 15)]


def test_log_ratios_tell_apart_what_posteriors_do_not() -> None:
    """Two words that a model is as good as sure of: the posteriors differ by 1e-6, the scores by two."""
    z = np.full((200, len(LABELS)), -30, np.float32)
    z[:, 0] = 10
    z[50], z[150] = (-30, -12, 10, -30), (-30, -14, 10, -30)
    found = cut(detector(score="log_ratio", pooling="mean", smoothing_ms=20.0, threshold=5.0), z, [7])
    assert [round(d.score, 6) for d in found] == [22, 24]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"score": "odds"}, "score"),
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": 1.5}, "threshold"),
        ({"score": "log_ratio", "threshold": 101.0}, "threshold"),
        ({"score": "log_ratio", "thresholds": {"yes": float("nan")}}, "yes"),
    ],
)
def test_scores_and_thresholds_that_do_not_exist(options: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        detector(**options)


# --- properties

KWS = ("_unknown_", "go", "go now", "now")
configs = st.builds(
    DetectorConfig,
    pooling=st.sampled_from(["sum", "mean"]),
    score=st.sampled_from(["posterior", "log_ratio"]),
    smoothing_ms=st.sampled_from([0.0, 20.0, 60.0, 210.0, 1000.0]),
    threshold=st.sampled_from([0.3, 0.5, 0.8]),
    thresholds=st.sampled_from([{}, {"now": 0.4}]),
    unknown_bias=st.sampled_from([0.0, -1.0, 2.5]),
    release=st.sampled_from([0.3, 0.8, 1.0]),
    min_duration_ms=st.sampled_from([0.0, 40.0, 100.0]),
    refractory_ms=st.sampled_from([0.0, 50.0, 300.0, 900.0]),
    suppress=st.sampled_from([None, {}]),
    hold_ms=st.sampled_from([0.0, 100.0, 700.0]),
)


def noisy(seed: int, length: int = 260) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, (length, len(KWS)))
    for start in range(0, length, 25):
        z[start : start + rng.integers(1, 12), rng.integers(0, len(KWS))] += rng.uniform(2, 8)
    return z.astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), configs, st.lists(st.integers(1, 90), min_size=1, max_size=8))
def test_chunks_do_not_matter(seed: int, config: DetectorConfig, sizes: list[int]) -> None:
    z = noisy(seed)
    whole = cut(Detector(KWS, FRAME, RATE, config), z, [len(z)])
    assert cut(Detector(KWS, FRAME, RATE, config), z, sizes) == whole  # scores bit for bit
    assert cut(Detector(KWS, FRAME, RATE, config), z, [1]) == whole


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), configs)
def test_equal_to_the_rules_frame_by_frame(seed: int, config: DetectorConfig) -> None:
    z = noisy(seed)
    config = DetectorConfig(**{**config.to_dict(), "suppress": {}})
    found = cut(Detector(KWS, FRAME, RATE, config), z, [len(z)])
    expected = naive(z, config, KWS)
    assert [(d.keyword, round(d.time * 50) - 1) for d in found] == [(name, frame) for name, frame, _ in expected]
    np.testing.assert_allclose([d.score for d in found], [score for *_, score in expected], rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), configs)
def test_refractory_order_and_spans(seed: int, config: DetectorConfig) -> None:
    held_back = cut(Detector(KWS, FRAME, RATE, config), noisy(seed), [50])
    config = DetectorConfig(**{**config.to_dict(), "suppress": {}})
    found = cut(Detector(KWS, FRAME, RATE, config), noisy(seed), [50])
    assert {(d.keyword, d.start, d.end, d.score) for d in held_back} <= {
        (d.keyword, d.start, d.end, d.score) for d in found
    }
    assert [d.time for d in held_back] == sorted(d.time for d in held_back)
    assert [d.time for d in found] == sorted(d.time for d in found)
    for d in found:
        assert 0 <= d.start < d.end <= d.time + 1e-9
        assert d.score >= config.thresholds.get(d.keyword, config.threshold)
        assert not d.keyword.startswith("_")
    for name in KWS:
        decided = [d.time for d in found if d.keyword == name]
        assert all(np.diff(decided) >= config.refractory_ms / 1000 - 1e-9)


def test_reset_begins_anew() -> None:
    d, z = detector(), noisy(3)
    first = d.process(z)
    d.reset()
    assert d.process(z) == first
    assert first


def test_a_long_chunk_is_a_row_of_short_ones() -> None:
    z = np.concatenate([noisy(seed) for seed in range(10)])
    assert cut(Detector(KWS, FRAME, RATE), z, [len(z)]) == cut(Detector(KWS, FRAME, RATE), z, [511, 3])


# --- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "detector.pooling is 'max'"),
        ({"threshold": 0.0}, "detector.threshold is 0.0"),
        ({"threshold": 1.1}, "at most 1"),
        ({"thresholds": {"yes": -1}}, r"detector.thresholds\[yes\] is -1"),
        ({"threshold": math.nan}, "detector.threshold is nan"),
        ({"release": 2}, "detector.release is 2"),
        ({"refractory_ms": -1}, "detector.refractory_ms is -1"),
        ({"smoothing_ms": math.inf}, "detector.smoothing_ms is inf"),
        ({"thresholds": {"maybe": 0.5}}, "detector names 'maybe'; the model's keywords are yes, no"),
        ({"thresholds": {"_silence_": 0.5}}, "detector names '_silence_'"),
        ({"suppress": {"yes": ["oh yes"]}}, "detector names 'oh yes'"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detector(**options)


def test_config_round_trip() -> None:
    config = DetectorConfig(pooling="mean", thresholds={"yes": 0.5}, suppress={"a": ["a b"]})
    assert DetectorConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="detector has no option smooth"):
        DetectorConfig.from_dict({"smooth": 1})
    with pytest.raises(ValueError, match=r"threshold is 'high'"):
        DetectorConfig.from_dict({"threshold": "high"})
    with pytest.raises(ValueError, match=r"thresholds is 0\.5, not a table"):
        DetectorConfig.from_dict({"thresholds": 0.5})


@pytest.mark.parametrize("shape", [(4,), (3, 5), (1, 3, 4)])
def test_logits_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"the detector takes \[frames, 4\]"):
        detector().process(np.zeros(shape))


def test_logits_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="NaN"):
        detector().process(np.full((2, 4), np.nan))
