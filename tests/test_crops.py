"""Clips cut from running audio: what is said in them decides their label."""

import csv

import librosa
import numpy as np
import pytest
import soundfile as sf

from kws.data.crops import RecordingCrops

LABELS = ("_silence_", "_unknown_", "yes", "no")
RATE = 16000
# Seconds: a keyword, other speech close behind it, a pause, another keyword.
EVENTS = [("yes", 2.0, 2.5), ("_unknown_", 2.8, 5.0), ("no", 8.0, 8.4)]


@pytest.fixture
def recordings(tmp_path):
    """Twelve seconds in which each sample tells its own time."""
    samples = np.arange(12 * RATE) // 8
    sf.write(tmp_path / "a.wav", samples.astype(np.int16), RATE, subtype="PCM_16")
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "onset", "offset", "keyword"])
        writer.writerows(["a.wav", onset, offset, keyword] for keyword, onset, offset in EVENTS)
    return tmp_path


def drawn(recordings, count=4000):
    crops = RecordingCrops(recordings, LABELS, RATE, RATE)
    starts, labels = crops.draw(count, np.random.default_rng(0))
    return crops, starts / RATE, labels


def test_labels_follow_what_is_said(recordings):
    _, starts, labels = drawn(recordings)
    by_label = {name: starts[labels == i] for i, name in enumerate(LABELS)}
    yes, no = by_label["yes"], by_label["no"]
    assert 1.5 <= yes.min() < 1.55
    assert 1.75 < yes.max() <= 1.8  # then the words behind it are heard
    assert 7.4 <= no.min() < 7.45
    assert 7.95 < no.max() <= 8.0
    unknown = by_label["_unknown_"]
    assert unknown.min() >= 2.5
    assert unknown.max() <= 4.75
    silence = by_label["_silence_"]
    for keyword, onset, offset in EVENTS:
        assert not ((silence + 1 > onset) & (silence < offset)).any(), keyword


def test_shares_of_keywords_and_silence(recordings):
    crops, _, labels = drawn(recordings)
    assert crops.shares == pytest.approx({"keyword": 0.3, "_unknown_": 0.6, "_silence_": 0.1})
    assert np.mean(labels >= 2) == pytest.approx(0.3, abs=0.03)
    assert np.mean(labels == 0) == pytest.approx(0.1, abs=0.03)


def test_clips_are_the_samples_at_their_place(recordings):
    crops, starts, _ = drawn(recordings, 20)
    clips = crops.waveforms((starts * RATE).astype(np.int64))
    assert clips.shape == (20, RATE)
    np.testing.assert_array_equal(clips[:, 0], (starts * RATE).astype(np.int64) // 8)
    np.testing.assert_array_equal(clips[:, -1], ((starts + 1) * RATE - 1).astype(np.int64) // 8)


def test_labels_without_silence_are_refused(recordings):
    with pytest.raises(ValueError, match=r"data.train_recordings needs the labels _silence_ and _unknown_; choose"):
        RecordingCrops(recordings, ("yes", "no"), RATE, RATE)


def test_other_rates_are_heard_as_everywhere(recordings):
    """Stereo at 44.1 kHz: the crops are cut from what librosa makes of it, at the times that the labels say."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (12 * 44100, 2)).astype(np.float32)
    sf.write(recordings / "a.wav", sound, 44100, subtype="FLOAT")
    crops, starts, labels = drawn(recordings, 50)
    heard = librosa.resample(sound.mean(axis=1), orig_sr=44100, target_sr=RATE, res_type="soxr_hq") * 32768
    first = (starts * RATE).round().astype(np.int64)
    expected = np.stack([heard[start : start + RATE] for start in first])
    np.testing.assert_allclose(crops.waveforms(first), expected, atol=1)
    assert set(labels.tolist()) == {0, 1, 2, 3}


def test_a_folder_without_labels_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no audio file"):
        RecordingCrops(tmp_path, LABELS, RATE, RATE)
