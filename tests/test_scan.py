"""kws scan: every file is a row, every detection is there once, whoever is killed."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow.dataset
import pytest
import soundfile
from commands import kws
from tiny_onnx import say, write_tiny

from kws.errors import KwsError
from kws.runtime.detector import Detector, DetectorConfig, pool_posteriors
from kws.scan.processes import scan_parts
from kws.scan.progress import Progress
from kws.scan.results import Results
from kws.scan.scanner import Scanner, Settings, Tally, fingerprint
from kws.scan.sources import Part, Source, in_shard, list_sources, parts
from kws.scan.spotter import RankingSpotter
from kws.streaming import SpotterModel, StreamingSpotter

WORDS = {"y": "yes", "n": "no"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.onnx")


def write_archive(root: Path, n_files: int, words: str = "yn") -> dict[str, list[str]]:
    """Files that say `words` each; path -> the keywords said in it."""
    said = {}
    for number in range(n_files):
        path = root / f"{number % 3}" / f"{number}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, say(words, gap=8000), 16000)
        said[str(path)] = [WORDS[word] for word in words if word in WORDS]
    return said


def scan(*sources: object, output: Path, model: Path, **options: object) -> subprocess.CompletedProcess[str]:
    given = [item for name, value in options.items() for item in (f"--{name.replace('_', '-')}", value)]
    flags = [item for item in given if item is not True]
    return kws("scan", *sources, "--output", output, "--model", model, "--engine", "onnxruntime", *flags)


def rows(output: Path, table: str) -> list[dict[str, object]]:
    """Of either format, read by other code than ours."""
    if found := sorted(output.glob(f"{table}/part-*.jsonl")):
        return [json.loads(line) for path in found for line in path.read_text().splitlines()]
    return pyarrow.dataset.dataset(str(output / table), format="parquet").to_table().to_pylist()


def heard(output: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {str(row["path"]): [] for row in rows(output, "files")}
    for row in sorted(rows(output, "detections"), key=lambda row: row["start"]):
        found[str(row["path"])].append(str(row["keyword"]))
    return found


def test_every_detection_is_that_of_the_streaming_spotter(tmp_path: Path, model: Path) -> None:
    said = write_archive(tmp_path / "in", 5, "ynxy")
    done = scan(tmp_path / "in", output=tmp_path / "out", model=model, workers=2, top=2)
    assert done.returncode == 0, done.stderr
    assert heard(tmp_path / "out") == said
    expected = {}
    for path in said:
        spotter = StreamingSpotter(model)
        found = spotter.feed(soundfile.read(path, dtype="float32")[0]) + spotter.flush()
        expected[path] = sorted((each.start, each.keyword, each.end, each.score) for each in found)
    for row in rows(tmp_path / "out", "detections"):
        start, keyword, end, score = expected[str(row["path"])].pop(0)
        assert (row["start"], row["keyword"], row["end"]) == (start, keyword, end)
        assert row["score"] >= score
        assert row["model"] == fingerprint(model)
    assert not any(expected.values())
    for row in rows(tmp_path / "out", "files"):
        assert row["seconds"] == soundfile.info(row["path"]).duration
        assert (row["sample_rate"], row["channels"], row["error"], row["detections"]) == (16000, 1, None, 3)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["detections"] == {"no": 5, "yes": 10}
    assert sum(summary["histogram"]["yes"].values()) == 10
    assert "5 files" in done.stdout
    with (tmp_path / "out" / "ranking.csv").open(newline="") as file:
        ranked = list(csv.DictReader(file))
    assert [(row["keyword"], row["rank"]) for row in ranked] == [("no", "1"), ("no", "2"), ("yes", "1"), ("yes", "2")]
    best = sorted(float(row["score"]) for row in rows(tmp_path / "out", "detections") if row["keyword"] == "yes")
    assert [float(row["score"]) for row in ranked[2:]] == best[:-3:-1]


@pytest.mark.parametrize("cut", [1, 37, 999])
def test_the_ranking_score_is_the_highest_in_the_window_after_the_threshold(model: Path, cut: int) -> None:
    loaded = SpotterModel(model)
    config = DetectorConfig(smoothing_ms=200, threshold=0.3)
    samples = say("yxny") * np.float32(0.25)
    spotter = RankingSpotter(loaded, config)
    found = [each for at in range(0, len(samples), cut * 64) for each in spotter.feed(samples[at : at + cut * 64])]
    found += spotter.flush()
    logits = loaded.logits(samples)
    detector = Detector(loaded.labels, loaded.frame_length, 16000, config, loaded.block_size)
    first = detector.process(logits) + detector.flush()
    assert len(first) == len(found) >= 3
    posteriors = [pool_posteriors(logits[max(t - 9, 0) : t + 1], "sum") for t in range(len(logits))]
    for one, other in zip(first, found, strict=True):
        frame = round(one.time * 50) - 2
        peak = max(float(p[loaded.labels.index(one.keyword)]) for p in posteriors[frame : frame + 10])
        assert other.score == pytest.approx(peak, abs=1e-6)
        assert other._replace(score=0) == one._replace(score=0)
    assert any(other.score > one.score + 0.1 for one, other in zip(first, found, strict=True))


def test_a_damaged_file_is_a_row_and_no_name_is_too_strange(tmp_path: Path, model: Path) -> None:
    root = tmp_path / "in"
    good = ["new\nline.wav", "ünï 'q\", $x.wav", os.fsdecode(b"not-utf8-\xff.wav"), "a::b.wav", "file:.wav"]
    root.mkdir()
    for name in good:
        with open(os.fsencode(root / name), "wb") as file:
            soundfile.write(file, say("y"), 16000, format="WAV")
    (root / "empty.wav").write_bytes(b"")
    (root / "text.mp3").write_text("no audio")
    flac = io.BytesIO()
    soundfile.write(flac, np.tile(say("y"), 20), 16000, format="FLAC")
    (root / "cut.flac").write_bytes(flac.getvalue()[:-20000])
    soundfile.write(root / "loud.wav", say("y") * 32768, 16000, subtype="FLOAT")
    soundfile.write(root / "none.wav", np.zeros(0), 16000)
    (root / "gone.wav").symlink_to(root / "nowhere")
    done = scan(root, output=tmp_path / "out", model=model, workers=1)
    assert done.returncode == 0, done.stderr
    errors = {Path(str(row["path"])).name: row["error"] for row in rows(tmp_path / "out", "files")}
    assert len(errors) == 11
    assert {name for name, error in errors.items() if error is None} == {
        "not-utf8-%FF.wav",
        *(name for name in good if name.isprintable() and "utf8" not in name),
        "new\nline.wav",
    }
    assert "is empty" in str(errors["empty.wav"])
    assert "samples reach" in str(errors["loud.wav"])
    assert "does not exist" in str(errors["gone.wav"])
    assert "holds no samples" in str(errors["none.wav"])
    damaged = next(row for row in rows(tmp_path / "out", "files") if str(row["path"]).endswith("cut.flac"))
    assert damaged["error"]
    assert damaged["detections"] > 5  # what came before the damage is kept


def test_tar_files_are_read_inside(tmp_path: Path, model: Path) -> None:
    write_archive(tmp_path / "in", 2)
    for name, mode in (("a.tar", "w"), ("b.tar.gz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as tar:
            tar.add(tmp_path / "in" / "0" / "0.flac", "x/0.flac")
            tar.add(model, "x/0.json")
            tar.add(tmp_path / "in" / "1" / "1.flac", "x/1.flac")
    content = (tmp_path / "a.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        at = tar.getmember("x/1.flac").offset
    (tmp_path / "noise.tar").write_bytes(content[:at] + b"\x07" * 512 + content[at + 512 :])
    (tmp_path / "short.tar").write_bytes(content[: at + 700])
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    done = scan(*sorted(tmp_path.glob("*.tar*")), output=tmp_path / "out", model=model, clips=tmp_path / "clips")
    assert done.returncode == 0, done.stderr
    found = heard(tmp_path / "out")
    for name in ("a.tar::x/0.flac", "a.tar::x/1.flac", "b.tar.gz::x/1.flac", "noise.tar::x/0.flac"):
        assert found[f"{tmp_path}/{name}"] == ["yes", "no"]
    errors = {str(row["path"])[len(str(tmp_path)) + 1 :]: row["error"] for row in rows(tmp_path / "out", "files")}
    assert "is damaged after 1 audio files" in str(errors["noise.tar"])
    assert "holds no audio" in str(errors["empty.tar"])
    assert any(name.startswith("short.tar") and error for name, error in errors.items())
    assert len(list((tmp_path / "clips" / "yes").iterdir())) == len(
        [row for row in rows(tmp_path / "out", "detections") if row["keyword"] == "yes"]
    )
    again = scan(*sorted(tmp_path.glob("*.tar*")), output=tmp_path / "out", model=model, resume=True)
    assert "5 of 5 files are finished" in again.stderr
    assert heard(tmp_path / "out") == found


def test_sources(tmp_path: Path, model: Path) -> None:
    said = sorted(write_archive(tmp_path / "in", 6))
    (tmp_path / "list.csv").write_text(f"id,path\n1,in/0/0.flac\n2,{said[1]}\n3,in/missing.flac\n")
    pyarrow.parquet.write_table(pyarrow.table({"path": ["in/0/3.flac"]}), tmp_path / "list.parquet")
    listed = {source.name for source in list_sources([str(tmp_path / "list.csv")])}
    assert listed == {said[0], said[1], str(tmp_path / "in/missing.flac")}
    assert [source.name for source in list_sources([str(tmp_path / "list.parquet")])] == [said[1]]
    everything = [str(tmp_path / "in"), str(tmp_path / "in" / "**" / "*.flac"), said[0]]
    assert sorted(source.name for source in list_sources(everything)) == said  # each once
    with pytest.raises(KwsError, match="holds no audio file"):
        list_sources([str(tmp_path)], [tmp_path / "in"])
    for given, message in {
        str(tmp_path / "nothing"): "nothing does not exist",
        str(tmp_path / "*.wav"): "holds no audio file",
        str(model.parent / "bad.csv"): "no column `path`",
    }.items():
        (tmp_path / "bad.csv").write_text("file\nx.wav\n")
        done = scan(given, output=tmp_path / "none", model=model)
        assert done.returncode == 1
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    done = scan(tmp_path / "list.csv", output=tmp_path / "out", model=model, format="jsonl")
    assert done.returncode == 0
    assert [row["path"] for row in rows(tmp_path / "out", "files") if row["error"]] == [f"{tmp_path}/in/missing.flac"]


def test_parts_and_shards_hold_every_source_once() -> None:
    sources = [Source(f"/a/{number}.wav", number % 7 * 1000) for number in range(2500)]
    made = parts(sources, 2)
    assert sorted(source for part in made for source in part.sources) == sorted(sources)
    assert max(len(part.sources) for part in made) <= 1000
    assert len({part.name for part in made}) == len(made) >= 16
    shards = [{source.name for source in sources if in_shard(source.name, index, 3)} for index in (1, 2, 3)]
    assert set.union(*shards) == {source.name for source in sources}
    assert not any(a & b for a, b in itertools.combinations(shards, 2))
    assert all(700 < len(shard) < 970 for shard in shards)


def test_shards_of_machines_that_share_a_folder(tmp_path: Path, model: Path) -> None:
    said = write_archive(tmp_path / "in", 9)
    for index in (1, 2):
        assert scan(tmp_path / "in", output=tmp_path / "out", model=model, shard=f"{index}/2").returncode == 0
    assert heard(tmp_path / "out") == said
    assert len({path.name[:11] for path in (tmp_path / "out" / "files").iterdir()}) == 2
    assert "--shard is 3/2" in scan(tmp_path / "in", output=tmp_path / "out", model=model, shard="3/2").stderr
    other = scan(tmp_path / "in", output=tmp_path / "out", model=model, shard="1/3", resume=True)
    assert "shards 2, not 3" in other.stderr


def test_what_is_kept(tmp_path: Path, model: Path) -> None:
    write_archive(tmp_path / "in", 2, "ynxy")
    scan(tmp_path / "in", output=tmp_path / "out", model=model, keywords="no", format="jsonl")
    assert {tuple(found) for found in heard(tmp_path / "out").values()} == {("no",)}
    scores = sorted(float(str(row["score"])) for row in rows(tmp_path / "out", "detections"))
    done = scan(tmp_path / "in", output=tmp_path / "high", model=model, min_score=scores[-1] + 1e-6, keywords="no")
    assert done.returncode == 0
    assert not list((tmp_path / "high" / "detections").iterdir())
    assert "--keywords names 'maybe'" in scan(tmp_path, output=tmp_path / "x", model=model, keywords="maybe").stderr
    assert not (tmp_path / "x").exists()


def test_clips_hold_the_detection(tmp_path: Path, model: Path) -> None:
    speech = np.repeat(say("xxyx"), 3)  # 48 kHz
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.flac", np.stack([speech, speech / 2], axis=1), 48000)
    done = scan(tmp_path / "in", output=tmp_path / "out", model=model, clips=tmp_path / "clips", top=1)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "ranking.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    clip, rate = soundfile.read(row["clip"])
    assert Path(row["clip"]).parent == tmp_path / "clips" / "yes"
    assert (rate, clip.shape[1]) == (48000, 2)
    whole, _ = soundfile.read(tmp_path / "in" / "a.flac")
    first = round((float(row["start"]) - 1) * 48000)
    np.testing.assert_array_equal(clip, whole[first : first + len(clip)])
    assert len(clip) == pytest.approx((float(row["end"]) - float(row["start"]) + 1.5) * 48000, abs=1)


def test_other_results_are_not_touched(tmp_path: Path, model: Path) -> None:
    write_archive(tmp_path / "in", 2)
    output = tmp_path / "out"
    assert scan(tmp_path / "in", output=output, model=model, format="jsonl").returncode == 0
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.jsonl")}
    other = write_tiny(tmp_path / "other.onnx", card={"made": "later"})
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "mine.txt").write_text("x")
    for options, message in (
        ({"output": output, "model": model}, "--resume goes on"),
        ({"output": output, "model": other, "resume": True}, "results of another model"),
        ({"output": output, "model": model, "resume": True, "threshold": 0.9}, "with detector"),
        ({"output": output, "model": model, "resume": True, "min_score": 0.9}, "with min_score null, not 0.9"),
        ({"output": tmp_path / "files", "model": model}, "holds other files"),
    ):
        done = scan(tmp_path / "in", **{"format": "jsonl", **options})
        assert done.returncode == 1
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*.jsonl")}


def start(root: Path, output: Path, model: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kws.cli", "scan", root, "--output", output, "--model", model, "--workers", "2"]
    return subprocess.Popen(
        [*map(str, command), "--engine", "onnxruntime", "--format", "jsonl", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("victim", ["worker", "driver", "group"])
def test_killed_and_resumed_nothing_is_lost_or_doubled(tmp_path: Path, model: Path, victim: str) -> None:
    said = write_archive(tmp_path / "in", 24, "ynxy" * 4)
    output = tmp_path / "out"

    def kept() -> int:
        return len(list(output.glob("files/part-*.jsonl")))

    process = start(tmp_path / "in", output, model)
    wait_for(lambda: kept() >= 3 or process.poll() is not None)
    workers = [pid for task in Path(f"/proc/{process.pid}/task").iterdir() for pid in _children_of(task)]
    assert len(workers) == 2
    if victim == "worker":
        os.kill(workers[0], signal.SIGKILL)
        said_so, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said_so
    else:
        (os.killpg if victim == "group" else os.kill)(process.pid, signal.SIGKILL)
        process.communicate(timeout=120)  # its workers have its standard error and end, too
        before = {path: path.read_bytes() for path in output.glob("*/part-*.jsonl")}
        assert 0 < kept() < len(parts(list_sources([str(tmp_path / "in")]), 2))
        (output / "detections" / "part-1-of-1-feed.jsonl").write_text('{"path": "written before a kill"}\n')
        resumed = start(tmp_path / "in", output, model, "--resume")
        said_so, _ = resumed.communicate(timeout=120)
        assert resumed.returncode == 0, said_so
        assert "of 24 files are finished" in said_so
        for path in output.glob("files/*"):
            assert path.read_bytes() == before.get(path, path.read_bytes())
    assert len(rows(output, "files")) == 24
    assert heard(output) == said
    assert not list(output.rglob("*.partial*"))


def _children_of(task: Path) -> list[int]:
    return [int(each) for each in (task / "children").read_text().split()]


def test_a_file_that_kills_its_process_is_a_row(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = write_archive(tmp_path / "in", 2)
    deadly = sorted(said)[1]
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(
        "import os\nopened = os.fsencode\n"
        f"def deadly(path):\n    if str(path) == {deadly!r}: os.kill(os.getpid(), 11)\n    return opened(path)\n"
        "os.fsencode = deadly\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "hook"), os.environ.get("PYTHONPATH", "")]))
    part = Part(list_sources([str(tmp_path / "in")]))
    settings = Settings(str(model), fingerprint(model), "onnxruntime")
    (found,) = (event.found for event in scan_parts(settings, [part], 1) if event.found)
    assert (found.tally.files, found.tally.failures) == (2, 1)
    errors = {row["path"]: row["error"] for row in found.files}
    assert "ended the process that read it" in errors.pop(deadly)
    assert set(errors.values()) == {None}
    assert [(row["path"], row["keyword"]) for row in found.detections] == [
        (path, word) for path, words in said.items() if path != deadly for word in words
    ]


def test_a_full_disk_is_one_sentence_and_leaves_no_half_a_part(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive(tmp_path / "in", 2)
    results = Results(tmp_path / "out", "jsonl")
    settings = Settings(str(model), fingerprint(model), "onnxruntime")
    part = Part(list_sources([str(tmp_path / "in")]))
    found = Scanner(settings).scan(part)
    with results.begin({"model": settings.model, "model_path": ""}, False):
        written = Path.write_text

        def full(path: Path, *given: object, **options: object) -> int:
            if "files" in path.parts:
                written(path, "{", encoding="utf-8")
                raise OSError(28, "No space left on device")
            return written(path, *given, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match=r"no space is left for .*--resume"):
            results.write(part, found.detections, found.files)
    monkeypatch.undo()
    assert not list((tmp_path / "out" / "files").iterdir())
    done_before = {"model": settings.model, "model_path": ""}
    with results.begin(done_before, False):
        assert not list((tmp_path / "out" / "detections").iterdir())  # those without rows of files are removed


def test_progress_counts_a_part_that_is_begun_again_once() -> None:
    to, now = io.StringIO(), [0.0]
    progress = Progress(4, 1000, to, lambda: now[0])
    now[0] = 61.0
    progress.update(0, Tally(files=1, seconds=3600, detections=5, size=250), False)
    assert to.getvalue() == "1 of 4 files, 1.00 h of audio, 59 x real time, 5 detections, 0 failures, 0:03:03 left\n"
    progress.update(0, Tally(), False)  # its process died
    progress.update(0, Tally(2, 1, 7200, 7, 500), True)
    now[0] = 100.0
    progress.update(1, Tally(size=500), False)
    progress.finish()
    assert to.getvalue().splitlines()[1:] == ["2 of 4 files, 2.00 h of audio, 72 x real time, 7 detections, 1 failures"]
