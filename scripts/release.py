"""Build and check everything that a release is made of, into dist/: sdist, every platform's wheel, kws-web.

    python scripts/release.py [--only-here]     # make release; --only-here: this machine's wheel alone

The version stands in `kws/__init__.py` alone; what must repeat it (the add-on, CITATION.cff) and the changelog's entry
are compared with it first. The upload is a person's: `twine upload dist/kws-*`, `npm publish dist/kws-web-*.tgz`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

from kws import __version__
from kws.c.build import TARGETS

REPO = Path(__file__).resolve().parent.parent
DIST = REPO / "dist"
REPEATED = {  # file: where it says the version
    "deploy/home-assistant/kws/config.yaml": r'^version: "(.*)"$',
    "deploy/home-assistant/kws/Dockerfile": r"kws\[serve\]==([^' ]*)",
    "CITATION.cff": r"^version: (.*)$",
}
LARGEST = {"sdist": 12e6, "wheel": 8e6}  # bytes: something that should not be in it is


def contradictions(version: str = __version__) -> Iterator[str]:
    """What does not say `version` though it has to."""
    for name, pattern in REPEATED.items():
        found = re.findall(pattern, (REPO / name).read_text(encoding="utf-8"), re.MULTILINE)
        if found != [version]:
            yield f"{name} says {', '.join(found) or 'no version'}, and kws/__init__.py {version}"
    headings = re.findall(r"^## (\S+)", (REPO / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if not headings or headings[0].strip(",") != version:
        yield f"CHANGELOG.md begins with {headings[0] if headings else 'no version'}, and kws/__init__.py is {version}"


def run(*command: str | Path, **environment: str) -> None:
    print("$", *command, *(f"({name}={value})" for name, value in environment.items()), flush=True)
    done = subprocess.run([*map(str, command)], cwd=REPO, env={**os.environ, **environment})
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))} ended with {done.returncode}")


def names_in(path: Path) -> set[str]:
    """The files of an sdist or a wheel, without the folder that an sdist puts them in."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist())
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def check(path: Path) -> list[str]:
    """What is wrong with an sdist or a wheel."""
    kind, names, wrong = "wheel" if path.suffix == ".whl" else "sdist", names_in(path), []
    if path.stat().st_size > LARGEST[kind]:
        wrong.append(f"{path.name} has {path.stat().st_size / 1e6:.1f} MB")
    configs = "kws/configs/train.yaml" if kind == "wheel" else "configs/train.yaml"
    for name in ("kws/__init__.py", "kws/models/gsc12.onnx", "kws/apps/doctor.ogg", configs):
        if name not in names:
            wrong.append(f"{path.name} lacks {name}")
    engines = [name for name in names if re.fullmatch(r"kws/c/kws_\w+\.(so|dylib|dll)", name)]
    if kind == "sdist" and engines:
        wrong.append(f"{path.name} holds {', '.join(engines)}")
    if kind == "wheel" and not engines:
        wrong.append(f"{path.name} has no C engine")
    if stray := [name for name in names if re.search(r"__pycache__|\.pyc$|/runs/|\.env$", name)]:
        wrong.append(f"{path.name} holds {', '.join(stray[:3])}")
    return wrong


def try_here(wheel: Path, folder: Path) -> None:
    """Install this machine's wheel into a fresh environment and ask whether it is well."""
    venv.create(folder, with_pip=True)
    program = folder / ("Scripts" if os.name == "nt" else "bin")
    run(program / "python", "-m", "pip", "install", "--quiet", wheel)
    run(program / "kws", "doctor", "--no-record")


def audit(wheel: Path) -> None:
    """Ask for known faults of what the wheel needs, and write its bill of materials (CycloneDX) beside it."""
    bill = DIST / f"kws-{__version__}.cdx.json"
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder, "requirements.txt")
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            lines = archive.read(name).decode().splitlines()
        needed = [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]
        asked.write_text("\n".join(each for each in needed if "extra ==" not in each) + "\n")
        run(sys.executable, "-m", "pip_audit", "-r", asked, "--format", "cyclonedx-json", "--output", bill)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only-here", action="store_true", help="this machine's wheel alone, without ziglang and npm")
    parser.add_argument("--check", action="store_true", help="compare the versions and end")
    options = parser.parse_args()
    if wrong := [*contradictions()]:
        sys.exit("error: " + "; ".join(wrong))
    if options.check:
        print(f"everything says {__version__}")
        return
    shutil.rmtree(DIST, ignore_errors=True)
    python = sys.executable
    run(python, "-m", "build", "--sdist", "--no-isolation")
    if options.only_here:
        run(python, "-m", "build", "--wheel", "--no-isolation")
    for platform in [] if options.only_here else TARGETS:
        run(python, "-m", "build", "--wheel", "--no-isolation", KWS_WHEEL=platform)
    if not options.only_here:
        run(python, "scripts/make_npm.py", "--output", DIST)
    made = sorted([*DIST.glob("*.tar.gz"), *DIST.glob("*.whl")])
    run(python, "-m", "twine", "check", "--strict", *made)
    if wrong := [what for path in made for what in check(path)]:
        sys.exit("error: " + "; ".join(wrong))
    here = [path for path in made if path.suffix == ".whl" and matches(path)]
    if here:
        try_here(here[0], REPO / "build" / "release-env")
        audit(here[0])
    for path in sorted(DIST.iterdir()):
        print(f"{path.relative_to(REPO)}: {path.stat().st_size / 1000:.1f} kB")
    print("nothing is uploaded: twine upload dist/kws-*.whl dist/kws-*.tar.gz; npm publish dist/kws-web-*.tgz")


def matches(wheel: Path) -> bool:
    """Whether a wheel is for this machine."""
    from packaging.tags import sys_tags
    from packaging.utils import parse_wheel_filename

    return bool(set(sys_tags()) & parse_wheel_filename(wheel.name)[3])


if __name__ == "__main__":
    main()
