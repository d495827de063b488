"""Model files of strangers: every command that reads one refuses a bad one in a sentence that names it."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
from hostile import Case, check
from onnx import helper, numpy_helper
from tiny_onnx import write_tiny

import kws

READERS = {
    "info": "info {}/m.onnx",
    "spot": "spot --model {}/m.onnx {}/x.wav",
    "listen": "listen --model {}/m.onnx --file {}/x.wav",
    "scan": "scan {} --model {}/m.onnx --output out",
    "calibrate": "calibrate {}/m.onnx {}",
    "evaluate-stream": "evaluate-stream {}/m.onnx {}",
    "benchmark": "benchmark {}/m.onnx",
    "web": "web --model {}/m.onnx --export out",
    "export": "export {}/m.onnx --variant c --output out",
}


def written(content: bytes) -> Callable[[Path], object]:
    """A file of these bytes, beside some audio."""

    def make(folder: Path) -> None:
        (folder / "m.onnx").write_bytes(content)
        soundfile.write(folder / "x.wav", np.zeros(16000), 16000)

    return make


def tiny(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: write_tiny(folder / "m.onnx", **changes)


def raw_metadata(text: str) -> Callable[[Path], object]:
    """A good file but for one value of its metadata, which is this text."""

    def make(folder: Path) -> None:
        model = onnx.load(write_tiny(folder / "m.onnx"))
        for entry in model.metadata_props:
            if entry.key == "detector":
                entry.value = text
        onnx.save(model, folder / "m.onnx")

    return make


def graph(
    *nodes: onnx.NodeProto, change: Callable[[onnx.ModelProto], object] = lambda model: None, **constants: Any
) -> Any:
    """A good file whose graph holds these nodes and constants besides, and is changed in another way."""

    def make(folder: Path) -> None:
        model = onnx.load(write_tiny(folder / "m.onnx"))
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
        change(model)
        onnx.save(model, folder / "m.onnx")
        soundfile.write(folder / "x.wav", np.zeros(16000), 16000)

    return make


def sparse(model: onnx.ModelProto) -> None:
    value = helper.make_tensor("s", onnx.TensorProto.FLOAT, [1], [1.0])
    index = helper.make_tensor("i", onnx.TensorProto.INT64, [1], [5])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(value, index, [1 << 40]))


def external(model: onnx.ModelProto) -> None:
    tensor = next(each for each in model.graph.initializer if each.name == "scale")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def functions(model: onnx.ModelProto) -> None:
    body = helper.make_function("mine", "F", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], model.opset_import)
    model.functions.append(body)


def doubled(op: str, n: int) -> list[onnx.NodeProto]:
    """What grows by itself: each node takes the one before it twice."""
    names = ["waveform", *(f"x{i}" for i in range(n))]
    attributes = {"axis": 1} if op == "Concat" else {}
    return [helper.make_node(op, [a, a], [b], **attributes) for a, b in itertools.pairwise(names)]


def loop() -> onnx.NodeProto:
    """That never ends."""
    keep = helper.make_node("Identity", ["go"], ["on"])
    body = helper.make_graph(
        [keep],
        "body",
        [
            helper.make_tensor_value_info(*each, [])
            for each in (("i", onnx.TensorProto.INT64), ("go", onnx.TensorProto.BOOL))
        ],
        [helper.make_tensor_value_info("on", onnx.TensorProto.BOOL, [])],
    )
    return helper.make_node("Loop", ["", "true"], [], body=body)


def node(op: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, ["bad"], **attributes)


# What a graph is made to hold, and what is said of it.
HUGE, MEMORY, TIME = 1 << 40, "numbers of memory", "multiplications"
GRAPHS = {
    "loop": (graph(loop(), true=np.array(True)), "data type"),
    "loop-of-nothing": (graph(helper.make_node("Loop", ["", ""], [])), "'Loop'"),
    "branch": (graph(node("If", "waveform")), "'If'"),
    "scan": (graph(node("Scan", "waveform")), "'Scan'"),
    "custom": (graph(node("Relu", "waveform", domain="evil")), "'evil.Relu'"),
    "expand": (graph(node("Expand", "waveform", "n"), n=np.array([1 << 20, 640])), "'Expand'"),
    "constant-of-shape": (graph(node("ConstantOfShape", "n"), n=np.array([HUGE])), MEMORY),
    "negative-shape": (graph(node("ConstantOfShape", "n"), n=np.array([-1, -1])), "no possible shape"),
    "range": (graph(node("Range", "a", "b", "c"), a=np.int64(0), b=np.int64(HUGE), c=np.int64(1)), MEMORY),
    "range-of-nothing": (graph(node("Range", "a", "a", "a"), a=np.int64(0)), "Range does not fit"),
    "doubled": (graph(*doubled("Concat", 40)), MEMORY),
    "outer": (graph(node("Mul", "a", "b"), a=np.zeros((1, 9000)), b=np.zeros((9000, 1))), MEMORY),
    "pads": (graph(node("Conv", "a", "b", pads=[0, HUGE]), a=np.zeros((1, 1, 9)), b=np.zeros((1, 1, 3))), MEMORY),
    "kernel": (graph(node("MaxPool", "a", kernel_shape=[HUGE], pads=[0, HUGE]), a=np.zeros((1, 1, 9))), TIME),
    "many-products": (graph(*[node("MatMul", "a", "a")] * 9, a=np.zeros((900, 900))), TIME),
    "reshape": (graph(node("Reshape", "waveform", "n"), n=np.array([HUGE])), "Reshape does not fit"),
    "reshape-unknown": (graph(node("Reshape", "waveform", "state")), "Reshape does not fit"),
    "no-such-input": (graph(node("Relu", "nothing")), "Relu does not fit"),
    "sparse": (graph(change=sparse), "sparse"),
    "external": (graph(change=external), "another file"),
    "functions": (graph(change=functions), "operators of its own"),
    "two-constants": (graph(change=lambda m: m.graph.initializer.append(m.graph.initializer[0])), "two constants"),
    "rank": (graph(node("Relu", "a"), a=np.zeros([1] * 9)), "a has 1 numbers"),
}  # fmt: skip


def cases() -> list[Case]:
    contract = json.loads((Path(__file__).parents[1] / "contract.json").read_text())
    found = []
    for number, (changes, says) in enumerate(contract["bad"]):
        changes = {key: None if value == "(removed)" else value for key, value in changes.items()}
        found.append(Case(f"contract-{number}", "info {}/m.onnx", says, tiny(**changes)))
    whole = (Path(kws.__file__).parent / "models" / "gsc12_tiny.onnx").read_bytes()
    contents = {"empty": b"", "text": b"not a model", "cut": whole[:50_000], "zeros": bytes(5000)}
    found += [
        Case(f"{command}-{name}", arguments, "m.onnx", written(content))
        for command, arguments in READERS.items()
        for name, content in contents.items()
    ]
    for name, text in {"deep": "[" * 200_000, "cut": '{"a":', "number": "1e999", "nan": "NaN", "list": "[]"}.items():
        found.append(Case(f"json-{name}", "info {}/m.onnx", "detector", raw_metadata(text)))
    found += [
        Case(f"graph-{name}-{command}", READERS[command], says, make)
        for name, (make, says) in GRAPHS.items()
        for command in ("info", "spot")
    ]
    found += [
        Case(
            "sparse-file",
            "info {}/m.onnx",
            "at most",
            lambda folder: os.truncate(write_tiny(folder / "m.onnx"), 1 << 40),
        ),
        Case("pipe", "spot --model {}/m.onnx x.wav", "is not a file", lambda folder: os.mkfifo(folder / "m.onnx")),
        Case("device", "info /dev/zero", "is not a file"),
    ]
    return found


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_models(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)
