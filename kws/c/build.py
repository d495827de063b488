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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kws.errors import KwsError

SOURCES = Path(__file__).resolve().parent
COMPILED = ("kws.h", "kws_detector.h", "kws_math.h", "kws.c", "kws_detector.c", "host.c")
COMPILED_FOR_WASM = ("wasm/memory.c", "wasm/string.h")
# No trapping: gcc then computes both sides of a choice, in vectors; no bit of a result depends on it.
FLAGS = ("-std=c99", "-O3", "-ffp-contract=off", "-fno-trapping-math", "-fvisibility=hidden", "-shared")
VARIANTS = {"plain": (), "avx2": ("-mavx2",)}  # plain: with what every processor of a kind has: SSE2, NEON
SECONDS = 600  # for a compiler that unpacks itself first


@dataclass(frozen=True)
class Target:
    """What the library is compiled for. triple: as ziglang calls it, empty: this machine; tag: of its wheel."""

    suffix: str
    variants: tuple[str, ...]
    triple: str = ""
    tag: str = ""

    @property
    def flags(self) -> list[str]:
        """What a compiler is told beside `FLAGS`."""
        position = [] if self.suffix == ".dll" else ["-fPIC"]
        return [*position, "-target", self.triple] if self.triple else position


X86 = ("plain", "avx2")
TARGETS = {
    "linux-x86_64": Target(".so", X86, "x86_64-linux-gnu.2.17", "manylinux_2_17_x86_64"),
    "linux-aarch64": Target(".so", ("plain",), "aarch64-linux-gnu.2.17", "manylinux_2_17_aarch64"),
    "macos-arm64": Target(".dylib", ("plain",), "aarch64-macos.11.0", "macosx_11_0_arm64"),
    "windows-x86_64": Target(".dll", X86, "x86_64-windows-gnu", "win_amd64"),
}
HERE = Target(
    {"Windows": ".dll", "Darwin": ".dylib"}.get(platform.system(), ".so"),
    X86 if platform.machine().lower() in ("x86_64", "amd64") else ("plain",),
)
WASM = Target(".wasm", ("wasm",), "wasm32-freestanding")

_POINTER, _SIZE, _NUMBER = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "kws_host_has_avx2": (ctypes.c_int, []),
    "kws_host_model_bytes": (_SIZE, []),
    "kws_host_stream_bytes": (_SIZE, []),
    "kws_host_memory_bytes": (_SIZE, [_POINTER]),
    "kws_host_model_init": (ctypes.c_int, [_POINTER, _POINTER, _SIZE]),
    "kws_host_init": (ctypes.c_int, [_POINTER, _POINTER, _POINTER, _SIZE]),
    "kws_host_reset": (ctypes.c_int, [_POINTER]),
    "kws_host_watch": (ctypes.c_int, [_POINTER, _POINTER]),
    "kws_host_feed": (_NUMBER, [_POINTER, _POINTER, ctypes.c_int, _SIZE, _POINTER]),
    "kws_host_flush": (_NUMBER, [_POINTER, _POINTER]),
    "kws_host_detector_bytes": (_SIZE, []),
    "kws_host_detector_memory_bytes": (_SIZE, [_POINTER]),
    "kws_host_detector_init": (ctypes.c_int, [_POINTER, _POINTER, _POINTER, _SIZE]),
    "kws_host_detector_reset": (ctypes.c_int, [_POINTER]),
    "kws_host_posteriors": (ctypes.c_int, [_POINTER, _POINTER]),
    "kws_host_detect": (_NUMBER, [_POINTER, _POINTER, _SIZE, _POINTER]),
    "kws_host_spot": (_NUMBER, [_POINTER, _POINTER, _POINTER, ctypes.c_int, _SIZE, _POINTER]),
    "kws_host_spot_many": (None, [_POINTER, _SIZE, ctypes.c_int]),
    "kws_host_end": (_NUMBER, [_POINTER, _POINTER, _POINTER]),
}


class EngineError(KwsError):
    """The C engine cannot be had on this machine."""


def compilers(target: Target = HERE) -> Iterator[list[str]]:
    """Commands that compile C for `target`, the first to be tried first: $CC, cc, gcc, clang, ziglang's."""
    for name in [os.environ.get("CC", ""), "cc", "gcc", "clang"] if not target.triple else []:
        if name and shutil.which(name.split()[0]):
            yield name.split()
    if importlib.util.find_spec("ziglang") is not None:
        yield [sys.executable, "-m", "ziglang", "cc"]


def build(folder: Path, variant: str, target: Target = HERE, using: Sequence[Sequence[str]] | None = None) -> Path:
    """Compile the library into `folder` with the first compiler (of `using`, or any) that can; its path.

    Raises `EngineError` with what the last compiler said.
    """
    library = folder / library_name(variant, target)
    folder.mkdir(parents=True, exist_ok=True)
    error = "there is no C compiler; install one, or the package ziglang"
    for compiler in compilers(target) if using is None else using:
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            made = Path(partial) / library.name
            sources = [str(SOURCES / name) for name in COMPILED if name.endswith(".c")]
            command = [*compiler, *target.flags, *FLAGS, *VARIANTS[variant], *sources, "-o", str(made)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
                said = done.stderr.strip()[-500:]
            except (OSError, subprocess.TimeoutExpired) as failure:
                said = str(failure)
            if made.is_file():
                os.replace(made, library)
                return library
        error = f"{' '.join(compiler)} did not compile the C engine: {said}"
    raise EngineError(error)


def build_wasm(folder: Path) -> Path:
    """Compile the library for WebAssembly, with SIMD and no imports, into `folder`; its path.

    Its memory begins with what the module itself needs, up to `__heap_base`; what is behind is the caller's. Raises
    `EngineError` where ziglang is not installed.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise EngineError("the engine for browsers is compiled by the package ziglang; pip install ziglang")
    folder.mkdir(parents=True, exist_ok=True)
    library, wasm = folder / library_name("wasm", WASM), SOURCES / "wasm"
    sources = [*(SOURCES / name for name in COMPILED if name.endswith(".c")), wasm / "memory.c"]
    flags = ["-std=c99", "-O3", "-ffp-contract=off", "-fno-trapping-math", "-fbuiltin", "-isystem", wasm, "-nostdlib"]
    linked = ["--no-entry", "--strip-all", "-z,stack-size=65536", "--export=__heap_base"]
    linked += [f"--export={name}" for name in SIGNATURES if not name.endswith(("has_avx2", "many"))]
    options = ["-target", WASM.triple, "-mcpu=generic+simd128", *flags, *(f"-Wl,{each}" for each in linked)]
    with tempfile.TemporaryDirectory(dir=folder) as partial:
        made = Path(partial) / library.name
        command = [sys.executable, "-m", "ziglang", "cc", *map(str, (*options, *sources, "-o", made))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if not made.is_file():
            raise EngineError(f"ziglang did not compile the engine for browsers: {done.stderr.strip()[-500:]}")
        os.replace(made, library)
    return library


def wasm_library() -> Path:
    """The library for WebAssembly: beside the package, or compiled once and kept. Raises `EngineError`."""
    return _find("wasm", WASM) or build_wasm(_kept())


def remove_stale(folder: Path) -> None:
    """Remove libraries of other sources than today's, for this machine and for browsers, from `folder`."""
    for target in (HERE, WASM):
        kept = {library_name(variant, target) for variant in target.variants}
        for path in folder.glob(f"kws_*{target.suffix}"):
            if path.name not in kept:
                path.unlink()


@cache
def library(variant: str = "") -> ctypes.CDLL:
    """The library for this machine, loaded. variant: `plain`, `avx2`; empty: the fastest that this processor has.

    Raises `EngineError` where there is none and none can be compiled.
    """
    if not variant:
        plain = library("plain")
        return library("avx2") if "avx2" in HERE.variants and plain.kws_host_has_avx2() else plain
    path = _find(variant) or build(_kept(), variant)
    try:
        return _typed(ctypes.CDLL(str(path)))
    except OSError as error:
        raise EngineError(f"{path} cannot be loaded ({error}); remove it to compile it again") from error


@cache
def is_built() -> bool:
    """Whether there is a library for this machine, with nothing to be compiled; if there is none, it is said once."""
    missing = [variant for variant in HERE.variants if _find(variant) is None]
    if missing:
        print("note: kws runs on onnxruntime; its quicker C engine was not built (docs/devices.md)", file=sys.stderr)
    return not missing


def _find(variant: str, target: Target = HERE) -> Path | None:
    name = library_name(variant, target)
    return next((folder / name for folder in (SOURCES, _kept()) if (folder / name).is_file()), None)


def _kept() -> Path:
    """Where compiled libraries are kept: $KWS_CACHE or the user's cache."""
    return Path(os.environ.get("KWS_CACHE") or Path.home() / ".cache" / "kws") / "engine"


def library_name(variant: str, target: Target = HERE) -> str:
    """Named by what it is compiled from, so that a changed source is compiled again."""
    content = b"".join((SOURCES / name).read_bytes() for name in (*COMPILED, *COMPILED_FOR_WASM))
    digest = hashlib.sha256(content + " ".join(FLAGS).encode()).hexdigest()[:12]
    return f"kws_{variant}_{digest}{target.suffix}"


def _typed(found: ctypes.CDLL) -> ctypes.CDLL:
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found
