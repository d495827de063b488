"""kws-web as others get it: packed, installed from the tarball, typed, run by Node and in a Vite page by Chromium."""

import importlib.util
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from chromium import Chromium
from javascript import needs_engine

from kws import __version__
from kws.apps import doctor
from kws.apps.web_server import server
from kws.audio.files import read_audio
from kws.streaming import StreamingSpotter

REPO = Path(__file__).parent.parent
CACHE = Path.home() / ".cache" / "kws-tests" / "npm"  # Vite and TypeScript, installed once per machine
TOOLS = ("vite", "typescript")
MODEL = "gsc12_int8"
PAGE = """<!doctype html><title>mine</title>
<script type="module" src="./main.ts"></script>
<kws-spotter></kws-spotter>
"""
MAIN = """import { loadModel, Spotter, type Detection } from "kws-web";
import "kws-web/element";
import address from "kws-web/models/gsc12_int8.onnx?url";

declare global {
  interface Window { heard: string[]; news: string[]; offline: (pcm: number[]) => Promise<Detection[]> }
}
const element = document.querySelector("kws-spotter")!;
window.heard = [];
window.news = [];
for (const name of ["ready", "listening", "stopped", "error"]) {
  element.addEventListener(name, (event) => window.news.push(name + JSON.stringify((event as CustomEvent).detail)));
}
element.addEventListener("detection", (event) => window.heard.push((event as CustomEvent<Detection>).detail.keyword));
element.setAttribute("model", address);
window.offline = async (pcm) => {
  const spotter = new Spotter(await loadModel(address));
  return [...spotter.feed(Int16Array.from(pcm)), ...spotter.flush()];
};
"""
NODE = """import fs from "node:fs";
import { loadModel, Resampler, Spotter } from "kws-web";
const pcm = new Int16Array(new Uint8Array(fs.readFileSync(process.argv[2])).buffer);
const model = await loadModel(new URL("node_modules/kws-web/models/gsc12_int8.onnx", import.meta.url));
const [whole, pieces] = [new Spotter(model), new Spotter(model)];
const found = [...whole.feed(pcm), ...whole.flush()];
const again = [];
for (let at = 0; at < pcm.length; at += 777) again.push(...pieces.feed(pcm.subarray(at, at + 777)));
again.push(...pieces.flush());
if (new Resampler(48000, 16000).process(new Float32Array(4800)).length < 1000) throw new Error("no resampler");
console.log(JSON.stringify({ found, again }));
"""
SCRIPT = '{"compilerOptions": {"strict": true, "module": "esnext", "moduleResolution": "bundler", "target": "es2022",'
TSCONFIG = (
    SCRIPT
    + ' "lib": ["es2022", "dom", "dom.iterable"], "noEmit": true, "types": ["vite/client"]}, "include": ["*.ts"]}'
)
PINNED = '{"name": "page", "private": true, "type": "module"}'


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A page of one's own, with kws-web installed from its tarball."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    needs_engine()
    spec = importlib.util.spec_from_file_location("make_npm", REPO / "scripts" / "make_npm.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("page")
    if not (CACHE / "node_modules" / "vite").is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--prefix", CACHE, "--no-audit", "--no-fund", "--silent", *TOOLS]
        if subprocess.run(install, capture_output=True, timeout=240).returncode:
            pytest.skip("no npm registry within reach to install Vite and TypeScript from")
    try:
        tarball = module.make(folder)
    except SystemExit as error:
        pytest.skip(f"esbuild cannot be had: {error}")
    assert tarball.name == f"kws-web-{__version__}.tgz"
    assert tarball.stat().st_size < 250_000
    (folder / "package.json").write_text(PINNED)
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--offline", f"./{tarball.name}"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    for path in (CACHE / "node_modules").iterdir():
        if not path.name.startswith(".") and not (folder / "node_modules" / path.name).exists():
            (folder / "node_modules" / path.name).symlink_to(path)
    for name, content in {"index.html": PAGE, "main.ts": MAIN, "run.mjs": NODE, "tsconfig.json": TSCONFIG}.items():
        (folder / name).write_text(content)
    return folder


@pytest.fixture(scope="module")
def speech():
    """int16 `[S]` at 16 kHz, and what Python hears in it."""
    samples = np.clip(np.rint(read_audio(doctor.SAMPLE, 16000) * 32768), -32768, 32767).astype("<i2")
    spotter = StreamingSpotter(MODEL)
    found = [each._asdict() for each in [*spotter.feed(samples), *spotter.flush()]]
    assert [each["keyword"] for each in found] == ["yes", "left", "go"]
    return samples, found


def assert_equal(found, expected):
    assert [each["keyword"] for each in found] == [each["keyword"] for each in expected]
    for field, tolerance in {"score": 1e-4, "start": 1e-9, "end": 1e-9, "time": 1e-9}.items():
        ours, theirs = ([each[field] for each in part] for part in (found, expected))
        np.testing.assert_allclose(ours, theirs, atol=tolerance)


def test_node_hears_what_python_hears(project, speech):
    samples, expected = speech
    samples.tofile(project / "clip.pcm")
    done = subprocess.run(["node", "run.mjs", "clip.pcm"], cwd=project, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for found in json.loads(done.stdout).values():
        assert_equal(found, expected)


def test_the_types_are_those_of_a_strict_project(project):
    tsc = project / "node_modules" / "typescript" / "bin" / "tsc"
    done = subprocess.run(["node", tsc, "-p", "."], cwd=project, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "")
    wrong = 'import { Spotter } from "kws-web";\nnew Spotter("gsc12.onnx");\n'
    (project / "wrong.ts").write_text(wrong)
    done = subprocess.run(["node", tsc, "-p", "."], cwd=project, capture_output=True, text=True, timeout=120)
    (project / "wrong.ts").unlink()
    assert "not assignable to parameter of type 'Model'" in done.stdout


def test_every_export_is_declared():
    declared = set(
        re.findall(r"^export (?:function|class) (\w+)", (REPO / "npm" / "index.d.ts").read_text(), re.MULTILINE)
    )
    exported = re.findall(r"^export \{ (.*) \} from", (REPO / "npm" / "index.js").read_text(), re.MULTILINE)
    assert declared == {name for names in exported for name in names.split(", ")}


def test_a_vite_page_hears_a_file_as_its_microphone(project, speech, tmp_path):
    vite = project / "node_modules" / "vite" / "bin" / "vite.js"
    done = subprocess.run(
        ["node", vite, "build", "--base", "./"], cwd=project, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    built = project / "dist"
    files = {str(path.relative_to(built)): path for path in built.rglob("*") if path.is_file()}
    assert {Path(name).suffix for name in files} >= {".js", ".wasm", ".onnx", ".html"}
    samples, expected = speech
    file = tmp_path / "words.wav"
    soundfile.write(file, np.tile(np.concatenate([samples, np.zeros(16000, np.int16)]), 3), 16000, subtype="PCM_16")
    with (
        server(files, 0) as running,
        Chromium(tmp_path / "profile", f"--use-file-for-fake-audio-capture={file}") as page,
    ):
        threading.Thread(target=running.serve_forever, daemon=True).start()
        page.open(f"http://127.0.0.1:{running.server_address[1]}/")
        page.wait("window.news?.some((each) => each.startsWith('ready'))")
        found = page.run(f"window.offline({samples.tolist()})")
        assert_equal(found, expected)
        page.run("document.querySelector('kws-spotter').start()")
        page.wait("['yes', 'left', 'go'].every((word) => window.heard.includes(word))", 40)
        page.run("document.querySelector('kws-spotter').stop()")
        news = page.wait("window.news.some((each) => each.startsWith('stopped')) && window.news")
        page.run("document.querySelector('kws-spotter').setAttribute('model', 'main.ts')")
        told = page.wait("window.news.find((each) => each.startsWith('error'))")
        running.shutdown()
    assert [each.split("{")[0] for each in news] == ["ready", "listening", "stopped"]
    assert "is missing on this host" in told
    assert not [url for url in page.urls if not url.startswith(("http://127.0.0.1", "data:"))]
