"""`kws info`, the count of multiplications, and the benchmark."""

import json
import subprocess
import sys
from unittest import mock

import onnx
import pytest
import torch
from commands import call
from onnx import TensorProto, helper
from tiny_onnx import write_tiny

from kws import benchmark, cli
from kws.apps.info import describe
from kws.config import FrontendConfig, RecurrentConfig
from kws.export import export_onnx
from kws.model.checkpoint import save_checkpoint
from kws.model.spotter import KeywordSpotter
from kws.onnx_export.operations import multiplications

LABELS = ("_silence_", "yes", "no")
PLAIN = ["float32", "int8", "batch"]  # what a benchmark makes of a checkpoint


@pytest.fixture(scope="module")
def spotter():
    torch.manual_seed(0)
    config = RecurrentConfig(hidden_size=8, conv_channels=[4, 6], conv_kernel=3, projection_size=5)
    return KeywordSpotter(FrontendConfig(), config, LABELS).eval()


@pytest.fixture(scope="module")
def exported(spotter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("info")
    save_checkpoint(folder / "best.safetensors", spotter)
    with mock.patch.object(benchmark.subprocess, "run", here):
        assert [path.stem for path in benchmark._exports(folder / "best.safetensors", folder)] == PLAIN
    for name, options in {"features": {"variant": "features"}, "slow": {"hops_per_step": 8}}.items():
        export_onnx(
            spotter, folder / f"{name}.onnx", card={"licence": "Apache-2.0", "data": {"source": "x"}}, **options
        )
    return folder


def here(command, **_):
    """What `python -c` would run in a process of its own."""
    return call(lambda: exec(command[2], {}), *command[2:])


def by_hand():
    """Multiplications in a second: 100 hops, 50 logit frames; bands 40, then 20, then 10."""
    bins = 128  # up to 4000 Hz, in steps of 31.25 Hz
    front = 400 * 2 * bins + 2 * bins + 2 * bins * 40  # DFT, squares, mel
    classifier = 50 * (4 * 9 * 20 + 6 * 4 * 9 * 10 + 60 * 5 + 4 * 8 * (5 + 8) + 3 * 8 + 8 * 3)
    return {"waveform": 100 * front, "features": 100 * 40 + classifier}  # the division by the deviation


def test_multiplications_equal_a_count_by_hand(exported):
    hand = by_hand()
    assert describe(exported / "features.onnx")["multiplications_per_second"] == hand["features"]
    for name in (*PLAIN, "slow"):
        assert describe(exported / f"{name}.onnx")["multiplications_per_second"] == sum(hand.values())


def test_a_dft_counts_n_log_n():
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("DFT", ["x"], ["y"], axis=1)],
        "dft",
        [value("x", TensorProto.FLOAT, [3, 512, 1])],
        [value("y", TensorProto.FLOAT, [3, 512, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    assert multiplications(model) == 3 * 512 * 9


def test_it_tells_what_the_file_holds(spotter, exported):
    facts = describe(exported / "slow.onnx")
    assert facts["labels"] == list(LABELS)
    assert (facts["block_size"], facts["latency_ms"], facts["frame_ms"]) == (1280, 80, 20)
    assert facts["parameters"] == spotter.n_parameters
    assert facts["licence"] == "Apache-2.0"
    assert describe(exported / "features.onnx")["variant"] == "features"
    assert describe(exported / "int8.onnx")["precision"] == "int8"
    assert describe(exported / "batch.onnx")["batch_size"] is None


def test_the_command_prints_text_or_json(exported, capsys):
    for name in (*PLAIN, "features"):
        assert cli.main(["info", str(exported / f"{name}.onnx")]) == 0
        text = capsys.readouterr().out
        assert "labels" in text
        assert "log_mel, 25.0 ms windows" in text
        assert "not calibrated" in text
        assert cli.main(["info", "--json", str(exported / f"{name}.onnx")]) == 0
        assert json.loads(capsys.readouterr().out)["kws_version"]


def test_it_shows_thresholds_and_operating_point(tmp_path, capsys):
    point = {"frr": 0.0312345, "frr_interval": [0.02, 0.04], "fa_per_hour": 0.5, "fa_interval": [0.1, 1.4]}
    card = {"operating_point": {**point, "hours": 7.0, "stream": "hall", "events": 90}}
    path = write_tiny(tmp_path / "m.onnx", card=card)
    assert cli.main(["info", str(path)]) == 0
    text = capsys.readouterr().out
    assert "no 0.8" in text
    assert "misses 0.0312 (0.02 to 0.04) at 0.5 false alarms an hour (0.1 to 1.4); 7 h of hall, 90 keywords" in text
    assert "not stated per second" in text


def test_it_lists_the_promises_of_a_file(tmp_path, capsys):
    behind = {"thresholds": {"yes": 3, "no": 2}, "hours": 3.5}
    points = [
        {"fa_per_hour": 0.2, "false_alarms": 0, "fa_interval": [0, 1.05], "extrapolated": True, **behind},
        {"fa_per_hour": 1, "false_alarms": 3, "fa_interval": [0.18, 2.5], "extrapolated": False, **behind},
    ]
    changes = {"kws_format": 2, "kind": "commands", "detector": {"score": "log_ratio"}, "operating_points": points}
    path = write_tiny(tmp_path / "two.onnx", fa_per_hour=1, **changes)
    assert cli.main(["info", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "0.2 false alarms an hour: 0 in 3.50 h of speech, 0 to 1.1 an hour, extrapolated" in shown
    assert "1 false alarm an hour (default): 3 in 3.50 h of speech, 0.18 to 2.5 an hour" in shown


def test_errors_are_one_sentence(tmp_path, capsys):
    assert cli.main(["info", str(tmp_path / "none.onnx")]) == 1
    assert "is not a file" in capsys.readouterr().err
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    assert cli.main(["info", str(tmp_path / "junk.onnx")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["info", str(write_tiny(tmp_path / "old.onnx", block_size=None))]) == 1
    assert "no block_size" in capsys.readouterr().err


def test_info_needs_neither_torch_nor_onnx(exported):
    code = (
        "import sys; from kws.apps.info import describe; "
        f"describe({str(exported / 'float32.onnx')!r}); sys.exit(bool({{'torch', 'onnx', 'hydra'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_benchmark_measures_a_file_and_skips_what_is_absent(exported, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "PEERS", ("no-such-peer", "pocketsphinx"))
    ran = benchmark._run

    def without_peers(measure, model=None):
        if model is None:
            raise ModuleNotFoundError(f"No module named {measure!r}")
        return ran(measure, model)

    monkeypatch.setattr(benchmark, "_run", without_peers)
    report = benchmark.benchmark([exported / "float32.onnx"], output=tmp_path / "figures.json")
    titles = [row["title"] for row in report["rows"]]
    assert titles[0] == "kws float32.onnx"
    assert titles[1:] in ([], ["kws float32.onnx, C engine"])  # where there is a compiler
    for row in report["rows"]:
        assert 0 < row["rtf"] < 1
        assert row["median_us"] <= row["p95_us"]
        assert row["bytes"] == (exported / "float32.onnx").stat().st_size
        assert 10 < row["memory_mb"] < 200
    assert set(report["skipped"]) == {"no-such-peer", "pocketsphinx"}
    assert json.loads((tmp_path / "figures.json").read_text()) == report
    text = capsys.readouterr().out
    assert "pocketsphinx: skipped, No module named 'pocketsphinx'; pip install 'kws[bench]'" in text
    assert "N=1:" in text


def test_the_count_needs_no_metadata(exported):
    per_step = multiplications(onnx.load(exported / "float32.onnx"))
    assert per_step * 50 == sum(by_hand().values())
