"""`data=folder`: a maker's own recordings, what is spoken beside them, and an epoch of few clips."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from data_files import RATE, tone, write

from kws.config import DataConfig, FolderConfig
from kws.data import DataError, folder, load
from kws.data.batches import TrainBatches
from kws.data.shuffled import shuffled
from kws.speech.sound_alikes import other_texts, sound_alikes


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    """Twenty takes of two words without a speaker's name, as `kws record` makes them."""
    root = tmp_path_factory.mktemp("recordings")
    for word, frequency in (("marvin", 500), ("zenith", 900)):
        for i in range(20):
            write(root / word / f"20260101T{i:06}.wav", tone(frequency, 0.9))
    return root


@pytest.fixture
def few_texts(monkeypatch):
    monkeypatch.setattr(folder, "other_texts", lambda keywords: ["lamp", "the old teacher", "mar"])


def counts(corpus, split):
    return {corpus.labels[number]: count for number, count in Counter(corpus.splits[split].labels.tolist()).items()}


def test_folder_of_any_audio(tmp_path, cache):
    for word, frequency in (("hey", 500), ("you", 900)):
        for i in range(40):
            stereo = np.stack([tone(frequency, 0.5, 44100)] * 2, 1)
            write(tmp_path / word / f"take {i}.flac", stereo, 44100)
        for i in range(10):  # all of one speaker
            write(tmp_path / word / f"ann_nohash_{i}.wav", tone(frequency, 0.5, 22050), 22050)
        for speaker in ("bob", "cid", "dan", "eva", "fay", "gus", "hal", "ida", "jim", "kay"):
            write(tmp_path / word / f"{speaker}_nohash_0.wav", tone(frequency, 0.5))
    config = FolderConfig(
        root=str(tmp_path), cache_dir=cache, keywords=["hey"], validation_percent=20, test_percent=20, unknown_ratio=0.5
    )
    corpus = load(config, RATE, progress=False)
    assert corpus.labels == ("_silence_", "_unknown_", "hey")
    names = {split: corpus.splits[split].names for split in corpus.splits}
    takes = {split: sum("hey/take" in name for name in names[split]) for split in names}
    assert takes == {"train": 24, "validation": 8, "test": 8}
    assert sum(any("hey/ann" in name for name in names[split]) for split in names) == 1
    train = corpus.splits["train"]
    spectrum = np.abs(np.fft.rfft(train.waveforms([train.words.index("hey")])[0][:8000]))
    assert abs(np.argmax(spectrum) * 2 - 500) < 3
    assert all(len(noise) > 10 * RATE for noise in corpus.noise.values())  # made, as none was recorded
    assert (corpus.noise["train"][: 4 * RATE] != corpus.noise["test"][: 4 * RATE]).any()


def test_other_words_are_spoken_where_none_was_recorded(takes, cache, few_texts):
    config = FolderConfig(root=str(takes), cache_dir=cache, workers=1)
    corpus = load(config, RATE, progress=False)
    assert corpus.labels == ("_silence_", "_unknown_", "marvin", "zenith")
    assert counts(corpus, "train") == {"_unknown_": 24, "marvin": 15, "zenith": 15}
    assert counts(corpus, "validation") == {"_silence_": 2, "_unknown_": 3, "marvin": 3, "zenith": 3}
    assert counts(corpus, "test") == {"_silence_": 2, "_unknown_": 3, "marvin": 2, "zenith": 2}
    train = corpus.splits["train"]
    assert {"lamp", "the old teacher", "mar"} == set(train.words) - {"marvin", "zenith"}
    for word, frequency in (("marvin", 500), ("zenith", 900)):  # a row belongs to its name, wherever the file lies
        spectrum = np.abs(np.fft.rfft(train.waveforms([train.words.index(word)])[0][:8000]))
        assert abs(np.argmax(spectrum) * 2 - frequency) < 3
    assert np.abs(train.waveforms([train.words.index("lamp")])).max() > 1000
    # one word alone of the two: the other is what it is told apart from, and nothing is spoken
    alone = load(replace(config, keywords=["marvin"]), RATE, progress=False)
    assert set(alone.splits["train"].words) == {"marvin", "zenith"}
    # the labels of a model win, and ask for no other words
    assert set(load(config, RATE, progress=False, labels=["marvin", "zenith"]).splits["train"].words) == {
        "marvin",
        "zenith",
    }


def test_recordings_of_other_words_take_the_place_of_spoken_ones(takes, cache, tmp_path):
    for word in takes.iterdir():
        (tmp_path / word.name).symlink_to(word)
    for i in range(20):
        write(tmp_path / "_unknown_" / f"{i}.wav", tone(2000))
    corpus = load(FolderConfig(root=str(tmp_path), cache_dir=cache, workers=1), RATE, progress=False)
    assert corpus.labels == ("_silence_", "_unknown_", "marvin", "zenith")
    assert counts(corpus, "train") == {"_unknown_": 15, "marvin": 15, "zenith": 15}
    assert set(corpus.splits["train"].words) == {"_unknown_", "marvin", "zenith"}


def test_no_other_words_and_no_espeak(takes, cache, monkeypatch):
    monkeypatch.setattr(folder, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"espeak-ng, .* is missing; .*kws\[synth\].* into .*_unknown_"):
        load(FolderConfig(root=str(takes), cache_dir=cache), RATE)


def test_takes_of_one_speaker_are_split(tmp_path, cache, few_texts):
    for i in range(20):
        write(tmp_path / "marvin" / f"ada_nohash_{i}.wav", tone(500))
    corpus = load(FolderConfig(root=str(tmp_path), cache_dir=cache, workers=1), RATE, progress=False)
    assert [counts(corpus, split)["marvin"] for split in ("train", "validation", "test")] == [15, 3, 2]


def test_an_epoch_of_few_clips_repeats_them(takes, cache, few_texts):
    config = FolderConfig(root=str(takes), cache_dir=cache, workers=1, train_min_clips=100)
    corpus = load(config, RATE, progress=False)
    batches = TrainBatches(corpus, config, 16, seed=0)
    labels = np.concatenate([batch.labels for batch in batches.epoch(0)])
    # 30 takes, four times each, and as often shuffled; 24 clips of other words are all there are; 0.3 silence
    assert (batches.n_batches, len(labels)) == ((120 + 120 + 24 + 36) // 16, 288)
    assert 108 <= (labels >= 2).sum() <= 120  # a last batch that is not full is left out
    once = TrainBatches(corpus, replace(config, train_min_clips=0), 16, seed=0)
    assert once.n_batches == (30 + 30 + 24 + 9) // 16


def test_takes_are_shuffled_as_unknown_words_of_the_same_voices(takes, cache, few_texts):
    config = FolderConfig(root=str(takes), cache_dir=cache, workers=1, train_min_clips=0, train_unknown_ratio=0.0)
    corpus = load(config, RATE, progress=False)
    batches = list(TrainBatches(corpus, config, 23, seed=0).epoch(0))
    waveform, labels = (np.concatenate([getattr(b, name) for b in batches]) for name in ("waveform", "labels"))
    assert (labels >= 2).sum() + (labels == 1).sum() + (labels == 0).sum() == 69  # 30 takes, 30 shuffled, 9 silent
    assert (labels == 1).sum() == 30
    train = corpus.splits["train"]
    takes_of = {corpus.labels[n]: train.waveforms([train.labels.tolist().index(n)])[0] for n in (2, 3)}
    for heard in waveform[labels == 1]:
        energy = np.square(heard.astype(float)).sum() / np.square(takes_of["marvin"].astype(float)).sum()
        assert 0.8 < energy < 1  # all of a take but the fades
        assert not any((heard == take).all() for take in takes_of.values())
    np.testing.assert_array_equal(
        shuffled(takes_of["marvin"], np.random.default_rng(3), RATE),
        shuffled(takes_of["marvin"], np.random.default_rng(3), RATE),
    )


def test_sound_alikes_are_no_keyword():
    assert {"cot", "bat", "hat"} <= set(sound_alikes("cat"))
    assert not {"cat", "kat"} & set(sound_alikes("cat"))
    assert {"mar", "vin", "darvin"} <= set(sound_alikes("Marvin"))
    assert {"hey", "marvin", "hey mar", "day marvin"} & set(sound_alikes("hey marvin")) == {"hey", "marvin", "hey mar"}
    texts = other_texts(["window", "hat", "cat"])
    assert len(texts) == len(set(texts)) > 250
    assert not {"window", "hat", "cat"} & {word for text in texts for word in text.split()}


def test_bad_folders_are_refused(tmp_path, cache):
    with pytest.raises(DataError, match=r"is not a folder"):
        load(FolderConfig(root=str(tmp_path / "no"), cache_dir=cache), RATE)
    with pytest.raises(DataError, match=r"holds no recordings"):
        load(FolderConfig(root=str(tmp_path), cache_dir=cache), RATE)
    with pytest.raises(DataError, match=r"came without its options"):
        load(DataConfig(root=str(tmp_path), cache_dir=cache), RATE)
