"""Label sets, and silence at every loudness."""

import numpy as np
import pytest

from kws.config import DataConfig
from kws.data import DataError, silence_clips
from kws.data.labels import check_labels, choose_labels, label_numbers, word_set
from kws.data.noise import generated_noise, split_noise, varied_noise

NOISE = (3000 * np.random.default_rng(0).standard_normal(16000 * 60)).astype(np.int16)


def test_label_sets():
    assert choose_labels(DataConfig(), word_set("35")) == ("_silence_", "_unknown_", *word_set("12"))
    assert choose_labels(DataConfig(label_set="35"), []) == word_set("35")
    assert choose_labels(DataConfig(label_set="30"), []) == word_set("30")
    assert [len(word_set(name)) for name in ("12", "30", "35")] == [10, 30, 35]
    assert choose_labels(DataConfig(label_set="all"), {"b", "a"}) == ("a", "b")
    assert choose_labels(DataConfig(keywords=["hey", "bed"]), []) == ("_silence_", "_unknown_", "hey", "bed")


def test_words_get_their_label_or_unknown_or_none():
    words = ["yes", "bed", "no", "_silence_", "_unknown_"]
    assert label_numbers(words, ("_silence_", "_unknown_", "no", "yes")).tolist() == [3, 1, 2, 0, 1]
    assert label_numbers(words, ("yes", "no")).tolist() == [0, -1, 1, -1, -1]
    assert label_numbers(["_silence_"], ("_unknown_", "yes")).tolist() == [-1]


def test_bad_labels_are_refused():
    with pytest.raises(DataError, match=r"keyword 'computer' has no clips in /data; .*: bed, yes"):
        check_labels(["computer"], {"yes", "bed"}, "/data")
    with pytest.raises(DataError, match=r"name one twice"):
        check_labels(["yes", "yes"], {"yes"}, "/data")
    with pytest.raises(DataError, match=r"no keyword"):
        check_labels(["_silence_", "_unknown_"], {"yes"}, "/data")


def loudness(clips):
    """RMS level in dBFS, -inf for digital zero."""
    with np.errstate(divide="ignore"):
        return 20 * np.log10(np.sqrt((clips.astype(float) ** 2).mean(1)) / 32768)


def test_silence_is_of_every_loudness_whatever_the_level_of_the_recording():
    for noise in (NOISE, NOISE // 50):
        clips = silence_clips(noise, 3000, 1600, np.random.default_rng(1))
        assert clips.shape == (3000, 1600)
        assert clips.dtype == np.int16
        level = loudness(clips)
        assert 0.03 < np.mean(np.isinf(level)) < 0.07
        counts, _ = np.histogram(level[np.isfinite(level)], bins=6, range=(-70, -7))
        assert counts.min() > 0.8 * 3000 * 0.95 / 6
        assert level[np.isfinite(level)].min() > -71
        assert np.abs(clips.astype(int)).max() >= 32767  # clipped, not wrapped


def test_silence_is_the_same_for_the_same_generator_and_different_pieces():
    a, b = (silence_clips(NOISE, 20, 1600, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    heard = a[loudness(a) > -40]
    assert len(np.unique(heard, axis=0)) == len(heard) > 3


def test_little_noise_is_repeated():
    clips = silence_clips(NOISE[:100], 50, 1600, np.random.default_rng(0))
    loud = clips[loudness(clips) > -30][0]
    np.testing.assert_array_equal(loud[:100], loud[100:200])


def test_noise_is_cut_in_time():
    parts = split_noise([np.arange(100, dtype=np.int16), np.arange(1000, 1010, dtype=np.int16)])
    assert parts["train"].tolist() == [*range(80), *range(1000, 1008)]
    assert parts["validation"].tolist() == [*range(80, 90), 1008]
    assert parts["test"].tolist() == [*range(90, 100), 1009]
    assert [len(part) for part in split_noise([]).values()] == [0, 0, 0]


def test_generated_noises_differ_in_spectrum():
    noises = generated_noise(np.random.default_rng(0), 4, 16000)
    centroid = {}
    for name, noise in noises.items():
        assert np.sqrt(np.mean((noise / 32768) ** 2)) == pytest.approx(0.1, rel=0.05)
        spectrum = np.abs(np.fft.rfft(noise)) ** 2
        centroid[name] = np.sum(spectrum * np.fft.rfftfreq(len(noise), 1 / 16000)) / spectrum.sum()
    assert centroid["brown"] < centroid["hum"] < centroid["babble"] < centroid["pink"] < centroid["white"]


def test_noise_in_other_colours_keeps_its_level_and_changes_its_spectrum():
    rate = 16000
    noise = np.random.default_rng(0).normal(0, 1000, 20 * rate).astype(np.int16)
    varied = varied_noise(noise, 2, np.random.default_rng(1), rate)
    assert len(varied) == 3 * len(noise)
    np.testing.assert_array_equal(varied[: len(noise)], noise)
    np.testing.assert_array_equal(varied, varied_noise(noise, 2, np.random.default_rng(1), rate))

    def octave_db(samples):
        """Power in the octaves 125-250, 500-1000, 2000-4000 Hz over what white noise has there."""
        power = np.abs(np.fft.rfft(samples.astype(float))) ** 2
        frequency = np.fft.rfftfreq(len(samples), 1 / rate)
        return np.array([10 * np.log10(power[(frequency >= f) & (frequency < 2 * f)].mean()) for f in (125, 500, 2000)])

    pieces = varied[len(noise) :].reshape(2, -1)[:, : 8 * rate]
    for piece in pieces:
        assert np.sqrt(np.mean(piece.astype(float) ** 2)) == pytest.approx(1000, rel=0.02)
        assert np.ptp(octave_db(piece)) > 2
    assert np.abs(octave_db(pieces[0]) - octave_db(pieces[1])).max() > 2
    assert np.ptp(octave_db(noise[: 8 * rate])) < 1
    assert varied_noise(noise[:0], 2, np.random.default_rng(1), rate).shape == (0,)
    assert (varied_noise(np.zeros(100, np.int16), 1, np.random.default_rng(1), rate) == 0).all()
