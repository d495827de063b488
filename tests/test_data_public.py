"""Public sets by name: unpacked once with their texts, compared with the first download, from nobody's odd archive."""

import io
import zipfile

import pytest

from kws.data import public
from kws.errors import DataError

TEXTS = "LibriSpeech/dev/19/198/19-198.trans.txt"


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """`offered(members)` -> the folder of a set whose archive holds them."""
    monkeypatch.setattr(public, "HOME", tmp_path / "cache")
    file = tmp_path / "set.zip"

    def fetch(members, name="set", sha256=""):
        file.write_bytes(zipped(**members))
        monkeypatch.setitem(public.ARCHIVES, name, public.Archive(file.as_uri(), sha256))
        return public.public(name, "give a folder", progress=False)

    return fetch


def test_a_set_is_fetched_once_with_its_texts(offered):
    folder = offered({TEXTS: "19-198-0000 NORTHANGER ABBEY\n", "LibriSpeech/dev/19/198/19-198-0000.flac": "sound"})
    assert (folder / "transcripts.csv").read_text().splitlines() == [
        "file,text",
        "audio/LibriSpeech/dev/19/198/19-198-0000.flac,northanger abbey",
    ]
    assert (folder / "audio/LibriSpeech/dev/19/198/19-198-0000.flac").read_text() == "sound"
    assert offered({"other": ""}) == folder
    assert not (folder / "audio/other").exists()


def test_a_download_that_differs_from_the_first_is_refused(offered):
    folder = offered({"rooms/a.wav": "a"})
    folder.rename(folder.with_name("moved"))
    with pytest.raises(DataError, match=r"damaged or another file.*give a folder"):
        offered({"rooms/a.wav": "b"})
    assert not folder.exists()
    offered({"rooms/a.wav": "a"})


def test_a_known_checksum_holds_at_once(offered):
    with pytest.raises(DataError, match="its SHA-256 is not 00"):
        offered({"a": ""}, sha256="00" * 32)


@pytest.mark.parametrize("name", ["../a", "/a", "b/../../a"])
def test_members_outside_the_folder_are_refused(offered, tmp_path, name):
    with pytest.raises(DataError, match="no plain file inside it"):
        offered({name: "x"})
    assert not list(tmp_path.rglob("a"))
