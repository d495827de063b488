"""The C engine as WebAssembly, run by node: the bits of this machine, its detections, its error codes."""

import shutil
import subprocess

import numpy as np
import pytest

from kws.c.block import make_block
from kws.c.build import EngineError, wasm_library
from kws.c.engine import CModel
from kws.c.weights import read_weights
from kws.runtime.shipped import find_model

SCRIPT = """
import fs from "fs";
const [wasm, block, clip, out] = process.argv.slice(2).map((path, i) => (i < 3 ? fs.readFileSync(path) : path));
const { instance: { exports: c } } = await WebAssembly.instantiate(wasm);
let top = c.__heap_base.value;
const room = (bytes, content) => {
  const at = Math.ceil(top / 16) * 16;
  top = at + bytes;
  if (top > c.memory.buffer.byteLength) c.memory.grow(Math.ceil((top - c.memory.buffer.byteLength) / 65536));
  if (content) new Uint8Array(c.memory.buffer).set(content, at);
  return at;
};
const weights = room(block.length, block), model = room(c.kws_host_model_bytes());
if (c.kws_host_model_init(model, weights, block.length - 4) !== -5) throw new Error("a cut block is taken");
if (c.kws_host_model_init(model, weights, block.length) !== 0) throw new Error("the block is refused");
const size = c.kws_host_memory_bytes(model), memory = room(size), stream = room(c.kws_host_stream_bytes());
if (c.kws_host_init(stream, model, memory, size) !== 0) throw new Error("no stream");
const samples = room(clip.length, clip), logits = room(4 * clip.length);
let frames = 0;
for (let at = 0; at < clip.length / 2; at += 777) { // odd pieces
  const n = Math.min(777, clip.length / 2 - at);
  frames += Number(c.kws_host_feed(stream, samples + 2 * at, 0, n, logits + 4 * 12 * frames));
}
frames += Number(c.kws_host_flush(stream, logits + 4 * 12 * frames));
fs.writeFileSync(out, new Uint8Array(c.memory.buffer, logits, 4 * 12 * frames));
"""


@pytest.fixture(scope="module")
def wasm():
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    try:
        return wasm_library()
    except EngineError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("name", ["gsc12", "gsc12_tiny"])
def test_webassembly_gives_the_bits_of_this_machine(name, precision, wasm, tmp_path):
    assert wasm.stat().st_size < 100_000
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(32000) * np.repeat(10 ** rng.uniform(0, 4, 20), 1600)).clip(-32768, 32767).astype("<i2")
    (tmp_path / "run.mjs").write_text(SCRIPT)
    (tmp_path / "block").write_bytes(make_block(read_weights(find_model(name)), precision))
    x.tofile(tmp_path / "clip")
    files = [tmp_path / part for part in ("block", "clip", "logits")]
    done = subprocess.run(["node", tmp_path / "run.mjs", wasm, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = CModel(name, precision).logits(x)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "logits", np.uint32), expected.view(np.uint32).ravel())
