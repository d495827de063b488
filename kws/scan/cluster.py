"""The engine of a cluster: Ray Data hands parts to actors, each of which watches the process that scans them."""

from __future__ import annotations

import json
import logging
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from kws.errors import KwsError
from kws.scan.processes import Event, PartProcess
from kws.scan.scanner import Scanned, Settings, Tally
from kws.scan.sources import Part, Source

PATIENCE = 10.0  # s for a cluster to answer
LOCAL = "local"  # an address: a cluster of this machine alone, for this scan


def scan_on_ray(settings: Settings, parts: Sequence[Part], workers: int | None, address: str) -> Iterator[Event]:
    """Scan all parts by `workers` actors, a CPU each (None: as many as the cluster has); an event for each part.

    address: `auto` for the cluster that this machine belongs to, HOST:PORT for another one, or `LOCAL`. A part whose
    node or actor ends is scanned again elsewhere. The model goes to the nodes; kws has to be there, and the sources.
    Raises `KwsError` if there is no cluster, or the model cannot be run.
    """
    with _connected(address, workers) as ray:
        count = min(workers or int(ray.cluster_resources().get("CPU", 1)), len(parts))
        # One block for each part, from memory: nothing but the actors needs a CPU, so nothing waits for them in vain.
        given = [{"number": number, "sources": json.dumps(part.sources)} for number, part in enumerate(parts)]
        scanned = ray.data.from_items(given, override_num_blocks=len(given)).map_batches(
            ScanActor,
            fn_constructor_args=(settings, Path(settings.model_path).read_bytes()),
            batch_size=1,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=1),
        )
        for row in scanned.iter_rows():
            if row["error"]:
                raise KwsError(row["error"])
            found = json.loads(row["found"])
            scanned_part = Scanned(Tally(**found["tally"]), found["detections"], found["files"])
            yield Event(0, scanned_part.tally, parts[row["number"]], scanned_part)


class ScanActor:
    """What Ray keeps on a node: a process with the model, which one part after another goes through."""

    def __init__(self, settings: Settings, model: bytes) -> None:
        """model: the content of its file, which this node need not have."""
        self._folder = tempfile.TemporaryDirectory(prefix="kws-scan-")
        path = Path(self._folder.name) / Path(settings.model_path).name
        path.write_bytes(model)
        self._process = PartProcess(replace(settings, model_path=str(path)))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """A part's number and sources -> its number and what was found, as JSON, or why nothing can be."""
        (number,), (sources,) = batch["number"], batch["sources"]
        found, error = "", ""
        try:
            part = Part([Source(*source) for source in json.loads(sources)])
            found = json.dumps(asdict(self._process.scan(part)))
        except KwsError as failure:
            error = str(failure)
        return {"number": [number], "found": [found], "error": [error]}


@contextmanager
def _connected(address: str, workers: int | None) -> Iterator[Any]:
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise KwsError("--ray needs ray; pip install 'kws[scan]', or leave it out to use this machine") from error
    where: dict[str, Any] = {"address": address}
    if address == LOCAL:
        where = {"address": LOCAL, "num_cpus": workers, "include_dashboard": False}
    try:
        host, colon, port = address.rpartition(":")
        if colon and port.isdecimal() and "/" not in host:
            socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()  # Ray would try for minutes
        ray.init(**where, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, ValueError) as error:
        raise KwsError(f"--ray {address}: no cluster answers there; docs/cluster.md says how to make one") from error
    try:
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
    finally:
        ray.shutdown()
