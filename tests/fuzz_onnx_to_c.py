"""Damaged model files against the way from ONNX to the engine's block of weights (make fuzz).

    python tests/fuzz_onnx_to_c.py SECONDS SEED FOLDER MODEL...

A damaged file is either refused by an error of ours or gives a block, which the engine takes or refuses by its codes.
Every other exception ends the run. Blocks of the models, float32 and int8, and the first of damaged files that the
engine takes are written to FOLDER, for the sanitizers (tests/fuzz_c_engine.c).
"""

import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from kws.c.block import make_block
from kws.c.engine import CModel
from kws.c.weights import read_weights
from kws.errors import KwsError

KEPT = 50  # blocks
TELLING = (b"0", b"1", b"-1", b"7", b"255", b"1e9", b"1e-9", b"4096", b"65536", b"NaN", b"null", b'""', b"[]", b"true")
SILENCE = np.zeros(1600, np.int16)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """A file cut short, with other numbers in its metadata, or with some bytes changed."""
    kind = rng.integers(4)
    if kind == 0:
        return content[: rng.integers(len(content))]
    if kind == 1:  # of the same length, so that the file stays one
        spots = [match for match in re.finditer(rb"(?<=[ \[:])-?\d[\d.e-]*(?=[,\]} ])", content)]
        for _ in range(rng.integers(1, 4)):
            spot = spots[rng.integers(len(spots))]
            fitting = [number for number in TELLING if len(number) <= spot.end() - spot.start()]
            number = fitting[rng.integers(len(fitting))].rjust(spot.end() - spot.start())
            content = content[: spot.start()] + number + content[spot.end() :]
        return content
    changed = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        start = rng.choice([0, 0, len(content) - 8000])
        at = rng.integers(max(0, start), len(content) if rng.integers(3) == 0 or start else min(3000, len(content)))
        changed[at] = rng.integers(256)
    return bytes(changed)


def main(seconds: str, seed: str, folder: str, *models: str) -> None:
    rng, counts, end = np.random.default_rng(int(seed)), Counter(), time.monotonic() + float(seconds)
    contents = [Path(model).read_bytes() for model in models]
    for model in models:
        for precision in ("float32", "int8"):
            (Path(folder) / f"{Path(model).stem}-{precision}").write_bytes(
                make_block(read_weights(Path(model)), precision)
            )
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "damaged.onnx"
        while time.monotonic() < end:
            counts["files"] += 1
            path.write_bytes(damaged(contents[rng.integers(len(contents))], rng))
            try:
                model = CModel(path, ("", "float32", "int8")[rng.integers(3)])
                model.logits(SILENCE)
            except KwsError:
                continue
            counts["taken"] += 1
            if counts["taken"] <= KEPT:
                block = make_block(read_weights(path), ("float32", "int8")[counts["taken"] % 2])
                (Path(folder) / f"damaged-{counts['taken']}").write_bytes(block)
    print(f"{counts['files']} damaged files, {counts['taken']} of them taken and run")


if __name__ == "__main__":
    main(*sys.argv[1:])
