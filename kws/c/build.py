"""The engine as a shared library: found beside the package, or compiled once and kept, by a C compiler or ziglang."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from kws.errors import KwsError

SOURCES = Path(__file__).resolve().parent
FLAGS = ("-std=c99", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-shared")
VARIANTS = {"plain": (), "avx2": ("-mavx2",)}
SUFFIX = {"Windows": ".dll", "Darwin": ".dylib"}.get(platform.system(), ".so")
SECONDS = 300  # for a compiler that unpacks itself first


class EngineError(KwsError):
    """The C engine cannot be had on this machine."""


def compilers() -> list[list[str]]:
    """Commands that compile C here, the first to be tried first: $CC, cc, gcc, clang, ziglang's."""
    named = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    found = [name.split() for name in named if name and shutil.which(name.split()[0])]
    if importlib.util.find_spec("ziglang") is not None:
        found.append([sys.executable, "-m", "ziglang", "cc"])
    return found


def build(folder: Path, variant: str, compiler: list[str], target: tuple[str, ...] = ()) -> Path:
    """Compile the library into `folder`; its path. Raises `EngineError` with what the compiler said.

    target: further options, such as ziglang's `-target aarch64-linux-gnu`.
    """
    library = folder / _name(variant)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as partial:
        made = Path(partial) / library.name
        position = () if SUFFIX == ".dll" else ("-fPIC",)
        sources = [str(SOURCES / name) for name in ("kws.c", "host.c")]
        command = [*compiler, *target, *FLAGS, *position, *VARIANTS[variant], *sources, "-o", str(made)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineError(f"{compiler[0]} did not compile the C engine ({error})") from error
        if done.returncode or not made.is_file():
            raise EngineError(f"{' '.join(compiler)} did not compile the C engine: {done.stderr.strip()[-500:]}")
        os.replace(made, library)
    return library


@cache
def library(variant: str = "") -> ctypes.CDLL:
    """The library for this machine, loaded. variant: `plain`, `avx2`; empty: the fastest that this processor has.

    Raises `EngineError` where there is none and none can be compiled.
    """
    if not variant:
        plain = library("plain")
        if platform.machine().lower() not in ("x86_64", "amd64") or not plain.kws_host_has_avx2():
            return plain
        return library("avx2")
    if not (path := SOURCES / _name(variant)).is_file() and not (path := _kept() / _name(variant)).is_file():
        path = _compile(variant)
    try:
        return _typed(ctypes.CDLL(str(path)))
    except OSError as error:
        raise EngineError(f"{path} cannot be loaded ({error}); remove it to compile it again") from error


def _compile(variant: str) -> Path:
    errors = ["there is no C compiler; install one, or the package ziglang"]
    for compiler in compilers():
        try:
            return build(_kept(), variant, compiler)
        except (EngineError, OSError) as error:
            errors.append(str(error))
    raise EngineError(errors[-1])


def _kept() -> Path:
    """Where compiled libraries are kept: $KWS_CACHE or the user's cache."""
    return Path(os.environ.get("KWS_CACHE") or Path.home() / ".cache" / "kws") / "engine"


def _name(variant: str) -> str:
    """Named by what it is compiled from, so that a changed source is compiled again."""
    content = b"".join((SOURCES / name).read_bytes() for name in ("kws.h", "kws.c", "host.c"))
    digest = hashlib.sha256(content + " ".join(FLAGS).encode()).hexdigest()[:12]
    return f"kws_{variant}_{digest}{SUFFIX}"


def _typed(found: ctypes.CDLL) -> ctypes.CDLL:
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
    signatures = {
        "kws_host_has_avx2": (ctypes.c_int, []),
        "kws_host_model_bytes": (size, []),
        "kws_host_stream_bytes": (size, []),
        "kws_host_memory_bytes": (size, [pointer]),
        "kws_host_model_init": (ctypes.c_int, [pointer, pointer, size]),
        "kws_host_init": (ctypes.c_int, [pointer, pointer, pointer, size]),
        "kws_host_reset": (ctypes.c_int, [pointer]),
        "kws_host_feed": (number, [pointer, pointer, ctypes.c_int, size, pointer]),
        "kws_host_flush": (number, [pointer, pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found
