"""Work in fresh Python processes, with progress, that import neither the caller's main module nor torch.

`multiprocessing` would either fork a process that holds torch's threads or import the caller's script once more, and
espeak-ng gives the same sound twice only from a fresh process. So a job is plain JSON to `python -c` and back.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from kws.errors import DataError
from kws.system.progress import Stage

PACKAGE_PARENT = Path(__file__).resolve().parents[2]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    module: str, jobs: Sequence[dict[str, Any]], workers: int, total: int, title: str, progress: bool
) -> list[Any]:
    """Call `module.work(job, done)` for every job, each in its own process, at most `workers` at a time.

    Jobs and results are JSON values; `done(n)` in the process advances the stage `title` of `total` clips. Results
    come in the order of the jobs. The first failure stops all others and is raised: `DataError`, `OSError` (with its
    errno), or `RuntimeError` for a process that died.
    """
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONIOENCODING="utf-8")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE_PARENT), environment.get("PYTHONPATH")]))
    command = [sys.executable, "-c", f"from {module} import work; from kws.system.jobs import serve; serve(work)"]
    failures: list[BaseException] = []  # the first is the cause, the others are processes that were stopped for it
    running: set[subprocess.Popen[str]] = set()
    lock, stopped = threading.Lock(), threading.Event()

    def run(job: dict[str, Any]) -> Any:
        with lock:
            if stopped.is_set():
                return None
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, encoding="utf-8"
            )
            running.add(process)
        try:
            with process:
                return _converse(process, job, stage.advance, module)
        except BaseException as error:
            failures.append(error)
            stop()
        finally:
            running.discard(process)
        return None

    def stop() -> None:
        with lock:
            stopped.set()
            for process in list(running):
                process.kill()

    with (
        Stage(title, total, show=progress) as stage,
        ThreadPoolExecutor(max(1, min(workers, len(jobs)))) as pool,
    ):
        try:
            results = list(pool.map(run, jobs))
        except BaseException:
            stop()
            raise
        if failures:
            raise failures[0]
    return results


def _converse(process: subprocess.Popen[str], job: dict[str, Any], done: Callable[[int], Any], module: str) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # it died: its exit status is reported below
        json.dump(job, process.stdin)
    with suppress(BrokenPipeError):
        process.stdin.close()
    for line in process.stdout:
        message = json.loads(line)
        if "done" in message:
            done(message["done"])
        elif "result" in message:
            return message["result"]
        elif message["errno"] is not None:
            raise OSError(message["errno"], message["error"])
        else:
            raise DataError(message["error"])
    raise RuntimeError(f"a process running {module} ended with status {process.wait()}")


def serve(work: Callable[[dict[str, Any], Callable[[int], None]], Any]) -> None:
    """The process's side: read the job from standard input, answer in JSON lines on standard output."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent decides

    def say(message: dict[str, Any]) -> None:
        try:
            print(json.dumps(message), flush=True)
        except BrokenPipeError:  # the parent was killed
            os._exit(1)

    try:
        result = work(json.load(sys.stdin), lambda n: say({"done": n}))
    except OSError as error:
        say({"error": f"{error.filename}: {error.strerror}" if error.filename else str(error), "errno": error.errno})
    except DataError as error:
        say({"error": str(error), "errno": None})
    else:
        say({"result": result})
