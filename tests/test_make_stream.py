"""Recording sets made from tone words: reproducible, labelled where the words are, without keywords where promised."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tone_words import WORDS, write_tone_words

from kws.config import FolderConfig
from kws.make_stream import make_stream
from kws.recordings.config import MakeStreamConfig
from kws.recordings.scenes import word_bounds
from kws.speech.sentences import holds, sentence, sound_alike_sentences

KEYWORDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> MakeStreamConfig:
    folder = tmp_path_factory.mktemp("stream")
    data = FolderConfig(
        root=str(write_tone_words(folder / "words")), cache_dir=str(folder / "cache"), keywords=["yes", "no"], workers=1
    )
    return MakeStreamConfig(
        output=str(folder / "made"), data=data, positive_hours=1 / 60, negative_hours=1 / 60, file_minutes=0.5,
        speech_share=0.0, word_share=1.0, pause_ms_max=800.0, echo_probability=0.0, snr_db_min=20.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(config: MakeStreamConfig) -> Path:
    return make_stream(config)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open() as file:
        return list(csv.DictReader(file))


def test_files(made: Path) -> None:
    names = sorted(path.name for path in made.iterdir())
    sounds = ["negative-0000.wav", "negative-0001.wav", "positive-0000.wav", "positive-0001.wav"]
    assert names == ["labels.csv", *sounds, "provenance.json"]
    for name in sounds:
        with wave.open(str(made / name)) as file:
            assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (16000, 2, 1)
            assert file.getnframes() == 30 * 16000
    provenance = json.loads((made / "provenance.json").read_text())
    assert provenance["labels"] == ["_silence_", "_unknown_", "yes", "no"]
    assert provenance["config"]["snr_db_min"] == 20


def test_words_are_where_the_labels_say(made: Path) -> None:
    for row in rows(made):
        samples = soundfile.read(made / row["file"])[0]
        onset, offset = float(row["onset"]), float(row["offset"])
        assert 0.1 < offset - onset < 0.8
        word = samples[round(onset * 16000) : round(offset * 16000)]
        spectrum = np.abs(np.fft.rfft(word * np.hanning(len(word))))
        loudest = np.fft.rfftfreq(len(word), 1 / 16000)[spectrum.argmax()]
        assert loudest == pytest.approx(WORDS[row["text"]], rel=0.05)
        assert row["keyword"] == (row["text"] if row["text"] in ("yes", "no") else "_unknown_")
        assert row["file"].startswith("positive") or row["keyword"] == "_unknown_"
    said = [row["keyword"] for row in rows(made) if row["file"].startswith("positive")]
    assert min(said.count(word) for word in ("yes", "no", "_unknown_")) >= 4


def test_the_noise_is_at_the_drawn_level(made: Path) -> None:
    words, pauses = [], []
    for name in ("positive-0000.wav", "positive-0001.wav"):
        samples, spoken = soundfile.read(made / name)[0], np.zeros(30 * 16000, bool)
        for row in rows(made):
            if row["file"] == name:
                spoken[round(float(row["onset"]) * 16000) - 3200 : round(float(row["offset"]) * 16000) + 3200] = True
        loudness = np.sqrt(np.mean(samples[: 30 * 16000][spoken] ** 2))
        pauses.append(20 * np.log10(np.sqrt(np.mean(samples[~spoken] ** 2)) / loudness))
        words.append(20 * np.log10(loudness))
    assert all(-22 < level < -12 for level in pauses)  # 20 dB below speech, which is counted with its pauses
    assert all(-45 < level < -15 for level in words)


def test_the_same_seed_gives_the_same_stream(config: MakeStreamConfig, made: Path, tmp_path: Path) -> None:
    again = make_stream(replace(config, output=str(tmp_path / "again"), workers=1))
    other = make_stream(replace(config, output=str(tmp_path / "other"), seed=1))
    for path in made.iterdir():
        if path.name != "provenance.json":
            assert (again / path.name).read_bytes() == path.read_bytes()
            assert (other / path.name).read_bytes() != path.read_bytes()


def test_sentences_and_echo(config: MakeStreamConfig, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    spoken = replace(
        config, output=str(tmp_path / "s"), positive_hours=0.0, negative_hours=0.5 / 60, speech_share=1.0,
        word_share=0.0, sound_alike_share=0.5, echo_probability=1.0,
    )  # fmt: skip
    folder = make_stream(spoken)
    said = rows(folder)
    assert len(said) >= 3
    assert {row["keyword"] for row in said} == {"_unknown_"}
    assert all(len(row["text"].split()) > 1 and not holds(row["text"], ["yes", "no"]) for row in said)
    samples = soundfile.read(folder / "negative-0000.wav")[0]
    for row in said:
        part = samples[round(float(row["onset"]) * 16000) : round(float(row["offset"]) * 16000)]
        assert np.sqrt(np.mean(part**2)) > 0.005


def test_noise_and_rooms_from_files(config: MakeStreamConfig, tmp_path: Path) -> None:
    """A noise of one tone is what the pauses hold; a room whose echo comes 0.3 s later is heard after each word."""
    for name in ("noise", "rooms"):
        (tmp_path / name).mkdir()
    tone = 0.3 * np.sin(2 * np.pi * 3000 * np.arange(20 * 16000) / 16000)
    soundfile.write(tmp_path / "noise" / "tone.wav", tone, 16000)
    echo = np.zeros(6400)
    echo[32], echo[32 + 4800] = 0.8, 0.6
    soundfile.write(tmp_path / "rooms" / "echo.wav", echo, 16000)
    options = replace(
        config, positive_hours=0.5 / 60, negative_hours=0.0, keyword_share=1.0, pause_ms_min=1500.0,
        pause_ms_max=1600.0, snr_db_min=30.0, snr_db_max=30.0, noise_dir=str(tmp_path / "noise"),
        rir_dir=str(tmp_path / "rooms"),
    )  # fmt: skip
    later = {}
    for probability in (0.0, 1.0):
        folder = make_stream(replace(options, output=str(tmp_path / str(probability)), echo_probability=probability))
        samples, said = soundfile.read(folder / "positive-0000.wav")[0], rows(folder)
        offset = round(float(said[0]["offset"]) * 16000)
        pause = samples[offset + 9600 : offset + 17600]
        assert np.fft.rfftfreq(8000, 1 / 16000)[np.abs(np.fft.rfft(pause)).argmax()] == pytest.approx(3000, abs=5)
        later[probability] = np.std(samples[offset + 2400 : offset + 4800]) / np.std(pause)
    assert later[0.0] == pytest.approx(1, abs=0.5)
    assert later[1.0] > 5


def test_bounds_of_a_word() -> None:
    rng = np.random.default_rng(0)
    clips, truth = np.zeros((50, 16000)), []
    for clip in clips:
        onset = int(rng.integers(1000, 8000))
        offset = onset + int(rng.integers(2000, 7000))
        clip[:] = rng.normal(0, 20, 16000)
        clip[onset:offset] += rng.normal(0, 2000, offset - onset)
        truth.append((onset, offset))
    found = word_bounds(np.round(clips).astype(np.int16))
    assert np.abs(found - np.array(truth)).max() <= 320  # 20 ms


def test_bounds_of_clips_without_a_clear_word() -> None:
    clips = np.zeros((3, 16000), np.int16)
    clips[1] = 1000
    clips[2, 8000] = 30000
    bounds = word_bounds(clips)
    assert (bounds[:, 0] < bounds[:, 1]).all()
    assert bounds.min() >= 0
    assert bounds.max() <= 16000


def test_sentences_hold_no_keyword() -> None:
    rng = np.random.default_rng(0)
    texts = [sentence(rng, KEYWORDS, "validation", sound_alike=i % 4 == 0) for i in range(2000)]
    assert not any(holds(text, KEYWORDS) for text in texts)
    assert len(set(texts)) > 1200
    assert not any("<" in text for text in texts)
    assert any("slight fright" in text for text in texts)
    assert not any(holds(text, KEYWORDS) for text in sound_alike_sentences())
    assert not any(holds(sentence(rng, ["the", "a"], "train"), ["the", "a"]) for _ in range(50))
    assert holds("Stop, please!", ["stop"])
    assert not holds("she stopped", ["stop"])
    assert holds("play some music", ["some music"])
    train = {text for i in range(3000) for text in sentence(rng, KEYWORDS, "train", sound_alike=i % 2 == 0).split()}
    evaluation = {word for text in texts for word in text.split()}
    assert len(evaluation - train) > 100  # words that training never says
    with pytest.raises(ValueError, match="no sentence can be made"):
        sentence(rng, [word for text in sound_alike_sentences() for word in text.split()], "test", sound_alike=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "dev"}, "split is 'dev'"),
        ({"positive_hours": -1}, "positive_hours is -1"),
        ({"positive_hours": 0, "negative_hours": 0}, "must be above 0"),
        ({"keyword_share": 1.5}, "keyword_share is 1.5"),
        ({"speech_share": 0.7, "word_share": 0.7}, "more than 1 together"),
        ({"snr_db_min": 30}, "snr_db_min 30 is above snr_db_max"),
        ({"level_db_max": 3}, "at most 0"),
        ({"rt60_ms_min": 0}, "rt60_ms_min is 0"),
        ({"file_minutes": 0.1}, "file_minutes is 0.1"),
    ],
)
def test_bad_options(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MakeStreamConfig(output="s", **change)


def test_nothing_is_overwritten_or_left_half_made(config: MakeStreamConfig, made: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is already there"):
        make_stream(config)
    wrong = replace(config, output=str(tmp_path / "s"), data=replace(config.data, keywords=["yes", "maybe"]))
    with pytest.raises(ValueError, match="'maybe' has no clips"):
        make_stream(wrong)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_is_wrong_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kws.make_stream", f"output={tmp_path / 's'}", "keyword_share=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "keyword_share is 2" in done.stderr
    assert done.stderr.count("\n") == 1
