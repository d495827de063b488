"""`load`: what each source, label set and split holds, and what is refused."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from data_files import RATE, speakers, tone, write, write_words

from kws.config import SpeechCommandsConfig
from kws.data import DataError, load
from kws.data.splits import hash_split

WORDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "bed", "cat", "wow"]


@pytest.fixture(scope="module")
def words_root(tmp_path_factory):
    return write_words(tmp_path_factory.mktemp("words"), WORDS, train=5, held_out=4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


def open_words(root, cache, labels=None, sample_rate=RATE, **options):
    config = SpeechCommandsConfig(root=str(root), cache_dir=cache, workers=1, download=False, **options)
    return load(config, sample_rate, progress=False, labels=labels)


def counts(corpus, split):
    return {corpus.labels[number]: count for number, count in Counter(corpus.splits[split].labels.tolist()).items()}


def test_twelve_labels(words_root, cache):
    corpus = open_words(words_root, cache, unknown_ratio=0.25)
    assert corpus.labels == ("_silence_", "_unknown_", *WORDS[:10])
    assert counts(corpus, "train") == {"_unknown_": 15, **dict.fromkeys(WORDS[:10], 5)}
    for split in ("validation", "test"):
        clips = corpus.splits[split]
        assert counts(corpus, split) == {"_silence_": 4, "_unknown_": 10, **dict.fromkeys(WORDS[:10], 4)}
        assert clips.labels.dtype == np.int64
        assert len(clips) == len(clips.names) == len(clips.words) == 54
        assert clips.names[-4:] == ["_silence_/0", "_silence_/1", "_silence_/2", "_silence_/3"]
        assert set(clips.words) == {*WORDS, "_silence_"}
        speech = [name for name in clips.names if not name.startswith("_")]
        assert {hash_split(name.split("/")[1].split("_")[0]) for name in speech} == {split}


def test_waveforms_belong_to_their_names(words_root, cache):
    corpus = open_words(words_root, cache)
    clips = corpus.splits["test"]
    order = np.random.default_rng(0).permutation(len(clips))
    waveforms = clips.waveforms(order)
    assert waveforms.shape == (len(clips), RATE)
    assert waveforms.dtype == np.int16
    for waveform, number in zip(waveforms, order, strict=True):
        if clips.words[number] != "_silence_":
            assert corpus.labels[clips.labels[number]] in (clips.words[number], "_unknown_")
            frequency = np.argmax(np.abs(np.fft.rfft(waveform[:14400]))) / 0.9
            assert abs(frequency - 300 - 100 * WORDS.index(clips.words[number])) < 50
    assert clips.waveforms([]).shape == (0, RATE)
    for outside in (-1, len(clips)):
        with pytest.raises(IndexError):
            clips.waveforms([0, outside])


def test_evaluation_splits_are_always_the_same_draw(words_root, cache):
    a, b, other = (open_words(words_root, cache, seed=seed).splits["validation"] for seed in (3, 3, 4))
    assert a.names == b.names
    everything = range(len(a))
    np.testing.assert_array_equal(a.waveforms(everything), b.waveforms(everything))
    assert (a.waveforms(everything)[-4:] != other.waveforms(everything)[-4:]).any()


def test_keywords_and_the_rest_as_unknown(words_root, cache):
    corpus = open_words(words_root, cache, keywords=["wow", "yes"], unknown_ratio=1.0, silence_ratio=0.0)
    assert corpus.labels == ("_silence_", "_unknown_", "wow", "yes")
    assert counts(corpus, "train") == {"_unknown_": 55, "wow": 5, "yes": 5}
    assert counts(corpus, "test") == {"_unknown_": 8, "wow": 4, "yes": 4}


def test_all_words(words_root, cache):
    corpus = open_words(words_root, cache, label_set="all")
    assert corpus.labels == tuple(sorted(WORDS))
    assert counts(corpus, "test") == dict.fromkeys(WORDS, 4)


def test_labels_of_a_model_win(words_root, cache):
    labels = ("no", "_unknown_", "yes")
    corpus = open_words(words_root, cache, labels=labels, unknown_ratio=0.5)
    assert corpus.labels == labels
    assert counts(corpus, "test") == {"no": 4, "_unknown_": 4, "yes": 4}
    assert set(counts(open_words(words_root, cache, labels=("no", "yes")), "test")) == {"no", "yes"}


def test_other_sample_rate_and_length(words_root, cache):
    corpus = open_words(words_root, cache, sample_rate=8000, clip_ms=500)
    clips = corpus.splits["train"]
    assert clips.clip_length == 4000
    spectrum = np.abs(np.fft.rfft(clips.waveforms([clips.words.index("yes")])[0]))
    assert abs(np.argmax(spectrum) * 2 - 300) < 50
    with pytest.raises(ValueError, match=r"whole number"):
        open_words(words_root, cache, clip_ms=0.3)


def test_noise_is_in_one_split_only(words_root, cache):
    noise = open_words(words_root, cache).noise
    assert [len(noise[split]) for split in ("train", "validation", "test")] == [160 * RATE, 4 * RATE, 4 * RATE]
    recorded = open_words(words_root, cache, train_noise_variants=0).noise["train"]
    np.testing.assert_array_equal(noise["train"][: 32 * RATE], recorded)
    pieces = {split: {noise[split][i : i + 8].tobytes() for i in range(0, 4 * RATE, 8)} for split in noise}
    assert not pieces["train"] & pieces["validation"]
    assert not pieces["validation"] & pieces["test"]


@pytest.mark.parametrize("inside", ["", "speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02"])
def test_root_may_be_the_data_set_or_hold_it(words_root, cache, tmp_path, inside):
    root = tmp_path / "root"
    (root / inside).parent.mkdir(parents=True, exist_ok=True)
    (root / inside).symlink_to(words_root)
    assert len(open_words(root, cache).splits["train"]) == 65


def test_a_keyword_without_clips_is_refused(words_root, cache):
    with pytest.raises(DataError, match=r"keyword 'computer' has no clips in .*: bed, cat, down,"):
        open_words(words_root, cache, keywords=["yes", "computer"])
    with pytest.raises(DataError, match=r"keyword 'backward' has no clips"):
        open_words(words_root, cache, label_set="35")


def test_no_other_words_for_unknown(tmp_path, cache):
    root = write_words(tmp_path, ["yes", "no"])
    with pytest.raises(DataError, match=r"train split .* no clip of a word besides the keywords, for `_unknown_`"):
        open_words(root, cache, keywords=["yes", "no"])


def test_a_class_missing_from_a_split(tmp_path, cache):
    root = write_words(tmp_path, ["yes", "no", "bed"])
    for speaker in speakers("test", 2):
        (root / "no" / f"{speaker}_nohash_0.wav").unlink()
    corpus = open_words(root, cache, keywords=["yes", "no"])  # enough to train and validate
    assert len(corpus.splits["validation"]) == 6
    with pytest.raises(DataError, match=r"the test split of .* holds no clip of 'no'"):
        corpus.splits["test"]
    assert list(corpus.splits) == ["train", "validation"]
    for speaker in speakers("train", 4):
        (root / "no" / f"{speaker}_nohash_0.wav").unlink()
    with pytest.raises(DataError, match=r"the train split of .* holds no clip of 'no'"):
        open_words(root, cache, keywords=["yes", "no"])


def test_nothing_there_and_no_download(tmp_path, cache):
    with pytest.raises(DataError, match=r"data.download is false; choose data=synthetic .* or set data.root"):
        open_words(tmp_path / "nowhere", cache)
    (tmp_path / "_background_noise_").mkdir()
    with pytest.raises(DataError, match=r"holds no clips"):
        open_words(tmp_path, cache)


def write_test_archive(folder, words, unknown=3, silence=2):
    for number, word in enumerate([*words, *["_unknown_"] * unknown, *["_silence_"] * silence]):
        write(folder / word / f"{number:08x}_nohash_0.wav", tone(200 + 50 * number))
        name = folder / word / f"{number:08x}_nohash_0.wav"
        name.rename(name.with_name(f"{name.name}.wav"))  # as in the official archive
    return folder


def test_official_test_archive(words_root, cache, tmp_path):
    folder = write_test_archive(tmp_path / "test", WORDS[:10])
    corpus = open_words(words_root, cache, test_dir=str(folder))
    clips = corpus.splits["test"]
    assert counts(corpus, "test") == {"_unknown_": 3, "_silence_": 2, **dict.fromkeys(WORDS[:10], 1)}
    assert "yes/00000000_nohash_0.wav.wav" in clips.names
    assert all(name.endswith(".wav.wav") for name in clips.names)
    assert np.abs(clips.waveforms([clips.words.index("_silence_")])).max() > 5000
    assert len(corpus.splits["validation"]) == 48


def test_official_test_archive_alone_is_enough_for_a_model(cache, tmp_path):
    folder = write_test_archive(tmp_path / "test", WORDS[:10])
    labels = ("_silence_", "_unknown_", *WORDS[:10])
    corpus = open_words(tmp_path / "nowhere", cache, labels=labels, test_dir=str(folder))
    assert len(corpus.splits["test"]) == 15
    with pytest.raises(DataError, match=r"holds no Speech Commands"):
        corpus.splits["validation"]
    corpus = open_words(tmp_path / "nowhere", cache, labels=("_unknown_", "go"), test_dir=str(folder))
    assert counts(corpus, "test") == {"go": 1, "_unknown_": 12}


def test_official_test_archive_that_lacks_a_class(words_root, cache, tmp_path):
    folder = write_test_archive(tmp_path / "test", WORDS[:9])
    corpus = open_words(words_root, cache, test_dir=str(folder))
    with pytest.raises(DataError, match=r"the test split of .*test holds no clip of 'go'"):
        corpus.splits["test"]
    corpus = open_words(words_root, cache, test_dir=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"data.test_dir .*nowhere is not a folder"):
        corpus.splits["test"]


def test_opening_loads_neither_torch_nor_librosa(words_root, cache):
    open_words(words_root, cache)
    code = (
        "import sys; from kws.config import SpeechCommandsConfig; from kws.data import load\n"
        f"corpus = load(SpeechCommandsConfig(root={str(words_root)!r}, cache_dir={cache!r}), 16000)\n"
        "corpus.splits['validation'].waveforms([0])\n"
        "print(sorted({'torch', 'librosa', 'soundfile', 'pooch', 'tqdm', 'scipy', 'requests'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert out.stdout.strip() == "[]"


def test_real_speech(speech_commands_root, cache, tmp_path):
    import soundfile

    source = next(Path(speech_commands_root).rglob("validation_list.txt")).parent
    root = tmp_path / "speech_commands_v0.02"
    for word in ("yes", "no", "bed", "cat"):
        (root / word).mkdir(parents=True)
        files = sorted((source / word).iterdir())
        held_out = [path for path in files if hash_split(path.name.split("_")[0]) != "train"]
        for path in files[:40] + held_out[:40]:
            (root / word / path.name).unlink(missing_ok=True)
            (root / word / path.name).symlink_to(path)
    for name in ("_background_noise_", "validation_list.txt", "testing_list.txt"):
        (root / name).symlink_to(source / name)
    corpus = open_words(tmp_path, cache, keywords=["yes", "no"])
    assert set(counts(corpus, "validation")) == set(counts(corpus, "test")) == set(corpus.labels)
    listed = set((source / "validation_list.txt").read_text().split())
    clips = corpus.splits["validation"]
    assert all(name in listed for name in clips.names if not name.startswith("_silence_"))
    for number in (0, len(clips) // 2):
        samples, rate = soundfile.read(source / clips.names[number], dtype="int16")
        assert rate == RATE
        np.testing.assert_array_equal(clips.waveforms([number])[0][: len(samples)], samples[:RATE])
    assert len(corpus.noise["train"]) > 60 * RATE
