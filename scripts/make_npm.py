"""Make the npm package kws-web: the page's modules (kws/apps/web), the engine as WebAssembly, types, the element.

    python scripts/make_npm.py [--output dist]     # kws-web-VERSION.tgz

The worklet becomes one file, as bundlers copy it without looking for what it imports; esbuild, which npx fetches, joins
it. Everything else is packed as it is.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kws import __version__
from kws.c.build import wasm_library
from kws.runtime.shipped import find_model

REPO = Path(__file__).resolve().parent.parent
PAGE, PACKAGE = REPO / "kws" / "apps" / "web", REPO / "npm"
ESBUILD = "esbuild@0.25"
MODULES = ("block", "contract", "detector", "onnx", "resampler", "sources", "spotter", "weights")
MODEL = "gsc12_int8"


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; ends this program with what it says where it fails."""
    program = shutil.which(str(command[0]))
    if program is None:
        sys.exit(f"error: kws-web needs {command[0]}, which is not installed; install Node.js 18 or later")
    done = subprocess.run([program, *map(str, command[1:])], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def make(output: Path) -> Path:
    """The tarball, made in `output`."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in PACKAGE.iterdir():
            shutil.copyfile(path, folder / path.name)
        for module in MODULES:
            shutil.copyfile(PAGE / f"{module}.js", folder / f"{module}.js")
        shutil.copyfile(REPO / "LICENSE", folder / "LICENSE")
        shutil.copyfile(wasm_library(), folder / "kws.wasm")
        (folder / "models").mkdir()
        shutil.copyfile(find_model(MODEL), folder / "models" / f"{MODEL}.onnx")
        described = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        (folder / "package.json").write_text(json.dumps({**described, "version": __version__}, indent=2) + "\n")
        worklet = folder / "spotter-worklet.js"
        joined = ("--bundle", "--format=esm", "--external:node:*", f"--outfile={worklet}")
        run("npx", "--yes", ESBUILD, PAGE / "spotter-worklet.js", *joined, "--log-level=warning", cwd=folder)
        packed = run("npm", "pack", "--silent", "--pack-destination", output.resolve(), cwd=folder).split()[-1]
    return output / packed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("dist"))
    tarball = make(parser.parse_args().output)
    print(f"{tarball}: {tarball.stat().st_size / 1000:.1f} kB")


if __name__ == "__main__":
    main()
