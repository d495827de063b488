"""A stream of known words through the tiny model: counts, curves and TensorFlow's statistics with known answers."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_onnx import say, write_tiny

from kws.evaluate_stream import evaluate_stream
from kws.evaluation.recording_scores import ScoredRecordings
from kws.evaluation.tf_streaming import TfCounts, found_words, tf_counts
from kws.recordings.labels import Event, RecordingsError, read_recordings
from kws.runtime.onnx_model import SpotterModel
from kws.streaming import StreamingSpotter

LENGTH, GAP, RATE = 1600, 40000, 16000
WORDS = {"y": "yes", "n": "no"}


def onset(place: int) -> float:
    """When the word at `place` of a `say` text begins, seconds."""
    return (GAP + place * (LENGTH + GAP)) / RATE


def write_stream(folder: Path, files: dict[str, tuple[str, str]]) -> Path:
    """File name -> what is spoken, and what the labels say at the same places ("-": nothing)."""
    folder.mkdir()
    lines = ["file,onset,offset,keyword,text"]
    for name, (spoken, labelled) in files.items():
        soundfile.write(folder / name, say(spoken, LENGTH, GAP), RATE, subtype="PCM_16")
        for place, letter in enumerate(labelled):
            if letter != "-":
                start = onset(place)
                lines.append(
                    f"{name},{start:.4f},{start + LENGTH / RATE:.4f},{WORDS.get(letter, '_unknown_')},{letter}"
                )
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    # "yes" found three times of four, "no" twice of two; one false alarm of "no"; a "yes" in a "no"'s time.
    return write_stream(
        tmp_path / "stream", {"a.wav": ("yynx", "yynu"), "b.wav": ("ynny", "yn-n"), "c.wav": ("x", "y")}
    )


def test_known_counts(model: Path, stream: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = evaluate_stream(model, stream, output=tmp_path / "out")
    point = report["own_thresholds"]["all"]
    assert (point["events"], point["misses"], point["false_alarms"], point["wrong_in_keyword_time"]) == (7, 2, 1, 1)
    by = report["own_thresholds"]["keywords"]
    assert (by["yes"]["events"], by["yes"]["misses"], by["yes"]["false_alarms"]) == (4, 1, 0)
    assert (by["no"]["events"], by["no"]["misses"], by["no"]["false_alarms"]) == (3, 1, 1)
    seconds = sum((GAP + len(spoken) * (LENGTH + GAP)) / RATE for spoken in ("yynx", "ynny", "x"))
    assert report["hours"] == pytest.approx(seconds / 3600)
    assert report["negative_hours"] == pytest.approx((seconds - 7 * (LENGTH / RATE + 1.0)) / 3600)
    assert point["fa_per_hour"] == pytest.approx(1 / report["negative_hours"])
    assert -LENGTH / RATE * 1000 < point["delay_ms"]["median"] <= 40
    table = capsys.readouterr().out
    assert "28.6% (8.2% to 64.1%)" in table
    assert "TensorFlow's streaming tool" in table
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(report))
    assert (tmp_path / "out" / "det.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "out" / "detections.csv").open()))
    assert [row["verdict"] for row in rows].count("hit") == 5
    assert [(row["file"], row["keyword"]) for row in rows if row["verdict"] == "false alarm"] == [("b.wav", "no")]
    assert [(row["keyword"], row["said"]) for row in rows if row["verdict"] == "wrong"] == [("yes", "n")]


def test_a_keyword_that_the_text_holds_is_neither_hit_nor_false_alarm(model: Path, tmp_path: Path) -> None:
    folder = write_stream(tmp_path / "stream", {"a.wav": ("ynnx", "u-uu")})
    table = folder / "labels.csv"
    for text, alarms in (("u", 2), ("well No I say", 1), ("nobody knows", 2)):
        lines = table.read_text().splitlines()
        lines[2] = ",".join([*lines[2].split(",")[:4], text])  # said where the second "no" is spoken
        table.write_text("\n".join(lines) + "\n")
        files = read_recordings(folder, SpotterModel(model).labels)
        stream = ScoredRecordings(SpotterModel(model), files, 1.0, progress=False)
        outcome = stream.outcomes([stream.model.detector])[0]
        assert outcome.false_alarms.tolist() == [1, alarms]
        assert [verdict for *_, verdict in outcome.verdicts].count("said") == 2 - alarms
        assert outcome.hits.sum() == outcome.wrong.sum() == 0


def test_false_alarms_are_counted_in_running_speech_where_it_is_given(
    model: Path, stream: Path, tmp_path: Path
) -> None:
    before = evaluate_stream(model, stream, output=tmp_path / "out")["own_thresholds"]["all"]
    folder = tmp_path / "speech"
    (folder / "deep").mkdir(parents=True)
    for name, spoken in (("deep/one.wav", "yn"), ("two.wav", "ny"), ("three.wav", "yyyy")):
        soundfile.write(folder / name, say(spoken, LENGTH, GAP), RATE, subtype="PCM_16")
    (folder / "transcripts.csv").write_text("file,text\ndeep/one.wav,Yes sir\ntwo.wav,nothing\nthree.wav,\n")
    after = evaluate_stream(model, stream, speech=folder, output=tmp_path / "out")
    for name, count in (("yes", 1), ("no", 2)):  # "yes" is said in the one, and three.wav has no text
        assert after["own_thresholds"]["keywords"][name]["false_alarms"] == count
    assert after["own_thresholds"]["all"]["misses"] == before["misses"]
    seconds = 2 * ((GAP + 2 * (LENGTH + GAP)) / RATE + 0.3)  # with the pause after each
    assert 3600 * after["negative_hours"] == pytest.approx(seconds)
    rows = list(csv.DictReader((tmp_path / "out" / "detections.csv").open()))
    assert [row["verdict"] for row in rows].count("beside") == before["false_alarms"]
    at = {(row["file"], row["keyword"]): float(row["time"]) for row in rows if row["file"].startswith("two")}
    assert at[("two.wav", "no")] == pytest.approx(onset(0), abs=0.2)  # within its own file
    alone = evaluate_stream(model, speech=folder, output=tmp_path / "out")
    assert alone["own_thresholds"]["all"]["false_alarms"] == 3
    (folder / "transcripts.csv").unlink()
    with pytest.raises(ValueError, match="has a text for none of its files"):
        evaluate_stream(model, stream, speech=folder, output=tmp_path / "out")


def test_targets_choose_the_fewest_misses(model: Path, stream: Path, tmp_path: Path) -> None:
    report = evaluate_stream(model, stream, targets=[0.1, 1000.0], output=tmp_path / "out")
    strict, loose = report["targets"]["0.1"]["all"], report["targets"]["1000"]["all"]
    assert strict["false_alarms"] == 0
    assert strict["misses"] > loose["misses"] == 2
    assert loose["threshold"] < strict["threshold"]
    assert report["targets"]["0.1"]["keywords"]["yes"]["misses"] == 1
    for curve in ("fa_per_hour", "frr"):
        assert len(report["det"][curve]) == len(report["det"]["threshold"])
    assert np.all(np.diff(report["det"]["frr"]) >= 0)


def test_detections_are_those_of_the_runtime(model: Path, stream: Path) -> None:
    loaded = SpotterModel(model)
    scored = ScoredRecordings(loaded, read_recordings(stream, loaded.labels), 1.0, workers=2, progress=False)
    verdicts = scored.outcomes([loaded.detector])[0].verdicts
    expected = []
    for name in ("a.wav", "b.wav", "c.wav"):
        spotter = StreamingSpotter(loaded)
        expected += spotter.feed(soundfile.read(stream / name, dtype="int16")[0]) + spotter.flush()
    assert [detection for _, detection, _ in verdicts] == expected


def test_options_of_the_detector_may_be_changed(model: Path, stream: Path, tmp_path: Path) -> None:
    report = evaluate_stream(model, stream, output=tmp_path / "out", detector={"threshold": 1.0})
    assert report["own_thresholds"]["keywords"]["yes"]["misses"] == 4
    with pytest.raises(ValueError, match=r"detector\.release is 2"):
        evaluate_stream(model, stream, output=tmp_path / "out", detector={"release": 2.0})


def test_a_stream_without_keywords(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = write_stream(tmp_path / "stream", {"a.wav": ("xnx", "u-u")})
    report = evaluate_stream(model, stream, output=tmp_path / "out")
    point = report["own_thresholds"]["all"]
    assert point["frr"] is None
    assert point["false_alarms"] == 1
    assert "targets" not in report
    assert "no false rejection rate" in capsys.readouterr().out


def test_a_stream_without_negative_time(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = write_stream(tmp_path / "stream", {"a.wav": ("y", "y")})
    (stream / "labels.csv").write_text("file,onset,offset,keyword\na.wav,0,2.6,yes\n")
    report = evaluate_stream(model, stream, output=tmp_path / "out", tolerance_ms=10000)
    assert report["own_thresholds"]["all"]["misses"] == 0
    assert report["own_thresholds"]["all"]["fa_per_hour"] is None
    assert "no rate of false alarms" in capsys.readouterr().out


def test_a_model_without_thresholds(
    tmp_path: Path, stream: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    bare = write_tiny(tmp_path / "bare.onnx", detector={"pooling": "sum", "smoothing_ms": 400.0})
    report = evaluate_stream(bare, stream)
    assert not report["calibrated"]
    assert "no thresholds of its own; kws calibrate" in capsys.readouterr().out
    assert (tmp_path / "here" / "bare-stream" / "report.json").exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels.csv is missing"),
        ("file,onset,keyword\n", "has no column offset"),
        ("", "has no column file, onset, offset, keyword"),
        ("file,onset,offset,keyword\na.wav,1,2\n", "line 2 has fewer"),
        ("file,onset,offset,keyword\na.wav,1,,yes\n", "line 2 has fewer"),
        ("file,onset,offset,keyword\na.wav,one,2,yes\n", "'one', offset '2' are not seconds"),
        ("file,onset,offset,keyword\nz.wav,1,2,yes\n", "names z.wav, which is not in"),
        ("file,onset,offset,keyword\na.wav,1,2,maybe\n", "'maybe', which the model does not know"),
        ("file,onset,offset,keyword\na.wav,-1,2,yes\n", "from -1.0 to 2.0 s is no time span"),
        ("file,onset,offset,keyword\na.wav,2,2,yes\n", "is no time span"),
        ("file,onset,offset,keyword\na.wav,nan,2,yes\n", "is no time span"),
        ("file,onset,offset,keyword\na.wav,1,99,yes\n", "past the end of a.wav"),
        ("file,onset,offset,keyword\na.wav,1,2,yes\na.wav,1.5,3,no\n", "'yes' from 1.0 to 2.0 s and 'no' .* overlap"),
    ],
)
def test_labels_that_are_wrong(model: Path, tmp_path: Path, labels: str | None, message: str) -> None:
    stream = write_stream(tmp_path / "stream", {"a.wav": ("y", "y")})
    (stream / "labels.csv").unlink()
    if labels is not None:
        (stream / "labels.csv").write_text(labels)
    with pytest.raises(RecordingsError, match=message) as caught:
        evaluate_stream(model, stream, output=tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_streams_that_are_none(model: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordingsError, match="is not a folder"):
        evaluate_stream(model, tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingsError, match="holds no audio file"):
        evaluate_stream(model, tmp_path / "empty")
    (tmp_path / "empty" / "x.wav").write_text("no audio")
    with pytest.raises(ValueError, match=r"x\.wav cannot be read as audio"):
        evaluate_stream(model, tmp_path / "empty")
    with pytest.raises(ValueError, match="targets is 0"):
        evaluate_stream("m", "s", targets=[0.0])


def test_labels_of_another_encoding(model: Path, stream: Path) -> None:
    (stream / "labels.csv").write_bytes("file,onset,offset,keyword,text\na.wav,1,2,yes,café\n".encode("latin-1"))
    with pytest.raises(RecordingsError, match=r"labels\.csv cannot be read as CSV in UTF-8"):
        evaluate_stream(model, stream)


def test_the_command(model: Path, stream: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kws.cli", "evaluate-stream", model, stream, "--output", tmp_path / "o"]
    options = ["--refractory-ms", "300", "--targets", "2", "20"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "FRR (95 %)" in done.stdout
    assert "at most 20 FA/h" in done.stdout
    assert json.loads((tmp_path / "o" / "report.json").read_text())["detector"]["refractory_ms"] == 300
    done = subprocess.run([*command, "--tolerance-ms", "-3"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (1, "error: tolerance_ms is -3.0; it must be at least 0\n")


# --- TensorFlow's statistics


def test_tf_counts() -> None:
    events = [Event("yes", 1.0, 1.6), Event("no", 5.0, 5.6), Event("_unknown_", 9.0, 9.6)]
    found = [("yes", 1.2), ("no", 2.0), ("yes", 4.6), ("no", 5.0), ("_unknown_", 9.5), ("yes", 20.0)]
    # "no" at 2.0 and "no" at 5.0 meet a word that is another or was met before.
    assert tf_counts(found, events) == TfCounts(words=3, correct=2, wrong=3, false_positive=1)
    percentages = TfCounts(4, 2, 1, 1).percentages()
    assert percentages == {"matched": 75.0, "correct": 50.0, "wrong": 25.0, "false_positive": 25.0}


def naive_found(posteriors: np.ndarray, frame: float, labels: list[str]) -> list[tuple[str, float]]:
    """The description, step by step with a window of scores."""
    last_label, last_time, window, found = "_silence_", -np.inf, [], []
    i = 0
    while i * 0.03 + 1.0 < len(posteriors) * frame - 1e-9:
        time = i * 0.03
        window.append((time, posteriors[round((time + 1.0) / frame) - 1]))
        window = [(t, p) for t, p in window if t >= time - 0.5 - 1e-9]
        if len(window) >= 4 and time - window[0][0] >= 0.125:
            average = np.mean([p for _, p in window], axis=0)
            label = labels[average.argmax()]
            since = np.inf if last_label == "_silence_" else time - last_time
            if average.max() > 0.7 and label != last_label and since > 0.5:
                last_label, last_time = label, time
                if label != "_silence_":
                    found.append((label, time))
        i += 1
    return found


@pytest.mark.parametrize("seed", range(6))
def test_found_words_by_the_description(seed: int) -> None:
    rng, labels = np.random.default_rng(seed), ["_silence_", "yes", "no"]
    logits = np.repeat(rng.normal(0, 4, (30, 3)), rng.integers(5, 60), axis=0)
    posteriors = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found, expected = found_words(posteriors, 0.02, labels), naive_found(posteriors, 0.02, labels)
    assert [(label, round(time, 6)) for label, time in found] == [(label, round(time, 6)) for label, time in expected]
    assert found or seed
