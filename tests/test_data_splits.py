"""Splits: the official rule against known answers, the lists, and files without a speaker."""

import pytest
from data_files import write_words

from kws.data import DataError
from kws.data.scan import scan
from kws.data.splits import hash_split, speaker_of, split_by_hash, split_by_lists


@pytest.mark.parametrize(
    ("speaker", "split"),  # as the official lists of v0.02 have them
    [
        *[("0d82fd99", "validation"), ("1e02ffc5", "validation"), ("1cb788bc", "test"), ("37dca74f", "test")],
        *[("0165e0e8", "train"), ("017c4098", "train"), ("050170cb", "train")],
    ],
)
def test_official_rule_gives_the_official_answers(speaker, split):
    assert hash_split(speaker) == split
    assert split_by_hash([f"bed/{speaker}_nohash_4.wav", f"cat/{speaker}_nohash_0.wav.wav"]) == [split, split]


def test_official_rule_agrees_with_every_clip_of_the_lists(speech_commands_root):
    root = next(speech_commands_root.rglob("validation_list.txt")).parent
    clips = scan(root).clips
    by_lists = split_by_lists(root, clips)
    assert {"train", "validation", "test"} == set(by_lists)
    assert by_lists == split_by_hash(clips)


def test_lists_win_over_the_hash(tmp_path):
    root = write_words(tmp_path, ["yes"])
    clips = scan(root).clips
    (root / "validation_list.txt").write_text(f"{clips[0]}\n{clips[1]}\nyes/not_there.wav\n")
    (root / "testing_list.txt").write_text(f"{clips[2]}\n")
    assert split_by_lists(root, clips) == ["validation", "validation", "test"] + ["train"] * (len(clips) - 3)


def test_one_list_alone_is_refused(tmp_path):
    (tmp_path / "validation_list.txt").write_text("yes/a.wav\n")
    with pytest.raises(DataError, match=r"testing_list.txt is missing; add it"):
        split_by_lists(tmp_path, ["yes/a.wav"])


def test_a_clip_in_both_lists_is_refused(tmp_path):
    for name in ("validation_list.txt", "testing_list.txt"):
        (tmp_path / name).write_text("yes/a.wav\n")
    with pytest.raises(DataError, match=r"yes/a.wav is in both"):
        split_by_lists(tmp_path, ["yes/a.wav"])


def test_files_without_a_speaker_split_by_path_and_percentages():
    clips = [f"hey/{i}.wav" for i in range(2000)]
    assert speaker_of(clips[0]) is None
    splits = split_by_hash(clips, 20, 5)
    assert 330 < splits.count("validation") < 470
    assert 60 < splits.count("test") < 145
    assert splits == split_by_hash(clips, 20, 5)
    assert set(split_by_hash(clips, 0, 0)) == {"train"}
    assert splits != split_by_hash([clip.replace("hey", "you") for clip in clips], 20, 5)
