"""Many streams in one call: each as if it were alone, whatever its neighbours do."""

import inspect

import numpy as np
import pytest
from tiny_onnx import BLOCK_SIZE, say, write_tiny

from kws.batched import BatchedSpotter
from kws.c.engine import CModel, EngineError
from kws.errors import ModelError
from kws.runtime.detector import DetectorConfig
from kws.streaming import StreamingSpotter


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("batched") / "any.onnx", batch="batch")


def alone(path, samples):
    spotter = StreamingSpotter(path)
    return spotter.feed(samples) + spotter.flush()


def test_every_stream_is_as_if_alone(path):
    """Streams of different lengths, cut into calls of different sizes."""
    streams = [say("yn"), say("nyn"), say(""), say("yy")]
    spotter, rng = BatchedSpotter(path, len(streams)), np.random.default_rng(0)
    found, places = [[] for _ in streams], [0] * len(streams)
    while any(place < len(stream) for place, stream in zip(places, streams, strict=True)):
        cuts = [place + int(rng.integers(0, 3 * BLOCK_SIZE)) for place in places]
        parts = [stream[a:b] for stream, a, b in zip(streams, places, cuts, strict=True)]
        for mine, new in zip(found, spotter.feed(parts), strict=True):
            mine += new
        places = cuts
    for i, stream in enumerate(streams):
        assert [d._asdict() for d in found[i] + spotter.flush(i)] == [d._asdict() for d in alone(path, stream)]
    assert [len(mine) for mine in found] == [2, 3, 0, 2]


def test_neighbours_do_not_change_a_bit_of_the_state(path):
    ours = say("yn")[: 20 * BLOCK_SIZE]
    states = []
    for neighbour in (np.zeros_like(ours), np.full_like(ours, 0.9), ours[:0]):
        spotter = BatchedSpotter(path, 2)
        spotter.feed([ours, neighbour])
        states.append(spotter._streams.stepper.state[0].copy())
    assert (states[0] == states[1]).all()
    assert (states[0] == states[2]).all()


def test_one_stream_can_begin_anew(path):
    spotter = BatchedSpotter(path, 2)
    first = say("y")
    spotter.feed([first, first])
    spotter.reset(0)
    again = spotter.feed([first, first[:0]])[0] + spotter.flush(0)
    assert [d._asdict() for d in again] == [d._asdict() for d in alone(path, first)]


def test_bad_samples_change_nothing(path):
    spotter = BatchedSpotter(path, 2)
    good = say("y")
    with pytest.raises(ValueError, match="NaN"):
        spotter.feed([good, np.array([np.nan], np.float32)])
    with pytest.raises(ValueError, match="give an array for each of the 2"):
        spotter.feed([good])
    assert not spotter._streams.stepper.state.any()


def test_what_cannot_be_batched_is_refused(path, tmp_path):
    with pytest.raises(ModelError, match="steps 1 streams at once, not 4; export it with --batch-size 4"):
        BatchedSpotter(write_tiny(tmp_path / "one.onnx"), 4)
    with pytest.raises(ModelError, match="int8, whose scales"):
        BatchedSpotter(write_tiny(tmp_path / "int8.onnx", batch="batch", precision="int8"), 4)
    with pytest.raises(ValueError, match="n_streams is 0"):
        BatchedSpotter(path, 0)


@pytest.mark.parametrize("thresholds", [None, 0.97, {"yes": 1.0}])
@pytest.mark.parametrize("detector", [None, DetectorConfig(smoothing_ms=200, threshold=0.6)])
def test_the_options_are_those_of_one_stream(path, thresholds, detector):
    one = StreamingSpotter(path, thresholds=thresholds, detector=detector)
    many = BatchedSpotter(path, 2, thresholds=thresholds, detector=detector)
    assert {tuple(each.thresholds) for each in many._detectors} == {tuple(one._detector.thresholds)}
    speech = say("yny")
    (first, second) = many.feed([speech, speech])
    assert first + many.flush(0) == second + many.flush(1) == one.feed(speech) + one.flush()
    options = [set(inspect.signature(cls.__init__).parameters) for cls in (StreamingSpotter, BatchedSpotter)]
    assert options[1] - options[0] == {"n_streams", "threads"}
    assert options[0] <= options[1]
    for wrong in ({"thresholds": 2.0}, {"thresholds": {"maybe": 0.5}}):
        for cls, more in ((StreamingSpotter, ()), (BatchedSpotter, (2,))):
            with pytest.raises(ValueError, match=r"threshold is 2|names 'maybe'"):
                cls(path, *more, **wrong)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_c_engine_gives_each_stream_what_it_gives_one(threads):
    """Clicks and noise at low thresholds, cut into calls of different sizes, one stream begun anew on the way."""
    try:
        model = CModel("gsc12_tiny", "int8")
    except EngineError as error:
        pytest.skip(f"no C engine here: {error}")
    rng = np.random.default_rng(0)
    streams = [(rng.standard_normal(64000) * 3000 * (rng.random(64000) < 0.02 * i)).astype(np.int16) for i in range(5)]
    many, found = BatchedSpotter(model, 5, thresholds=0.02, threads=threads), [[] for _ in streams]
    many.feed([stream[:5000] for stream in streams])
    many.reset()
    places = [0] * 5
    while min(places) < 64000:
        cuts = [place + int(rng.integers(0, 9000)) for place in places]
        parts = [stream[a:b] for stream, a, b in zip(streams, places, cuts, strict=True)]
        for mine, new in zip(found, many.feed(parts), strict=True):
            mine += new
        places = cuts
    expected = []
    for stream in streams:
        one = StreamingSpotter(model, thresholds=0.02)
        expected.append(one.feed(stream) + one.flush())
    assert [mine + many.flush(i) for i, mine in enumerate(found)] == expected
    assert sum(map(len, expected)) > 5
    with pytest.raises(ValueError, match="NaN"):
        many.feed([np.full(2, np.nan, np.float32)] * 5)
    with pytest.raises(ValueError, match="threads is 0"):
        BatchedSpotter(model, 2, threads=0)
