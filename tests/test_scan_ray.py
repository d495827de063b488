"""kws scan on a real Ray cluster of three nodes on this machine, one of which is killed in the middle."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from commands import kws
from test_scan import heard, rows, write_archive
from tiny_onnx import write_tiny

from kws.errors import KwsError
from kws.scan.cluster import scan_on_ray
from kws.scan.scanner import Settings, fingerprint
from kws.scan.sources import list_sources, parts

MEMORY = 80 << 20  # bytes of a node's object store

ray = pytest.importorskip("ray", reason="needs ray; pip install 'kws[scan]'")


@pytest.fixture(scope="module")
def cluster() -> object:
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False, "include_log_monitor": False}
    made = Cluster()
    try:
        made.add_node(**{**node, "num_cpus": 0, "no_monitor": True})
        nodes = [made.add_node(**node) for _ in range(2)]
    except Exception as error:
        made.shutdown()
        if "timed out during startup" in str(error):  # after 30 s, which Ray has fixed
            pytest.skip("this machine is too busy to start Ray")
        raise
    yield made, nodes
    ray.shutdown()
    made.shutdown()


@pytest.mark.timeout(900)
def test_a_node_is_killed_and_nothing_is_lost_or_doubled(cluster, tmp_path: Path) -> None:
    made, nodes = cluster
    model = write_tiny(tmp_path / "tiny.onnx")
    said = write_archive(tmp_path / "in", 30, "ynxy")
    settings = Settings(str(model), fingerprint(model), "onnxruntime")
    given = parts(list_sources([str(tmp_path / "in")]), 2)
    events = scan_on_ray(settings, given, 2, made.address)
    found = [next(events)]
    made.remove_node(nodes.pop(), allow_graceful=False)  # SIGKILL
    found += events
    assert sorted(event.part for event in found) == sorted(given)
    words = Counter((row["path"], row["keyword"]) for event in found for row in event.found.detections)
    assert words == Counter((path, word) for path, spoken in said.items() for word in spoken)
    assert sum(event.tally.files for event in found) == 30

    done = kws("scan", tmp_path / "in", "--output", tmp_path / "out", "--model", model, "--ray", made.address,
               "--format", "jsonl")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert heard(tmp_path / "out") == said
    assert len(rows(tmp_path / "out", "files")) == 30


def test_what_a_cluster_cannot_do_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    model = write_tiny(tmp_path / "tiny.onnx")
    write_archive(tmp_path / "in", 1)
    options = ["--output", tmp_path / "out", "--model", model, "--format", "jsonl"]
    done = kws("scan", tmp_path / "in", *options, "--ray", "127.0.0.1:1")
    assert (done.returncode, done.stderr.count("error: ")) == (1, 1)
    assert "--ray 127.0.0.1:1: no cluster answers there" in done.stderr
    assert os.listdir(tmp_path / "out" / "files") == []
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(KwsError, match=r"--ray needs ray; pip install 'kws\[scan\]'"):
        next(scan_on_ray(Settings(str(model), ""), [], None, "auto"))
