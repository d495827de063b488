"""Audio of strangers: what can't be heard is named, and nothing grows or hangs."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hostile import Case, check


def wav(rate: int = 16000, channels: int = 1, bits: int = 16, kind: int = 1, data: bytes = bytes(32000)) -> bytes:
    """A WAV file with whatever its header is told to say."""
    align = channels * bits // 8
    head = struct.pack("<HHIIHH", kind, channels, rate & 0xFFFFFFFF, (rate * align) & 0xFFFFFFFF, align & 0xFFFF, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def holds(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def encoded(name: str, keep: float = 1.0, harm: int = 0) -> Callable[[Path], object]:
    """Ten seconds of noise in the format of `name`, cut off after the share `keep`, with some bytes changed."""

    def make(folder: Path) -> None:
        rng = np.random.default_rng(0)
        path = folder / name
        soundfile.write(path, 0.1 * rng.standard_normal(160_000), 16000)
        content = bytearray(path.read_bytes()[: int(keep * path.stat().st_size)])
        for at in rng.integers(len(content) // 2, len(content), harm):
            content[at] ^= 0xFF
        path.write_bytes(content)

    return make


HEADERS = {
    "1-hz": (wav(rate=1), "1 Hz"),
    "999-hz": (wav(rate=999), "999 Hz"),
    "2-ghz": (wav(rate=2_000_000_000), "2000000000 Hz"),
    "400-khz": (wav(rate=400_000), "400000 Hz"),
    "0-hz": (wav(rate=0), ""),
    "0-channels": (wav(channels=0), ""),
    "2000-channels": (wav(channels=2000, data=bytes(400_000)), ""),
    "0-bits": (wav(bits=0), ""),
    "odd-kind": (wav(kind=0x1234), ""),
    "no-samples": (wav(data=b""), "holds no samples"),
    "nan": (wav(kind=3, bits=32, data=np.full(8000, np.nan, "<f4").tobytes()), "not finite"),
    "text": (b"this is not audio", "cannot be read as audio"),
    "zeros": (bytes(100_000), "cannot be read as audio"),
    "riff-only": (b"RIFF\x00\x00\x00\x00WAVE", ""),
    "empty": (b"", "is empty"),
    "half": (wav()[:9000], "truncated"),
}
COMMANDS = {"spot": "spot --model gsc12_tiny {}/x.wav", "listen": "listen --model gsc12_tiny --file {}/x.wav"}


def cases() -> list[Case]:
    found = [
        Case(f"{command}-{name}", arguments, says or "x.wav", holds("x.wav", content))
        for command, arguments in COMMANDS.items()
        for name, (content, says) in HEADERS.items()
    ]
    for ending in ("flac", "ogg", "mp3", "aiff", "au", "caf", "w64"):
        name = f"x.{ending}"
        found += [
            Case(f"cut-{ending}", f"spot --model gsc12_tiny {{}}/{name}", name, encoded(name, 0.6)),
            Case(f"head-{ending}", f"spot --model gsc12_tiny {{}}/{name}", name, encoded(name, 0.0003)),
        ]
    for options, says in (
        ("--rate 0", "--rate"), ("--rate -1", "--rate"), ("--rate 999", "--rate"), ("--rate 384001", "--rate"),
        ("--rate nan", "--rate"), ("--rate 2e9", "--rate"), ("--channels 0", "--channels"),
        ("--channels -2", "--channels"), ("--channels 100000", "--channels"),
    ):  # fmt: skip
        found.append(
            Case(
                f"raw{options}",
                f"spot --model gsc12_tiny {options} -",
                says,
                status=2 if "nan" in options or "2e9" in options else 1,
                stdin=bytes(3200),
            )
        )
    return [
        *found,
        Case(
            "wide",
            "spot --model gsc12_tiny {}/x.wav",
            "truncated",
            holds("x.wav", wav(384_000, 1024, 8, data=bytes(1_000_000))[:-5000]),
        ),
        Case("raw-odd", "spot --model gsc12_tiny -", "into a sample", stdin=bytes(3201)),
        Case("missing", "spot --model gsc12_tiny {}/none.wav", "does not exist"),
        Case("folder", "spot --model gsc12_tiny {}", "is a folder"),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_audio(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)
