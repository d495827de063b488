"""Synthetic speech: reproducible, speakers apart, words that sound like speech and differ from one another."""

import numpy as np
import pytest
import soundfile

from kws.config import SyntheticConfig
from kws.data import DataError, load
from kws.data.scan import scan
from kws.data.splits import hash_split, speaker_of, split_by_hash, split_by_lists
from kws.data.synthetic import find, plan, speakers

pytest.importorskip("espeakng_loader")
WORDS = ["yes", "stop", "computer"]


def config(root, **options):
    options = {"words": WORDS, "clips_per_word": 40, "workers": 2, **options}
    return SyntheticConfig(root=str(root / "data"), cache_dir=str(root / "cache"), **options)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    root = tmp_path_factory.mktemp("spoken")
    find(config(root), progress=False)
    return root


def contents(root):
    [folder] = (root / "data").iterdir()
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def features(waveforms):
    """Mean and deviation over time of a log power spectrum in 20 bands: [N, 40]."""
    frames = np.lib.stride_tricks.sliding_window_view(waveforms / 32768, 512, 1)[:, ::256] * np.hanning(512)
    power = (np.abs(np.fft.rfft(frames)) ** 2)[..., 6:126].reshape(*frames.shape[:2], 20, 6).sum(-1)
    weight = power.sum(-1, keepdims=True) > 1e-2 * power.sum(-1, keepdims=True).max(1, keepdims=True)
    level = np.log(power / power.sum(-1, keepdims=True).max(1, keepdims=True) + 1e-5)
    mean = (level * weight).sum(1) / weight.sum(1)
    return np.concatenate([mean, np.sqrt((weight * (level - mean[:, None]) ** 2).sum(1) / weight.sum(1))], 1)


def test_layout(spoken):
    files = contents(spoken)
    names = [name for name in files if name.endswith(".wav") and not name.startswith("_")]
    assert len(names) == 3 * 40
    for name in names:
        assert speaker_of(name) in speakers()
    noises = sorted(name for name in files if name.startswith("_background_noise_"))
    assert [name.split("/")[1] for name in noises] == ["babble.wav", "brown.wav", "hum.wav", "pink.wav", "white.wav"]
    [folder] = (spoken / "data").iterdir()
    for name in [names[0], noises[0]]:
        info = soundfile.info(folder / name)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert info.duration == (60 if name.startswith("_") else 1)


def test_the_same_bytes_again_in_any_number_of_processes(spoken, tmp_path):
    find(config(tmp_path, workers=1), progress=False)
    again, files = contents(tmp_path), contents(spoken)
    assert again.keys() == files.keys()
    assert [name for name in files if files[name] != again[name]] == []


def test_the_seed_and_the_words_make_it_another_data_set():
    a, b = plan(WORDS, 40, 0), plan(WORDS, 40, 1)
    assert a == plan(WORDS, 40, 0)
    assert {u.path for u in a} != {u.path for u in b}
    values = {name: {getattr(u, name) for u in a} for name in ("rate", "pitch", "range", "level_db", "position")}
    assert all(len(drawn) > 30 for drawn in values.values())
    assert len({u.voice.split("+")[0] for u in a}) == 8


def test_speakers_are_in_one_split_only():
    utterances = plan(WORDS, 1000, 0)
    paths = [u.path for u in utterances]
    assert len(set(paths)) == 3000
    for u in utterances:
        assert speakers()[speaker_of(u.path)] == u.voice
    splits = split_by_hash(paths)
    voices = {split: {u.voice for u, s in zip(utterances, splits, strict=True) if s == split} for split in set(splits)}
    assert not voices["train"] & voices["validation"] | voices["train"] & voices["test"]
    assert not voices["validation"] & voices["test"]
    assert [splits.count(split) for split in ("train", "validation", "test")] == [2400, 300, 300]
    assert [split_by_hash([u.path for u in plan(["a"], 10, 0)]).count(s) for s in ("validation", "test")] == [1, 1]


def test_lists_and_hash_rule_agree(spoken):
    [folder] = (spoken / "data").iterdir()
    clips = scan(folder).clips
    assert (folder / "validation_list.txt").is_file()
    assert split_by_lists(folder, clips) == split_by_hash(clips) == [hash_split(speaker_of(c)) for c in clips]


def test_there_is_speech_at_many_places_and_levels(spoken):
    corpus = load(config(spoken, label_set="all"), 16000, progress=False)
    waveforms = corpus.splits["train"].waveforms(range(96)).astype(float)
    peaks = 20 * np.log10(np.abs(waveforms).max(1) / 32768)
    assert peaks.min() > -25
    assert peaks.max() < -0.9
    assert np.ptp(peaks) > 15
    loud = np.abs(waveforms) > 0.05 * np.abs(waveforms).max(1, keepdims=True)
    first, last = loud.argmax(1), 16000 - loud[:, ::-1].argmax(1)
    assert (last - first).min() > 0.1 * 16000
    assert np.ptp(first) > 0.3 * 16000
    spectrum = (np.abs(np.fft.rfft(waveforms)) ** 2).sum(0)
    assert spectrum[100:4000].sum() > 0.8 * spectrum.sum()  # most of the energy of speech is between 100 and 4000 Hz


def test_words_differ_whoever_speaks(spoken):
    corpus = load(config(spoken, label_set="all"), 16000, progress=False)
    assert corpus.labels == ("computer", "stop", "yes")
    train = corpus.splits["train"]
    x, y = features(train.waveforms(range(96))), train.labels
    held_out = [corpus.splits[split] for split in ("validation", "test")]
    test_x = np.concatenate([features(clips.waveforms(range(12))) for clips in held_out])
    test_y = np.concatenate([clips.labels for clips in held_out])
    centres = np.stack([x[y == k].mean(0) for k in range(3)])
    nearest = ((test_x[:, None] - centres) ** 2).sum(-1).argmin(1)
    assert (nearest == test_y).mean() > 0.6


def test_twelve_labels_from_synthetic_speech(spoken):
    corpus = load(config(spoken, keywords=["yes", "computer"]), 16000, progress=False)
    assert corpus.labels == ("_silence_", "_unknown_", "yes", "computer")
    assert len(corpus.splits["train"]) == 96
    assert np.abs(corpus.noise["validation"]).max() > 3000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["yes", "---"], "espeak-ng cannot speak '---'"),
        (["open the pod bay doors please my dear computer"], "does not fit into 1 s; raise data.clip_ms"),
        (["yes", "a/b"], "'a/b', which is empty, twice there or cannot be"),
        (["yes", "yes"], "twice"),
        (["_silence_"], "'_silence_'"),
        ([" "], "' '"),
    ],
)
def test_words_that_cannot_be_had_are_refused(tmp_path, words, message):
    with pytest.raises(DataError, match=message):
        find(config(tmp_path, words=words, clips_per_word=10), progress=False)
    assert not list(tmp_path.rglob("*.wav"))
    assert not list(tmp_path.rglob("*partial*"))


def test_a_longer_clip_holds_a_phrase(tmp_path):
    listing = find(config(tmp_path, words=["hey computer"], clips_per_word=10, clip_ms=1500.0), progress=False)
    assert len(listing.clips) == 10
    assert soundfile.info(listing.root / listing.clips[0]).frames == 24000
