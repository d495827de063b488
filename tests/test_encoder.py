"""The encoder of our own: rows to learn from, a step of learning, and typed words against a brute-force decoder."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.errors import KwsError
from kws.runtime.contract import contradiction
from kws.runtime.phrases import PhraseDetector, PhraseScorer

torch = pytest.importorskip("torch")

from kws.apps.typed import TypedSpotter  # noqa: E402
from kws.config import FrontendConfig, RecurrentConfig, TrainerConfig  # noqa: E402
from kws.data.decode import read_int16  # noqa: E402
from kws.encoder.learn import Options, learn  # noqa: E402
from kws.encoder.measure import phoneme_error  # noqa: E402
from kws.encoder.pieces import Pieces, Plan, make_pieces, new_encoder  # noqa: E402
from kws.encoder.rows import Rows  # noqa: E402
from kws.encoder.sources import spoken_plans, word_plans  # noqa: E402
from kws.onnx_export.onnx_file import export_onnx  # noqa: E402
from kws.runtime.onnx_model import SpotterModel  # noqa: E402


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [label for label, _ in itertools.groupby(path) if label]


@pytest.mark.parametrize("word", [[1, 2], [2, 2], [1, 2, 1]])
def test_a_word_scores_by_its_best_path(word: list[int]) -> None:
    """Every sequence of labels that begins and ends with the word's sounds, from every frame on."""
    logits = np.random.default_rng(0).normal(0, 2, (6, 3)).astype(np.float32)
    scorer = PhraseScorer([word], 0, 0.03)
    emission = (logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
    for frame in range(6):
        score, start = scorer.step(logits[frame])
        best = max(
            (
                (sum(emission[first + i, label] for i, label in enumerate(path)) / len(word), first)
                for first in range(frame + 1)
                for path in itertools.product(range(3), repeat=frame + 1 - first)
                if path[0] and path[-1] and collapsed(path) == word
            ),
            default=(-1e9, 0),
        )
        if best[0] > -1e8:
            assert score[0] == pytest.approx(best[0])
            assert start[0] <= best[1]  # of paths of one score, the longest


def test_typed_words_are_detected_once_and_not_across_a_long_pause() -> None:
    def spoken(*labels: int) -> np.ndarray:
        return np.eye(4, dtype=np.float32)[list(labels)] * 8

    def found(logits: np.ndarray) -> list[tuple[str, float]]:
        detector = PhraseDetector(["ab", "ba"], PhraseScorer([[1, 2], [2, 1]], 0, 0.03), [0.5, 0.5], 0.03)
        return [(d.keyword, round(d.start, 2)) for d in detector.process(logits)]

    assert found(spoken(0, 0, 1, 0, 2, 0, 0)) == [("ab", 0.06)]
    assert found(spoken(0, 1, *[0] * 9, 2, 0)) == [("ab", 0.03)]
    assert found(spoken(0, 1, *[0] * 11, 2, 0)) == []
    assert found(spoken(1, 3, 3, 2)) == []
    with pytest.raises(KwsError, match="no phonemes"):
        PhraseScorer([[]], 0, 0.03)


def pieces(lengths: list[int], size: int = 192) -> Pieces:
    heard = np.arange(1, sum(lengths) + 1, dtype=np.float16)[:, None].repeat(size, axis=1)
    return Pieces(heard, np.cumsum(lengths), [("k", "æ", "t"), ("p",), ("b", "u")][: len(lengths)])


def test_rows_hold_whole_pieces_and_what_is_said_in_them() -> None:
    rows = iter(Rows(pieces([200, 150, 60]), np.random.default_rng(0), 405))
    said, starts = [], []
    for _ in range(4):
        row = next(rows)
        assert row.heard.shape == (405, 192)
        said.append(row.phonemes)
        starts.append(row.heard[:, 0])
    assert sorted(len(phonemes) for phonemes in said[:2]) in ([1, 5], [2, 4], [3, 3])  # together all that there is
    known = {value for row in starts[:2] for value in row.tolist()} - {0.0}  # zero: masked
    assert len(known) > 380
    assert next(iter(Rows(pieces([300, 500]), np.random.default_rng(0), 405))).phonemes == ("k", "æ", "t")


def test_an_encoder_learns_goes_on_and_becomes_a_file_of_its_own_kind(tmp_path: Path) -> None:
    made, trainer = pieces([200, 150, 60]), TrainerConfig(epochs=1, batch_size=2)
    frontend = FrontendConfig(n_mels=32, f_min=60.0, f_max=3800.0)
    model = RecurrentConfig(hidden_size=8, speech_convs=15, conv_channels=[], time_stride=1, projection_size=0)

    def run(steps: int) -> tuple[object, list[int]]:
        torch.manual_seed(0)
        counted: list[int] = []
        options = Options(steps, 2, save_every=2)
        encoder = new_encoder(frontend, model)
        done = learn(encoder, made, tmp_path, trainer, options, 0, lambda n, f: counted.append(n))
        return done, counted

    assert run(2)[1] == [1, 1]
    encoder, counted = run(4)
    assert counted == [2, 1, 1]
    path = tmp_path / "encoder.onnx"
    export_onnx(encoder, path, kind="phonemes", more={"typed_thresholds": [0.5]})
    assert SpotterModel(path, kind="phonemes").labels[:2] == ("_blank_", "p")
    with pytest.raises(KwsError, match="hears phonemes, not commands; it finds typed words: kws spot"):
        SpotterModel(path)
    typed = TypedSpotter(["Computer", "smart mirror"], path, {"computer": 1e-6})
    assert typed.labels == ("_unknown_", "computer", "smart mirror")
    assert typed.thresholds == {"computer": 1e-6, "smart mirror": 0.5}
    heard = (np.random.default_rng(0).normal(0, 0.1, 16000)).astype(np.float32)
    whole = [*typed.feed(heard), *typed.flush()]
    parts = [d for start in range(0, 16000, 999) for d in typed.feed(heard[start : start + 999])]
    assert [*parts, *typed.flush()] == whole
    for texts, message in ((["cat"], "has 3 phonemes"), ([""], "empty word"), (["mirror", "Mirror"], "twice")):
        with pytest.raises(KwsError, match=message):
            TypedSpotter(texts, path)
    with pytest.raises(KwsError, match="hears commands, not phonemes; name an encoder"):
        TypedSpotter(["computer"], "gsc12_tiny")
    metadata = SpotterModel(path, kind="phonemes").metadata
    assert contradiction(metadata) is None
    for values in ([], [0.5, 2.0], ["x"], None, {}):
        assert "typed_thresholds" in str(contradiction({**metadata, "typed_thresholds": values}))


def test_pieces_are_what_the_encoder_hears(tmp_path: Path) -> None:
    """Behind the pretrained layers the encoder gets in training what it has in a stream; no shard is made twice."""
    model = RecurrentConfig(hidden_size=8, speech_convs=15, conv_channels=[], time_stride=1, projection_size=0)
    frontend = FrontendConfig(n_mels=32, f_min=60.0, f_max=3800.0)
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", np.round(rng.normal(0, 3000, 15000)).astype(np.int16), 16000)
    plans = [
        Plan([str(tmp_path / "a.wav")], "a cat"),
        Plan([str(tmp_path / "a.wav")] * 2),
        Plan(text="a cat", voice="en-us", rate=150),
    ]
    paths = [path for copy in (0, 1) for path in make_pieces(tmp_path / "made", plans, (frontend, model), copy, 1)]
    stamps = [path.stat().st_mtime_ns for path in paths]
    assert make_pieces(tmp_path / "made", plans, (frontend, model), 1, 1) == paths[1:]
    assert [path.stat().st_mtime_ns for path in paths] == stamps
    made = Pieces.read(paths)
    assert made.phonemes == [("ə", "k", "æ", "t"), (), ("ə", "k", "æ", "t")] * 2
    lengths = np.diff(made.ends, prepend=0)
    assert lengths[:2].tolist() == [int((0.3 + 0.9375) / 0.04), int((0.4 + 1.875) / 0.04)]
    assert abs(lengths[3] - lengths[0]) <= 0.2 * lengths[0]  # at another pace
    assert not np.array_equal(made.heard[: lengths[0]], made.heard[made.ends[2] :][: lengths[0]])
    encoder = new_encoder(frontend, model).eval()
    noise = np.random.default_rng([0, 0]).normal(0, 4.0, 19800)
    row = np.concatenate([np.zeros(1600), read_int16(tmp_path / "a.wav", 16000), np.zeros(3200)])
    waveform = torch.from_numpy(np.round(row + noise)[:19200] / 32768).float()[None]
    caught: list[torch.Tensor] = []
    encoder.classifier.get_submodule("frames").register_forward_hook(lambda *given: caught.append(given[2]))
    with torch.no_grad():
        encoder(waveform, encoder.initial_state(1))
    np.testing.assert_allclose(caught[0][0].numpy(), made.heard[:30].astype(np.float32), atol=2e-2, rtol=1e-2)


def test_the_phoneme_error_counts_edits() -> None:
    labels = ("_blank_", "k", "æ", "t")
    rows = np.eye(4, dtype=np.float32)[[0, 1, 1, 0, 2, 0, 0, 2, 3]]
    assert phoneme_error([rows], [["k", "æ", "t"]], labels) == pytest.approx(1 / 3)


def test_words_left_out_are_in_no_piece(tmp_path: Path) -> None:
    for word in ("yes", "happy"):
        (tmp_path / word).mkdir()
        for i in range(20):
            (tmp_path / word / f"{i:08x}_nohash_0.wav").touch()
    plans = word_plans(tmp_path, "train", ["happy"], 100, np.random.default_rng(0))
    assert {text for plan in plans for text in plan.text.split()} == {"yes"}
    assert all(json.dumps(plan.files).count("yes/") == len(plan.text.split()) for plan in plans)
    spoken = spoken_plans(plans, 5, np.random.default_rng(0))
    assert all(set(plan.text.split()) == {"yes"} and plan.voice for plan in spoken)
