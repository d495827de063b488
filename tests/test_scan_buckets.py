"""kws scan of buckets: S3 by a server of moto, every other scheme by fsspec; found, read ahead, broken."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import kws
from tiny_onnx import say, write_tiny

from kws.errors import KwsError
from kws.scan.buckets import CHUNK, failure, list_remote, open_remote
from kws.scan.sources import list_sources


def sound(words: str, form: str = "FLAC") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, say(words), 16000, format=form)
    return file.getvalue()


def long_recording() -> bytes:
    """Longer than two requests."""
    file = io.BytesIO()
    soundfile.write(file, np.tile(say("yn"), 2 * CHUNK // 2 // len(say("yn")) + 9), 16000, format="WAV")
    return file.getvalue()


@pytest.fixture(scope="module")
def bucket() -> object:
    pytest.importorskip("moto.server", reason="needs moto[server]")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
        }.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="archive")

        def put(key: str, content: bytes) -> None:
            client.put_object(Bucket="archive", Key=key, Body=content)

        yield put
    server.stop()


def files_and_words(output: Path) -> tuple[dict[str, object], dict[str, list[str]]]:
    tables = {}
    for table in ("files", "detections"):
        lines = [line for path in output.glob(f"{table}/*.jsonl") for line in path.read_text().splitlines()]
        tables[table] = [json.loads(line) for line in lines]
    words: dict[str, list[str]] = {}
    for row in sorted(tables["detections"], key=lambda row: row["start"]):
        words.setdefault(row["path"], []).append(row["keyword"])
    return {row["path"]: row["error"] for row in tables["files"]}, words


def test_s3(bucket, tmp_path: Path) -> None:
    model = write_tiny(tmp_path / "tiny.onnx")
    strange = "2024/ünï %20 #1? [x].flac"
    bucket("2024/a.flac", sound("yn"))
    bucket(strange, sound("y"))
    bucket("2024/deep/long.wav", long_recording())
    bucket("2024/cut.flac", sound("y")[:-3000])
    bucket("2024/notes.txt", b"no audio")
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as members:
        for name in ("x/1.flac", "x/2.flac"):
            info = tarfile.TarInfo(name)
            info.size = len(sound("ny"))
            members.addfile(info, io.BytesIO(sound("ny")))
    bucket("2024/shard.tar", tar.getvalue())
    bucket("list.csv", b"path\n2024/a.flac\ns3://archive/2024/gone.flac\n")
    options = ["--model", model, "--engine", "onnxruntime", "--format", "jsonl", "--workers", "1"]
    done = kws("scan", "s3://archive/2024", "s3://archive/list.csv", "--output", tmp_path / "out", *options,
               "--clips", tmp_path / "clips", "--top", "3")  # fmt: skip
    assert done.returncode == 0, done.stderr
    errors, words = files_and_words(tmp_path / "out")
    said = {"a.flac": "yn", strange[5:]: "y", "shard.tar::x/1.flac": "ny", "shard.tar::x/2.flac": "ny"}
    expected = {
        f"s3://archive/2024/{name}": [{"y": "yes", "n": "no"}[letter] for letter in letters]
        for name, letters in said.items()
    }
    long = words.pop("s3://archive/2024/deep/long.wav")
    assert len(long) > 200
    assert long[:4] == ["yes", "no", "yes", "no"]
    damaged = words.pop("s3://archive/2024/cut.flac", [])
    assert damaged in ([], ["yes"])
    assert words == expected
    assert {Path(name).name for name, error in errors.items() if error} == {"cut.flac", "gone.flac"}
    assert "does not exist" in str(errors["s3://archive/2024/gone.flac"])
    assert len(list((tmp_path / "clips").rglob("*.flac"))) == 6
    again = kws(
        "scan", "s3://archive/2024", "s3://archive/list.csv", "--output", tmp_path / "out", *options, "--resume"
    )
    assert "6 of 6 files are finished" in again.stderr
    patterns = {"2024/*.flac": 3, "**/*.wav": 1, "2024/?.flac": 1, "2024/**/long.*": 1}
    assert {pattern: len(list_sources([f"s3://archive/{pattern}"])) for pattern in patterns} == patterns
    for source, message in {
        "s3://archive/nothing": "s3://archive/nothing does not exist",
        "s3://nobody": "s3://nobody does not exist",
        "s3://archive/*.mp3": "holds no audio file",
        "nowhere://x/y": "nowhere://x cannot be reached: Protocol not known",
    }.items():
        failed = kws("scan", source, "--output", tmp_path / "none", *options)
        assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
        assert message in failed.stderr


def test_what_may_not_be_read_is_told(bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow_fs = pytest.importorskip("pyarrow.fs")
    bucket("kept/a.flac", long_recording())

    class Refused:
        def get_file_info(self, what: object) -> object:
            raise OSError("When listing objects: AWS Error ACCESS_DENIED: Access Denied (Request ID: 123)")

        def open_input_file(self, path: str) -> object:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("kws.scan.buckets._file_system", lambda scheme, name: Refused())
    with pytest.raises(KwsError, match=r"s3://archive/kept cannot be listed: .*Access Denied$"):
        list_remote("s3://archive/kept", (".flac",))
    with open_remote("s3://archive/kept/a.flac") as file:
        assert file.read() == b""
        assert failure(file) == "Permission denied"
    assert pyarrow_fs


def test_a_file_is_read_as_it_is_wherever_one_looks_first(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(2 * CHUNK + 12345)
    (tmp_path / "a.flac").write_bytes(content)
    with open_remote(f"local://{tmp_path}/a.flac") as file:
        for start, count in ((0, 12), (len(content) - 5, 99), (CHUNK - 7, 20), (0, CHUNK + 3), (2 * CHUNK, 5), (3, 4)):
            file.seek(start)
            assert file.read(count) == content[start : start + count]
        assert file.seek(0, io.SEEK_END) == len(content)
        assert failure(file) == ""
    assert list_remote(f"local://{tmp_path}", (".flac",)) == {f"local://{tmp_path}/a.flac": len(content)}
