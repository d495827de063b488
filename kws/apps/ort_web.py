"""onnxruntime for browsers: one pinned release from the npm registry, checked, unpacked into the user's cache once."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

VERSION = "1.30.0"
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # npm's integrity
REMEDY = f"fetch it elsewhere with `npm pack onnxruntime-web@{VERSION}` and give the file: --ort FILE"


class OrtWebError(OSError):
    """No onnxruntime for the browser to be had: one sentence with the remedy."""


def cache_dir() -> Path:
    """Where the unpacked files are kept: `XDG_CACHE_HOME`, `LOCALAPPDATA` or `~/.cache`, then `kws`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "kws" / f"onnxruntime-web-{VERSION}"


def ort_dir(given: str | Path | None = None, url: str = URL) -> Path:
    """The folder that holds `FILES`.

    `given`: a folder that holds them (or a whole package's `dist`), or the package's archive. None: the cache, filled
    from `url` at the first call (33 MB). Raises `OrtWebError` if they cannot be had, or are not the pinned release.
    """
    if given is not None and Path(given).is_dir():
        folder = next(
            (p for p in (Path(given), Path(given) / "dist", Path(given) / "package" / "dist") if _whole(p)), None
        )
        if folder is None:
            raise OrtWebError(f"--ort {given} does not hold {' and '.join(FILES)}; give onnxruntime-web's dist folder")
        return folder
    if _whole(cache_dir()):
        return cache_dir()
    cache_dir().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir().parent) as work:
        archive = Path(given) if given is not None else _fetch(url, Path(work) / "package.tgz")
        if not archive.is_file():
            raise OrtWebError(f"--ort {given} does not exist; give onnxruntime-web's dist folder or its archive")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != SHA512:
            raise OrtWebError(f"{given or url} is not onnxruntime-web {VERSION} (its SHA-512 differs); {REMEDY}")
        unpacked = Path(work) / "unpacked"
        unpacked.mkdir()
        with tarfile.open(archive) as package:
            for name in FILES:
                member = package.extractfile(f"package/dist/{name}")
                assert member is not None  # the digest says so
                with member, (unpacked / name).open("wb") as file:
                    shutil.copyfileobj(member, file)
        try:
            unpacked.rename(cache_dir())
        except OSError:  # another process was faster
            if not _whole(cache_dir()):
                raise
    return cache_dir()


def _whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def _fetch(url: str, path: Path) -> Path:
    print(f"fetching onnxruntime for the browser, once: {url} (33 MB)", file=sys.stderr, flush=True)
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise OrtWebError(f"{url} cannot be fetched ({getattr(error, 'reason', error)}); {REMEDY}") from error
    return path
