"""The packed clips: the values of the files, files that cannot be used, full disks, two processes at once, memory."""

import errno
import os
import pickle
import platform
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
import soundfile
from data_files import RATE, tone, write, write_words

from kws.data import DataError, DiskFullError
from kws.data import pack as pack_module
from kws.data.decode import fit, read_int16
from kws.data.pack import pack_clips
from kws.data.scan import scan
from kws.system.jobs import run_jobs


def pack_files(root, cache, **options):
    return pack_clips(scan(root), RATE, RATE, cache, progress=False, **{"workers": 1, **options})


def peak_frequency(samples, rate=RATE):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return np.argmax(spectrum) * rate / len(samples)


def test_rows_are_the_files(tmp_path):
    root = write_words(tmp_path / "words", ["yes", "no"], train=12)
    packed = pack_files(root, tmp_path / "cache", workers=3)
    assert len(packed.listing.clips) == 32
    order = np.random.default_rng(0).permutation(32)
    rows = packed.rows.read(order)
    assert rows.shape == (32, RATE)
    assert rows.dtype == np.int16
    for row, number in zip(rows, order, strict=True):
        samples, _ = soundfile.read(root / packed.listing.clips[number], dtype="int16")
        assert len(samples) == 0.9 * RATE
        np.testing.assert_array_equal(row[: len(samples)], samples)
        assert not row[len(samples) :].any()
    noises = [soundfile.read(root / path, dtype="int16")[0] for path in packed.listing.noise]
    for recording, noise in zip(packed.noise, noises, strict=True):
        np.testing.assert_array_equal(recording, noise)


def test_rows_survive_pickling_and_repeat(tmp_path):
    packed = pack_files(write_words(tmp_path / "words", ["yes"]), tmp_path / "cache")
    rows = packed.rows.read([3, 0, 3])
    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(packed.rows)).read([3, 0, 3]), rows)
    assert packed.rows.read([]).shape == (0, RATE)


def test_long_clips_keep_their_loudest_window():
    rng = np.random.default_rng(0)
    samples = rng.integers(-50, 50, 5000).astype(np.int16)
    samples[2100:3100] = rng.integers(-9000, 9000, 1000)
    kept = fit(samples, 1200)
    assert kept.shape == (1200,)
    best = max(range(3801), key=lambda start: (samples[start : start + 1200].astype(int) ** 2).sum())
    np.testing.assert_array_equal(kept, samples[best : best + 1200])
    np.testing.assert_array_equal(fit(samples, 5000), samples)


@pytest.mark.parametrize(
    ("name", "rate", "subtype"),
    [("a.flac", 44100, "PCM_16"), ("a.wav", 8000, "FLOAT"), ("a.ogg", 48000, "VORBIS"), ("a.wav", 22050, "PCM_24")],
)
def test_other_rates_are_resampled_and_channels_averaged(tmp_path, name, rate, subtype):
    import librosa

    left, right = tone(440, 1.5, rate, 0.5), tone(440, 1.5, rate, 0.1)
    path = write(tmp_path / name, np.stack([left, right], 1), rate, subtype)
    samples = read_int16(path, RATE)
    assert samples.dtype == np.int16
    assert len(samples) == 1.5 * RATE
    assert peak_frequency(samples) == pytest.approx(440, abs=1)
    mono = soundfile.read(path, dtype="float32")[0].mean(1)
    expected = librosa.resample(mono, orig_sr=rate, target_sr=RATE, res_type="soxr_hq") * 32768
    np.testing.assert_allclose(samples, expected, atol=1)
    np.testing.assert_allclose(np.abs(samples[2000:-2000]).max(), 0.3 * 32768, rtol=0.05)


def test_downsampling_removes_what_would_alias(tmp_path):
    path = write(tmp_path / "a.wav", tone(440, 1, 48000) + tone(11000, 1, 48000), 48000)
    samples = read_int16(path, RATE)
    spectrum = np.abs(np.fft.rfft(samples[1000:-1000]))
    assert spectrum[1000:].max() < 1e-2 * spectrum.max()


def test_loud_float_samples_are_clipped(tmp_path):
    path = write(tmp_path / "a.wav", np.array([0.5, 1.5, -1.5, 1.0, -1.0]), RATE, "FLOAT")
    assert read_int16(path, RATE).tolist() == [16384, 32767, -32768, 32767, -32768]


def truncated_flac(path):
    write(path.with_suffix(".flac"), np.random.default_rng(0).standard_normal(RATE) * 0.1)
    data = path.with_suffix(".flac").read_bytes()
    path.with_suffix(".flac").unlink()
    path.write_bytes(data[: len(data) // 2])


BAD = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "truncated": (lambda path: path.write_bytes(write(path, tone(440)).read_bytes()[:20000]), "is truncated"),
    "header": (lambda path: path.write_bytes(write(path, tone(440)).read_bytes()[:20]), "is truncated"),
    "flac": (truncated_flac, "is truncated|is damaged"),
    "text": (lambda path: path.write_text("not audio at all " * 100), "cannot be read as audio"),
    "nothing": (lambda path: write(path, np.zeros(0)), "holds no samples"),
    "nan": (lambda path: write(path, np.array([0.1, np.nan, 0.1]), subtype="FLOAT"), "not finite"),
    "infinite": (lambda path: write(path, np.array([0.1, np.inf, 0.1]), subtype="DOUBLE"), "not finite"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_named_and_nothing_is_kept(tmp_path, kind):
    root = write_words(tmp_path / "words", ["yes"], noise=False)
    make, message = BAD[kind]
    make(root / "yes" / "bad.wav")
    with pytest.raises(DataError, match=rf"bad\.wav.*({message})") as caught:
        pack_files(root, tmp_path / "cache")
    assert str(caught.value).count("\n") == 0
    assert not list((tmp_path / "cache").iterdir())


def test_a_bad_noise_recording_is_named(tmp_path):
    root = write_words(tmp_path / "words", ["yes"])
    (root / "_background_noise_" / "bad.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"_background_noise_/bad\.wav is empty"):
        pack_files(root, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_file_that_went_away_is_named(tmp_path):
    listing = scan(write_words(tmp_path / "words", ["yes"]))
    (listing.root / listing.clips[2]).unlink()
    with pytest.raises(DataError, match=r"does not exist") as caught:
        pack_clips(listing, RATE, RATE, tmp_path / "cache", 2, progress=False)
    assert listing.clips[2] in str(caught.value)


def test_wav_of_unknown_size_is_read(tmp_path):
    path = write(tmp_path / "a.wav", tone(440))
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"  # as a program writing to a pipe leaves it
    path.write_bytes(data)
    assert len(read_int16(path, RATE)) == RATE


def test_anything_else_in_a_word_folder_is_refused(tmp_path):
    root = write_words(tmp_path / "words", ["yes"])
    (root / "yes" / ".DS_Store").write_text("passed over")
    (root / "LICENSE").write_text("passed over")
    assert len(scan(root).clips) == 8
    (root / "yes" / "clip.m4a").write_bytes(b"x")
    with pytest.raises(DataError, match=r"clip\.m4a is not an audio file"):
        scan(root)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    root = write_words(tmp_path / "words", ["yes"])
    monkeypatch.setattr(pack_module, "CLIPS", "/dev/full")
    with pytest.raises(DiskFullError, match=r"^no space is left for .*data\.cache_dir") as caught:
        pack_files(root, tmp_path / "cache")
    assert isinstance(caught.value, OSError)
    assert not list((tmp_path / "cache").iterdir())


def test_second_time_nothing_is_decoded(tmp_path, monkeypatch):
    root = write_words(tmp_path / "words", ["yes"])
    first = pack_files(root, tmp_path / "cache")
    monkeypatch.setattr(pack_module, "run_jobs", None)
    again = pack_files(root, tmp_path / "cache")
    np.testing.assert_array_equal(first.rows.read([0]), again.rows.read([0]))


def test_the_key_is_what_was_packed(tmp_path):
    root = write_words(tmp_path / "words", ["yes"])
    cache = tmp_path / "cache"
    pack_files(root, cache)
    pack_clips(scan(root), 8000, 8000, cache, 1, progress=False)
    pack_clips(scan(root), RATE, RATE // 2, cache, 1, progress=False)
    assert len(list(cache.iterdir())) == 3
    write(root / "yes" / "new.wav", tone(500))
    assert len(pack_files(root, cache).listing.clips) == 9
    write(root / "yes" / "new.wav", tone(600))
    os.utime(root / "yes" / "new.wav", ns=(1, 1))
    packed = pack_files(root, cache)
    assert len(list(cache.iterdir())) == 5
    assert peak_frequency(packed.rows.read([packed.listing.clips.index("yes/new.wav")])[0]) == pytest.approx(600, abs=1)


@pytest.mark.parametrize("name", ["clips.int16", "noise.int16", "index.json"])
def test_a_damaged_pack_is_refused(tmp_path, name):
    root = write_words(tmp_path / "words", ["yes"])
    pack_files(root, tmp_path / "cache")
    [folder] = (tmp_path / "cache").iterdir()
    (folder / name).write_bytes((folder / name).read_bytes()[:-100])
    with pytest.raises(DataError, match=r"is damaged .*delete it and run again"):
        pack_files(root, tmp_path / "cache")


def test_two_processes_pack_at_once(tmp_path):
    root = write_words(tmp_path / "words", ["yes"], train=40)
    code = (
        "import sys; from pathlib import Path; from kws.data.scan import scan; from kws.data.pack import pack_clips\n"
        "packed = pack_clips(scan(Path(sys.argv[1])), 16000, 16000, Path(sys.argv[2]), 1, False)\n"
        "print(len(packed.rows.read(range(44))))"
    )
    command = [sys.executable, "-c", code, root, tmp_path / "cache"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in processes] == ["44", "44"]
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.skipif(os.name != "posix", reason="leftovers are removed on POSIX systems")
def test_what_a_killed_process_left_is_removed(tmp_path):
    root = write_words(tmp_path / "words", ["yes"])
    pack_files(root, tmp_path / "cache")
    [folder] = (tmp_path / "cache").iterdir()
    folder.rename(tmp_path / "elsewhere")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = [f"{folder.name}.partial-{platform.node()}-{pid}-{uuid.uuid4().hex[:8]}" for pid in (gone.pid, os.getpid())]
    for name in names:
        (tmp_path / "cache" / name).mkdir()
    pack_files(root, tmp_path / "cache")
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {folder.name, names[1]}


def test_a_process_that_dies_is_reported(tmp_path, monkeypatch):
    (tmp_path / "dying.py").write_text("import os\ndef work(job, done):\n    done(1)\n    os._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"running dying ended with status 3"):
        run_jobs("dying", [{}, {}], 2, 2, "test", progress=False)


def test_results_come_in_order_and_errors_keep_their_number(tmp_path, monkeypatch):
    (tmp_path / "working.py").write_text(
        "import time\ndef work(job, done):\n"
        "    if job['n'] < 0: raise OSError(13, 'no', 'file.wav')\n"
        "    time.sleep(0.1 * (3 - job['n'])); done(1); return job['n'] * 2\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run_jobs("working", [{"n": n} for n in range(3)], 3, 3, "test", progress=False) == [0, 2, 4]
    with pytest.raises(PermissionError, match=r"file.wav: no") as caught:
        run_jobs("working", [{"n": -1}], 1, 1, "test", progress=False)
    assert caught.value.errno == errno.EACCES


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_reading_does_not_fill_memory(tmp_path):
    path = tmp_path / "rows"
    np.zeros((4000, RATE), "<i2").tofile(path)  # 128 MB

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    rows = pack_module.Rows(path, RATE)
    rows.read(range(64))
    before = resident()
    for start in range(0, 4000, 64):
        rows.read(range(start, min(start + 64, 4000)))
    assert resident() - before < 16e6
