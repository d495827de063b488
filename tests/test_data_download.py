"""Downloads: whole or not at all, whatever goes wrong between the server and the folder."""

import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from data_files import write_words

from kws.config import SpeechCommandsConfig
from kws.data import DataError, DiskFullError, load, speech_commands
from kws.system.atomic import whole_folder

HOME = "SpeechCommands/speech_commands_v0.02"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The bytes of a small archive laid out like the official one."""
    folder = write_words(tmp_path_factory.mktemp("words"), ["yes", "no", "bed"])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, ".")
    return buffer.getvalue()


@pytest.fixture
def server():
    """`server(body, length)` -> the URL of a loopback server that sends `body` and calls it `length` bytes."""
    servers = []

    def start(body, length=None, status=200):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/speech_commands_v0.02.tar.gz"

    yield start
    for running in servers:
        running.shutdown()
        running.server_close()


def fetch(root, url, **options):
    """Download into `root` and load, as training does."""
    (root / "data").mkdir(exist_ok=True)
    config = SpeechCommandsConfig(
        root=str(root / "data"), cache_dir=str(root / "cache"), url=url, keywords=["yes", "no"], workers=1, **options
    )
    return load(config, 16000, progress=False)


def with_hash(url, body):
    return f"{url}#sha256={hashlib.sha256(body).hexdigest()}"


def nothing_left(root):
    return not [path for path in root.rglob("*") if path.is_file() or "partial" in path.name or path.name == "yes"]


def file_url(path, body):
    path.write_bytes(body)
    return with_hash(path.as_uri(), body)


def pack_members(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, "/etc/passwd", 3 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"abc"))
    return buffer.getvalue()


def test_from_a_server(tmp_path, archive, server, capsys):
    corpus = fetch(tmp_path, with_hash(server(archive), archive))
    assert len(corpus.splits["train"]) == 12
    assert [path.name for path in (tmp_path / "data" / "SpeechCommands").iterdir()] == ["speech_commands_v0.02"]
    names = sorted(path.name for path in (tmp_path / "data" / HOME).iterdir())
    assert names == ["_background_noise_", "bed", "no", "yes"]
    assert capsys.readouterr().err == ""
    again = fetch(tmp_path, "http://127.0.0.1:1/not/asked/again")
    waveforms = again.splits["train"].waveforms(range(12))
    np.testing.assert_array_equal(waveforms, corpus.splits["train"].waveforms(range(12)))


def test_a_named_folder_that_is_not_there_is_not_made(tmp_path, archive, server, monkeypatch):
    url = with_hash(server(archive), archive)
    with pytest.raises(DataError, match=r"data\.root \S*nowhere is not a folder; choose .* or make that folder"):
        speech_commands.find(SpeechCommandsConfig(root=str(tmp_path / "nowhere"), url=url))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.chdir(tmp_path)
    assert speech_commands.find(SpeechCommandsConfig(url=url), progress=False).own_words == {"bed", "no", "yes"}
    assert (tmp_path / "data" / HOME).is_dir()


def test_progress_is_shown(tmp_path, archive, server, capsys):
    config = SpeechCommandsConfig(root=str(tmp_path), url=with_hash(server(archive), archive))
    speech_commands.find(config, progress=True)
    assert "unpacking" in capsys.readouterr().err


def test_from_a_local_file_inside_one_folder(tmp_path, archive):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out, tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            content = tar.extractfile(member)
            member.name = f"mirror/{member.name}"
            out.addfile(member, content)
    corpus = fetch(tmp_path, file_url(tmp_path / "mirror.tar", buffer.getvalue()))
    assert len(corpus.splits["train"]) == 12
    assert (tmp_path / "data" / HOME / "yes").is_dir()
    assert not (tmp_path / "data" / HOME / "mirror").exists()
    assert (tmp_path / "mirror.tar").exists()


def test_the_official_hash_is_the_default(tmp_path, archive, server):
    official = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
    (tmp_path / "a.tar.gz").write_bytes(archive)
    for url in (server(archive), (tmp_path / "a.tar.gz").as_uri()):
        with pytest.raises(DataError, match=f"{official}.*; choose data=synthetic"):
            fetch(tmp_path, url)
    assert nothing_left(tmp_path / "data")


@pytest.mark.parametrize(
    ("length", "message"),
    [(None, "half downloaded, damaged or another file"), (10**6, "could not be downloaded")],
)
def test_half_a_download_is_not_taken(tmp_path, archive, server, length, message):
    url = with_hash(server(archive[: len(archive) // 2], length), archive)
    with pytest.raises(DataError, match=f"{message}.*choose data=synthetic"):
        fetch(tmp_path, url)
    assert nothing_left(tmp_path / "data")


def test_no_network_says_what_to_do(tmp_path, server):
    for url in ("http://127.0.0.1:1/x.tar.gz", server(b"", status=404)):
        with pytest.raises(DataError, match=r"could not be downloaded .*data=synthetic .* or set data\.root") as caught:
            fetch(tmp_path, url)
        assert str(caught.value).count("\n") == 0
    assert nothing_left(tmp_path / "data")


@pytest.mark.parametrize(
    "url", ["ftp://example.org/x", "speech.tar.gz", "file:///nowhere/x.tar.gz", "http://a/b#md5=1"]
)
def test_bad_urls_are_refused(tmp_path, url):
    with pytest.raises(DataError, match=r"data.url"):
        fetch(tmp_path, url)
    assert nothing_left(tmp_path / "data")


@pytest.mark.parametrize("keep", [200, 5000])
def test_a_damaged_archive_is_refused(tmp_path, archive, keep):
    for number, body in enumerate((archive[:keep], b"not a tar file" * 100, archive[:keep] + b"x" * 5000)):
        with pytest.raises(DataError, match=r"is damaged"):
            fetch(tmp_path, file_url(tmp_path / f"{number}.tar.gz", body))
    assert nothing_left(tmp_path / "data")


def test_unsafe_members_are_refused(tmp_path):
    file, link = tarfile.REGTYPE, tarfile.SYMTYPE
    for name, kind in (("../escaped", file), ("/tmp/kws-escaped", file), ("yes/link", link), ("yes/../../up", file)):
        url = file_url(tmp_path / "a.tar.gz", pack_members(("yes/a.wav", file), (name, kind)))
        with pytest.raises(DataError, match=r"is no plain file inside it"):
            fetch(tmp_path, url)
    assert nothing_left(tmp_path / "data")


def test_an_archive_of_something_else_is_refused(tmp_path):
    url = file_url(tmp_path / "a.tar.gz", pack_members(("poems/a.txt", tarfile.REGTYPE)))
    with pytest.raises(DataError, match=r"does not hold the data set; choose data=synthetic"):
        fetch(tmp_path, url)
    assert nothing_left(tmp_path / "data")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_interrupted_unpacking_leaves_nothing(tmp_path, archive, monkeypatch, error):
    extract, calls = tarfile.TarFile.extract, []

    def failing(self, member, *args, **options):
        calls.append(member.name)
        if len(calls) == 10:
            raise error
        return extract(self, member, *args, **options)

    monkeypatch.setattr(tarfile.TarFile, "extract", failing)
    url = file_url(tmp_path / "a.tar.gz", archive)
    expected = DiskFullError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match=r"data.root" if isinstance(error, OSError) else None):
        fetch(tmp_path, url)
    assert len(calls) == 10
    assert nothing_left(tmp_path / "data")
    assert len(fetch(tmp_path, url).splits["train"]) == 12  # and the next run is a clean start


def test_the_first_of_two_makers_of_a_folder_wins(tmp_path):
    with whole_folder(tmp_path / "x", "data.root") as first:
        (first / "first").touch()
        with whole_folder(tmp_path / "x", "data.root") as second:
            (second / "second").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["x", "second"]
