"""Running speech as a source: read with its transcripts, packed, and heard in lanes whose clips join."""

import numpy as np
import pytest
import soundfile

from kws.data.rooms import read_noise, read_responses
from kws.data.speech import RunningSpeech, SpeechLanes
from kws.recordings.speech import Utterance, read_speech, says

RATE, CLIP = 8000, 800


def ramp(start, length):
    """Samples whose value tells where they are."""
    return (np.arange(start, start + length) % 30000).astype(np.int16)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "speech"
    (place / "book").mkdir(parents=True)
    soundfile.write(place / "book" / "a.wav", ramp(0, 20000), RATE)
    soundfile.write(place / "b.flac", ramp(5000, 9000), RATE)
    (place / "transcripts.csv").write_text("file,speaker,text\nbook/a.wav,x,Do not STOP here\n")
    return place


def speech(folder, tmp_path):
    return RunningSpeech(folder, RATE, tmp_path / "cache", "data.speech", progress=False)


def lanes(source, n_lanes=3, run_clips=3, speed=0.0, gain_db=0.0, seed=0):
    return SpeechLanes(source, 8, n_lanes, run_clips, CLIP, speed, gain_db, np.random.default_rng(seed))


def test_files_and_texts_are_read(folder):
    found = read_speech(folder, "data.speech")
    assert found == [Utterance(folder / "b.flac", ""), Utterance(folder / "book" / "a.wav", "Do not STOP here")]


def test_words_of_a_text():
    text = "No, don’t GO! Stop-watch 12 smart, mirrors"
    words = ("no", "don't", "do", "go", "stop_watch", "watch", "watch stop", "smart mirror")
    assert [word for word in words if says(text, word)] == ["no", "don't", "go", "stop_watch", "watch"]
    assert says("Иди", "иди")
    assert not says("", "no")


def test_no_table_is_needed(folder):
    (folder / "transcripts.csv").unlink()
    assert [text for _, text in read_speech(folder, "data.speech")] == ["", ""]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,words\nb.flac,x\n", "no column text"),
        ("file,text\nc.wav,x\n", "line 2 names .*c.wav, which is not there"),
        ("file,text\nb.flac,x\nb.flac,y\n", "line 3 names b.flac again"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(folder, table, message):
    (folder / "transcripts.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        read_speech(folder, "data.speech")


def test_a_table_chooses_files(folder):
    table = folder / "train.csv"
    table.write_text("file,text,speaker\nb.flac,good morning,x\n")
    assert read_speech(table, "data.speech") == [Utterance(folder / "b.flac", "good morning")]
    table.write_text("file,text\n")
    with pytest.raises(ValueError, match="holds no audio file"):
        read_speech(table, "data.speech")


def test_a_folder_without_audio_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"data.speech .* holds no audio file"):
        read_speech(tmp_path, "data.speech")
    with pytest.raises(ValueError, match=r"data.speech .* is neither a folder"):
        read_speech(tmp_path / "nowhere", "data.speech")


def test_all_files_are_packed_once(folder, tmp_path):
    source = speech(folder, tmp_path)
    first = source.run(0, 9000)
    np.testing.assert_array_equal(first, ramp(5000, 9000))
    assert len(source) == 29000 + 2 * round(0.3 * RATE)
    packed = next((tmp_path / "cache").iterdir())
    changed = packed.stat().st_mtime_ns
    speech(folder, tmp_path)
    assert packed.stat().st_mtime_ns == changed
    soundfile.write(folder / "c.wav", ramp(0, 500), RATE)
    assert len(speech(folder, tmp_path)) > len(source)


def test_what_the_texts_say_there(folder, tmp_path):
    labels = ("_unknown_", "stop", "go")
    source = RunningSpeech(folder, RATE, tmp_path / "cache", "data.speech", labels, progress=False)
    begin = 9000 + round(0.3 * RATE)  # of the file that says "Do not STOP here"
    assert source.said(begin - 801, 800).tolist() == [False, False, False]
    assert source.said(begin - 799, 800).tolist() == [False, True, False]
    assert source.said(begin + 5000, 800).tolist() == [False, True, False]


def test_a_run_joins_and_then_the_lane_is_left(tmp_path):
    (tmp_path / "speech").mkdir()
    soundfile.write(tmp_path / "speech" / "long.wav", ramp(0, 29000), RATE)
    drawn = lanes(speech(tmp_path / "speech", tmp_path))
    last = {}
    for _ in range(12):
        running, fresh, clips, _ = drawn.advance()
        assert running.sum() == 3
        assert not fresh[~running].any()
        assert set(np.flatnonzero(running & ~fresh)) <= set(last)
        for lane, clip in zip(np.flatnonzero(running), clips, strict=True):
            if not fresh[lane] and last[lane] < 28999 and clip[0] > 20:  # not in the pause behind the file
                assert clip[0] == last[lane] + 1
        last = {lane: int(clip[-1]) for lane, clip in zip(np.flatnonzero(running), clips, strict=True)}


def test_runs_are_as_long_as_asked_for(folder, tmp_path):
    drawn = lanes(speech(folder, tmp_path), n_lanes=1, run_clips=4)
    begun = [bool(drawn.advance()[1].any()) for _ in range(21)]
    starts = np.flatnonzero(begun)
    assert starts[0] == 0
    assert set(np.diff(starts[1:])) == {4}


def test_speed_and_level_are_those_of_a_run(folder, tmp_path):
    drawn = lanes(speech(folder, tmp_path), n_lanes=1, run_clips=5, speed=0.1, gain_db=6)
    slopes = []
    for _ in range(40):
        clip = drawn.advance()[2][0].astype(float)
        if (np.diff(clip) >= 0).all() and clip.max() < 32767 and clip.min() > 100:
            slopes.append(np.polyfit(np.arange(CLIP), clip, 1)[0])
    assert len(slopes) > 10
    assert 0.9 * 10 ** (-6 / 20) - 0.01 < min(slopes) < max(slopes) < 1.1 * 10 ** (6 / 20) + 0.01
    assert np.ptp(slopes) > 0.2


def test_the_same_seed_draws_the_same(folder, tmp_path):
    source = speech(folder, tmp_path)
    one, other = lanes(source, speed=0.1, seed=4), lanes(source, speed=0.1, seed=4)
    for _ in range(5):
        for a, b in zip(one.advance(), other.advance(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_too_little_speech_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"holds 4.2 s of speech, less than a run of"):
        lanes(speech(folder, tmp_path), run_clips=100).advance()


def test_responses_begin_with_the_direct_sound(tmp_path):
    room = np.zeros(3000)
    room[500], room[900] = 0.8, -0.4
    soundfile.write(tmp_path / "room.wav", room, RATE)
    (response,) = read_responses(str(tmp_path), RATE, "augment.rir_dir")
    assert response.shape == (RATE // 2,)
    np.testing.assert_allclose(response[[16, 416]], np.array([0.8, -0.4]) / np.sqrt(0.8), atol=1e-3)
    assert np.square(response).sum() == pytest.approx(1)
    soundfile.write(tmp_path / "zero.wav", np.zeros(100), RATE)
    with pytest.raises(ValueError, match=r"zero.wav is silent"):
        read_responses(str(tmp_path), RATE, "augment.rir_dir")


def test_noise_is_joined(tmp_path):
    soundfile.write(tmp_path / "a.wav", ramp(0, 100), RATE)
    soundfile.write(tmp_path / "b.wav", ramp(7, 50), RATE)
    np.testing.assert_array_equal(
        read_noise(str(tmp_path), RATE, "augment.noise_dir"), np.concatenate([ramp(0, 100), ramp(7, 50)])
    )
