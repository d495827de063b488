"""The C engine against onnxruntime, against itself in other builds, and against damaged blocks and files."""

import ctypes
import json
import re
import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapes import LABELS, SHAPES, spotter

from kws import cli
from kws.c.block import make_block
from kws.c.build import EngineError, build, library
from kws.c.detector import DETECTION, CDetector
from kws.c.engine import CLogitStream, CModel
from kws.c.export import export_c
from kws.c.memory_map import memory_size
from kws.c.weights import read_weights
from kws.config import BCResNetConfig, FrontendConfig, RecurrentConfig
from kws.errors import KwsError, ModelError
from kws.model.checkpoint import save_checkpoint
from kws.model.spotter import KeywordSpotter
from kws.onnx_export.onnx_file import export_onnx
from kws.runtime.onnx_model import SpotterModel
from kws.runtime.onnx_reader import read_onnx
from kws.streaming import StreamingSpotter

ROOT = Path(__file__).resolve().parents[1]
SOURCES, MODELS = ROOT / "kws" / "c", ROOT / "kws" / "models"
SPEECH = ROOT.parent / "shared" / "data" / "speech"
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-ffp-contract=off"]

try:
    library("plain")
except EngineError as error:
    pytest.skip(f"no C engine here: {error}", allow_module_level=True)


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """int16: noise whose loudness jumps over 80 dB, tones, digital silence, clipping."""
    rng = np.random.default_rng(seed)
    n = int(seconds * 16000)
    time = np.arange(n) / 16000
    loudness = np.repeat(10 ** rng.uniform(-4, -0.5, n // 1600 + 1), 1600)[:n]
    x = rng.standard_normal(n) * loudness + 0.1 * np.sin(2 * np.pi * 300 * time) * (np.sin(3 * time) > 0)
    x[n // 3 : n // 3 + 1000] = 0
    x[n // 2 : n // 2 + 200] *= 1000
    return (x.clip(-1, 1) * 32767).astype(np.int16)


@pytest.fixture(scope="module", params=SHAPES)
def any_model(request, exported_shape) -> Path:
    """An exported model of every shape."""
    return exported_shape(request.param)[1]


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    assert a.shape == b.shape
    np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


def test_every_shape_equals_onnxruntime(any_model):
    x = sound(6)
    np.testing.assert_allclose(CModel(any_model).logits(x), SpotterModel(any_model).logits(x), rtol=0, atol=1e-4)


def test_int8_of_every_shape_is_near_float32(any_model):
    """Weights are rounded to a 254th of their range: a wrong layout or scale would give other logits altogether."""
    x = sound(6)
    exact, rounded = CModel(any_model).logits(x), CModel(any_model, "int8").logits(x)
    assert np.sqrt(np.mean((exact - rounded) ** 2)) < 0.05 * exact.std()


@pytest.mark.parametrize("name", ["gsc12", "gsc12_tiny"])
def test_shipped_models_equal_onnxruntime(name):
    path, x = MODELS / f"{name}.onnx", sound(20)
    ours, theirs = CModel(path).logits(x), SpotterModel(path).logits(x)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-4)  # of wild sounds; of real speech 1e-4, below


@pytest.mark.parametrize("name", ["gsc12", "gsc12_tiny"])
def test_int8_decides_as_float32_on_real_speech(name):
    if not (files := sorted(SPEECH.rglob("*.opus"))[:30]):
        pytest.skip(f"no real speech: {SPEECH} is not there")
    x = np.concatenate([soundfile.read(file, dtype="int16")[0] for file in files])
    exact = SpotterModel(MODELS / f"{name}.onnx").logits(x)
    np.testing.assert_allclose(CModel(MODELS / f"{name}.onnx").logits(x), exact, rtol=0, atol=1e-4)
    rounded = CModel(MODELS / f"{name}.onnx", "int8").logits(x)
    assert (rounded.argmax(1) == exact.argmax(1)).mean() >= 0.99
    # An int8 file has lost what float32 had; onnxruntime rounds its activations to 8 bits as well.
    path = MODELS / f"{name}_int8.onnx"
    errors = [np.abs(model.logits(x) - exact).mean() for model in (CModel(path), SpotterModel(path))]
    assert errors[0] < 0.5 * errors[1]


def test_a_batch_export_gives_the_same_weights(tmp_path):
    made = spotter(*SHAPES["default"])
    export_onnx(made, tmp_path / "one.onnx")
    export_onnx(made, tmp_path / "any.onnx", batch_size=0)
    assert_same_bits(CModel(tmp_path / "one.onnx").logits(sound(1)), CModel(tmp_path / "any.onnx").logits(sound(1)))


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_avx2_gives_the_bits_of_plain_c(any_model, precision):
    if not library("plain").kws_host_has_avx2():
        pytest.skip("this processor has no AVX2")
    x = sound(3)
    assert_same_bits(CModel(any_model, precision, "plain").logits(x), CModel(any_model, precision, "avx2").logits(x))


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_compiles_without_a_warning(compiler, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    for source in ("kws.c", "kws_detector.c", "host.c"):
        for options in (["-O3"], ["-O3", "-mavx2"]) if library("plain").kws_host_has_avx2() else (["-O3"],):
            command = [compiler, *STRICT, *options, "-c", str(SOURCES / source), "-o", str(tmp_path / "x.o")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


def test_every_compiler_gives_the_same_bits(tmp_path, monkeypatch):
    x, path = sound(2), MODELS / "gsc12_tiny.onnx"
    found = [name for name in ("gcc", "clang") if shutil.which(name)]
    if len(found) < 2:
        pytest.skip("gcc and clang are not both installed")
    logits = []
    for name in found:
        build(tmp_path / name / "engine", "plain", using=[[name]])
        monkeypatch.setenv("KWS_CACHE", str(tmp_path / name))
        library.cache_clear()
        logits += [CModel(path, precision, "plain").logits(x) for precision in ("float32", "int8")]
    library.cache_clear()
    assert_same_bits(logits[0], logits[2])
    assert_same_bits(logits[1], logits[3])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 1500), max_size=60), as_float=st.booleans(), int8=st.booleans())
def test_any_cut_of_feed_gives_the_same_bits(cuts, as_float, int8):
    model = tiny_models()["int8" if int8 else "float32"]
    x = sound(2)
    whole = model.logits(x)
    stream = CLogitStream(model)
    parts = np.split(x, np.cumsum(cuts).clip(0, len(x)))
    found = [stream.feed(part * np.float32(1 / 32768) if as_float else part) for part in parts]
    assert_same_bits(np.concatenate([*found, stream.flush()]), whole)
    assert_same_bits(np.concatenate([stream.feed(x), stream.flush()]), whole)  # flush began a new stream


def tiny_models(made: dict = {}) -> dict:  # noqa: B006
    if not made:
        made |= {precision: CModel(MODELS / "gsc12_tiny.onnx", precision) for precision in ("float32", "int8")}
    return made


def test_streams_share_nothing():
    model = tiny_models()["float32"]
    sounds = [sound(1, seed) for seed in range(3)]
    streams = [CLogitStream(model) for _ in sounds]
    found = [[] for _ in sounds]
    for start in range(0, 16000, 700):
        for i, stream in enumerate(streams):
            found[i].append(stream.feed(sounds[i][start : start + 700]))
    for i, x in enumerate(sounds):
        assert_same_bits(np.concatenate([*found[i], streams[i].flush()]), model.logits(x))


def test_bad_samples_leave_the_stream_as_it_was():
    model = tiny_models()["float32"]
    x = sound(1).astype(np.float32) / 32768
    stream = CLogitStream(model)
    first = stream.feed(x[:5000])
    for bad in (np.array([0, np.nan], np.float32), np.array([np.inf], np.float32), np.array([11], np.float32), [1, 2]):
        with pytest.raises(ValueError, match="samples"):
            stream.feed(bad)
        if isinstance(bad, np.ndarray):  # past Python's own check
            code = model.library.kws_host_feed(stream.pointer, bad.ctypes.data, 1, len(bad), first.ctypes.data)
            assert code == -9
    assert stream.feed(x[:0]).shape == (0, 12)
    np.testing.assert_array_equal(np.concatenate([first, stream.feed(x[5000:])]), CLogitStream(model).feed(x))


def c_error(block: bytes, size: int | None = None, shift: int = 0) -> int:
    """What kws_model_init says of a block."""
    c = library()
    buffer = np.zeros(len(block) // 4 + 4, np.uint32)
    ctypes.memmove(buffer.ctypes.data + shift, block, len(block))
    model = np.zeros(c.kws_host_model_bytes() // 8 + 1, np.uint64)
    size = len(block) if size is None else size
    return int(c.kws_host_model_init(model.ctypes.data, buffer.ctypes.data + shift, size))


def resummed(block: bytes) -> bytes:
    words = np.frombuffer(block, np.uint32).copy()
    sums = np.cumsum(words[5:], dtype=np.uint32)
    words[3], words[4] = sums[-1], sums.sum(dtype=np.uint32)
    return words.tobytes()


def changed(block: bytes, word: int, value: int) -> bytes:
    return resummed(block[: 4 * word] + struct.pack("<I", value & 0xFFFFFFFF) + block[4 * word + 4 :])


def test_a_block_that_is_wrong_is_refused_with_its_code():
    block = make_block(read_weights(MODELS / "gsc12_tiny.onnx"))
    assert c_error(block) == 0
    assert c_error(block, shift=1) == -2
    assert c_error(b"not a block at all" * 100) == -3
    assert c_error(block, size=100) == -3
    assert c_error(changed(block, 1, 1)) == -4
    assert c_error(block, size=len(block) - 4) == -5
    assert c_error(block[:-4] + b"\0\0\0\1") == -6
    c = library()
    assert c.kws_host_model_init(None, None, 0) == -1
    assert c.kws_host_memory_bytes(None) == 0
    shorter = block[:-4]
    assert c_error(changed(shorter, 2, len(shorter))) == -5  # the header asks for more than is there
    longer = block + b"\0\0\0\0"
    assert c_error(changed(longer, 2, len(longer))) == -5
    assert c_error(changed(block, len(block) // 4 - 1, 0x7FC00000)) == -7  # NaN as a weight


@pytest.mark.parametrize("word", [*range(5, 21), *range(32, 40)])
def test_a_size_out_of_bounds_is_refused(word):
    """Of the header, or of the shape of the first convolution, which follows it."""
    block = make_block(read_weights(MODELS / "gsc12_tiny.onnx"), "int8")
    for value in (-1, 1 << 31, 1 << 24, 0x7F800000):
        assert c_error(changed(block, word, value)) in (-5, -7), (word, value)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damaged_files_are_refused_with_an_error_of_ours(data, tmp_path_factory):
    """Cut or changed anywhere: an error of ours or, where a weight changed, a model that runs; never another error."""
    content = bytearray(small_file(tmp_path_factory))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(1, 3))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content)
    with suppress(ModelError):
        CModel(path).logits(sound(0.1))


def small_file(factory, made: list = []) -> bytes:  # noqa: B006
    if not made:
        path = factory.mktemp("small") / "small.onnx"
        shape = {"conv_channels": [2], "hidden_size": 2, "projection_size": 2}
        export_onnx(spotter({"n_mels": 8, "n_mfcc": 8, "n_fft": 128, "win_ms": 8.0, "hop_ms": 4.0}, shape), path)
        made.append(path.read_bytes())
    return made[0]


def test_what_the_engine_does_not_have_is_refused(tmp_path):
    shape = {"conv_channels": [2], "hidden_size": 2, "projection_size": 2}
    path = tmp_path / "odd.onnx"
    export_onnx(spotter({"n_fft": 480}, shape), path)
    with pytest.raises(ModelError, match="n_fft is 480"):
        CModel(path)
    export_onnx(spotter({}, shape), path, variant="features")
    with pytest.raises(ModelError, match="takes features"):
        CModel(path)
    with pytest.raises(ModelError, match=r"none\.onnx is not a file"):
        CModel(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="precision is 'int4'"):
        CModel(MODELS / "gsc12_tiny.onnx", "int4")


def test_the_reader_reads_what_onnx_reads():
    onnx = pytest.importorskip("onnx")
    for path in MODELS.glob("*.onnx"):
        ours, theirs = read_onnx(path), onnx.load(path)
        assert [node.op for node in ours.nodes] == [node.op_type for node in theirs.graph.node]
        assert [node.inputs for node in ours.nodes] == [list(node.input) for node in theirs.graph.node]
        assert {p.key: json.loads(p.value) for p in theirs.metadata_props} == ours.metadata
        for constant in theirs.graph.initializer:
            expected = onnx.numpy_helper.to_array(constant)
            assert ours.constants[constant.name].dtype == expected.dtype
            np.testing.assert_array_equal(ours.constants[constant.name], expected)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_memory_is_what_the_engine_needs(any_model, precision):
    assert memory_size(read_weights(any_model), precision) == CModel(any_model, precision).memory_size


def run(command: list, folder: Path, **options) -> str:
    """Run it; what it printed."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, cwd=folder, **streams, check=False, timeout=240, **options)
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_exported_c_compiles_and_gives_the_same_bits(compiler, precision, tmp_path):
    if shutil.which(compiler) is None or shutil.which("make") is None:
        pytest.skip(f"{compiler} or make is not installed")
    files = export_c(MODELS / "gsc12_tiny.onnx", tmp_path, precision=precision, name="tiny")
    assert {file.name for file in files} >= {"tiny_model.c", "tiny_model.h", "kws.c", "kws.h", "main.c", "Makefile"}
    lower_thresholds(tmp_path / "tiny_model.c")
    run(["make", f"CC={compiler}"], tmp_path)
    x, model = sound(20, 3), CModel(MODELS / "gsc12_tiny.onnx", precision)
    printed = run([tmp_path / "tiny", "--logits"], tmp_path, input=x.astype("<i2").tobytes())
    logits = np.array([line.split() for line in printed.splitlines()], np.float32)
    assert_same_bits(logits, model.logits(x))
    printed = run([tmp_path / "tiny"], tmp_path, input=x.astype("<i2").tobytes())
    spotter = StreamingSpotter(model, thresholds=0.02)
    found = spotter.feed(x) + spotter.flush()
    assert len(found) > 5
    assert printed.splitlines() == [f"{d.start:.3f} {d.end:.3f} {d.keyword} {d.score:.6g}" for d in found]


def lower_thresholds(source: Path) -> None:
    """Thresholds in an export of which noise reaches many."""
    text, n = re.subn(r"(_thresholds\[12\] = \{).*(\};)", rf"\g<1>{', '.join(['0.02f'] * 12)}\2", source.read_text())
    assert n == 1
    source.write_text(text)


def test_neon_gives_the_bits_of_this_machine(tmp_path):
    """An aarch64 program, emulated: plain C there is NEON."""
    for tool in ("aarch64-linux-gnu-gcc", "qemu-aarch64"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    for precision in ("float32", "int8"):
        folder = tmp_path / precision
        export_c(MODELS / "gsc12_tiny.onnx", folder, precision=precision, name="tiny")
        lower_thresholds(folder / "tiny_model.c")
        run(["make", "CC=aarch64-linux-gnu-gcc -static", "CFLAGS=-O2"], folder)
        x, model = sound(3, 3), CModel(MODELS / "gsc12_tiny.onnx", precision)
        emulated = ["qemu-aarch64", folder / "tiny"]
        printed = run([*emulated, "--logits"], folder, input=x.astype("<i2").tobytes())
        logits = np.array([line.split() for line in printed.splitlines()], np.float32)
        assert_same_bits(logits, model.logits(x))
        spotter = StreamingSpotter(model, thresholds=0.02)
        assert run(emulated, folder, input=x.astype("<i2").tobytes()).splitlines() == [
            f"{d.start:.3f} {d.end:.3f} {d.keyword} {d.score:.6g}" for d in spotter.feed(x) + spotter.flush()
        ]


def test_a_label_cannot_leave_its_string_nor_a_comment(tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    labels = ("_unknown_", '"; int x; **', "??=", "größe\u2028")
    torch.manual_seed(0)
    shape = RecurrentConfig(conv_channels=[2], hidden_size=2, projection_size=2)
    export_onnx(KeywordSpotter(FrontendConfig(), shape, labels).eval(), tmp_path / "9 lives.onnx")
    export_c(tmp_path / "9 lives.onnx", tmp_path / "c")
    shown = '#include "model_9_lives_model.h"\n#include <stdio.h>\nint main(void) {\n'
    shown += "    for (int i = 0; i < 4; ++i) puts(model_9_lives_labels[i]);\n    return 0;\n}\n"
    (tmp_path / "c" / "show.c").write_text(shown)
    run(["gcc", *STRICT, "show.c", "model_9_lives_model.c", "-o", "show"], tmp_path / "c")
    assert run([tmp_path / "c" / "show"], tmp_path) == "\n".join([*labels, ""])


def test_a_name_that_is_none_in_c_is_refused(tmp_path):
    with pytest.raises(KwsError, match="name is 'a b'"):
        export_c(MODELS / "gsc12_tiny.onnx", tmp_path / "c", name="a b")
    assert not (tmp_path / "c").exists()


def test_sanitizers_find_nothing_in_damaged_blocks(tmp_path, exported_shape):
    """A few seconds of `make fuzz`."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    fuzz = ["gcc", "-g", "-O1", "-ffp-contract=off", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    fuzz += ["-I", SOURCES, ROOT / "tests" / "fuzz_c_engine.c", SOURCES / "kws.c", SOURCES / "kws_detector.c"]
    fuzz += ["-o", tmp_path / "fuzz"]
    run(fuzz, tmp_path)
    for precision in ("float32", "int8"):
        (tmp_path / precision).write_bytes(make_block(read_weights(MODELS / "gsc12_tiny.onnx"), precision))
    pooled = read_weights(exported_shape("speech embedding")[1])
    (tmp_path / "pooled").write_bytes(make_block(pooled, "int8"))
    printed = run([tmp_path / "fuzz", "3", "1", "float32", "int8", "pooled"], tmp_path)
    assert int(printed.split()[0]) >= int(printed.split()[2]) > 0


@pytest.fixture
def emulator() -> None:
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm", "make"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize(("precision", "board"), [("float32", "m4"), ("int8", "m4"), ("int8", "m55")])
def test_an_emulated_board_gives_the_bits_of_the_host(precision, board, tmp_path):
    """The limits are the aims for gsc12_tiny in int8: 80 kB of flash, 24 kB of RAM, 20 M instructions a second."""
    export_c(MODELS / "gsc12_tiny.onnx", tmp_path, precision=precision, name="tiny")
    lower_thresholds(tmp_path / "tiny_model.c")
    x, model = sound(3, 3), CModel(MODELS / "gsc12_tiny.onnx", precision)
    x.astype("<i2").tofile(tmp_path / "clip.raw")
    make = ["make", "--no-print-directory", f"BOARD={board}"]
    text, data, bss = (int(n) for n in run([*make, "board"], tmp_path).splitlines()[-1].split()[:3])
    printed = run([*make, "run-board"], tmp_path)
    cost = {line.rsplit(" ", 1)[0]: int(line.rsplit(" ", 1)[1]) for line in printed.splitlines() if line[-1:].isdigit()}
    logits = np.fromfile(tmp_path / "logits.raw", "<f4").reshape(-1, 12)
    assert_same_bits(logits, model.logits(x))
    detector = CDetector(StreamingSpotter(model, thresholds=0.02)._detector, library())
    expected = detector.process(logits) + detector.flush()
    found = np.fromfile(tmp_path / "detections.raw", DETECTION)
    assert [(d.keyword, np.float32(d.score), d.start, d.end, d.time) for d in expected] == [
        (model.labels[d["label"]], d["score"], *(d[time] / 16000 for time in ("start", "end", "time"))) for d in found
    ]
    assert cost["samples"] == len(x)
    assert cost["bytes of stack"] < 1000  # as the header says
    if precision == "int8":
        assert text + data < 80_000
        assert data + bss < 24_000
        assert 5e6 < cost["instructions a second of audio"] < 20e6


def test_a_spotter_on_the_c_engine_finds_what_one_on_onnxruntime_finds():
    """Clicks and tones at low thresholds, so that there are many detections, fed in odd pieces."""
    found, shown = {}, {}
    for engine in ("onnxruntime", "c"):
        spotted = StreamingSpotter("gsc12_tiny", engine=engine, thresholds=0.02)
        pieces = np.split(sound(20, 3), np.arange(777, 320000, 777))
        found[engine] = [d for piece in pieces for d in spotted.feed(piece)]
        shown[engine] = spotted.posteriors, spotted.scores
        found[engine] += spotted.flush()
    assert len(found["c"]) > 5
    np.testing.assert_allclose(shown["c"], shown["onnxruntime"], atol=1e-4)
    for ours, theirs in zip(found["c"], found["onnxruntime"], strict=True):
        assert (ours.keyword, ours.start, ours.end, ours.time) == (
            theirs.keyword,
            theirs.start,
            theirs.end,
            theirs.time,
        )
        assert abs(ours.score - theirs.score) < 1e-4
    with pytest.raises(KwsError, match="engine is 'rust'; choose one of onnxruntime, c"):
        StreamingSpotter("gsc12_tiny", engine="rust")


def test_kws_export_writes_c_from_checkpoint_model_and_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = spotter(*SHAPES["default"])
    save_checkpoint(tmp_path / "own.safetensors", made)
    export_onnx(made, tmp_path / "own.onnx")
    assert cli.main(["export", "own.safetensors", "--variant", "c"]) == 0
    assert cli.main(["export", "own.onnx", "--variant", "c", "--output", "from-onnx"]) == 0
    assert cli.main(["export", "gsc12_tiny", "--variant", "c", "--precision", "int8"]) == 0
    sources = [tmp_path / folder / "own_model.c" for folder in ("own-c", "from-onnx")]
    assert sources[0].read_bytes() == sources[1].read_bytes()
    assert (tmp_path / "gsc12_tiny-c-int8" / "main.c").is_file()


def test_kws_export_refuses_what_c_does_not_have(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "clips.safetensors", KeywordSpotter(FrontendConfig(), BCResNetConfig(), LABELS))
    export_onnx(spotter({"n_fft": 480}, {"conv_channels": [2], "hidden_size": 2}), tmp_path / "odd.onnx")
    for file, reason in (
        ("clips.safetensors", "hears whole clips"),
        ("odd.onnx", "n_fft is 480"),
        ("none", "not a file"),
    ):
        assert cli.main(["export", file, "--variant", "c", "--output", "c"]) == 1
        assert reason in capsys.readouterr().err
        assert not (tmp_path / "c").exists()
    assert cli.main(["export", "gsc12_tiny", "--variant", "c", "--batch-size", "2"]) == 1
