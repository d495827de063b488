"""One system measured in a process of its own: `python -m kws.apps.benchmark_worker SYSTEM [FILE]` prints JSON.

Needs no more than the system itself, so it runs on a board where kws alone is installed. Systems: see `SYSTEMS`.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kws.runtime.onnx_model import Stepper

STARTED = time.perf_counter()
WARM_STEPS, ROUNDS, STEPS, FILE_SECONDS = 300, 10, 300, 60
STREAMS = (1, 8, 64, 512)

# A system is loaded by a function of a file that returns (step, samples of a step at 16 kHz, file or None, extras).
Loaded = tuple[Callable[[Any], Any], int, Path | None, dict[str, Any]]


def load_kws(file: str, engine: str = "onnxruntime") -> Loaded:
    """A model of ours, stepped through `StreamingSpotter`: front end, model and detector."""
    from kws.streaming import StreamingSpotter, logit_stream

    spotter = StreamingSpotter(file, engine=engine)
    model = spotter.model
    card = model.metadata.get("card", {})
    extras = {
        "multiplications_per_second": card.get("multiplications_per_second"),
        "rate": model.sample_rate,
        "model_alone": logit_stream(model).feed,
    }
    return spotter.feed, model.block_size, Path(file), extras


def load_kws_c(file: str) -> Loaded:
    """The same on the C engine."""
    return load_kws(file, "c")


def load_silero(_: str) -> Loaded:
    """silero-vad's ONNX model on onnxruntime alone, as on a device: 32 ms and 64 samples of context, one thread."""
    import importlib.util

    import numpy as np
    import onnxruntime

    spec = importlib.util.find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("No module named 'silero_vad'")
    path = Path(spec.submodule_search_locations[0]) / "data" / "silero_vad.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    block, state = np.zeros((1, 64 + 512), np.float32), np.zeros((2, 1, 128), np.float32)
    rate = np.array(16000, np.int64)

    def step(samples: Any) -> None:
        nonlocal state
        block[0, :64] = block[0, -64:]
        block[0, 64:] = samples
        _, state = session.run(None, {"input": block, "state": state, "sr": rate})

    return step, 512, path, {}


def load_micro(_: str) -> Loaded:
    """pymicro-wakeword (microWakeWord on TensorFlow Lite) with the "okay nabu" it brings, features included."""
    from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures, Model

    word, features = MicroWakeWord.from_builtin(Model.OKAY_NABU), MicroWakeWordFeatures()

    def step(samples: Any) -> None:
        for feature in features.process_streaming((samples * 32767).astype("<i2").tobytes()):
            word.process_streaming(feature)

    path = getattr(word, "tflite_model", None)
    return step, 480, Path(path) if path else None, {}


def load_openwakeword(_: str) -> Loaded:
    """pyopen-wakeword (openWakeWord on TensorFlow Lite) with the "okay nabu" it brings, features included."""
    from pyopen_wakeword import Model, OpenWakeWord, OpenWakeWordFeatures

    word, features = OpenWakeWord.from_builtin(Model.OKAY_NABU), OpenWakeWordFeatures.from_builtin()

    def step(samples: Any) -> None:
        for feature in features.process_streaming((samples * 32767).astype("<i2").tobytes()):
            for _ in word.process_streaming(feature):
                pass

    return step, 1280, None, {}


def load_pocketsphinx(_: str) -> Loaded:
    """pocketsphinx with the acoustic model it brings, spotting ten command words as keyphrases."""
    import tempfile

    from pocketsphinx import Decoder

    with tempfile.NamedTemporaryFile("w", suffix=".list") as phrases:
        for word in ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"):
            phrases.write(f"{word} /1e-10/\n")
        phrases.flush()
        decoder = Decoder(samprate=16000, kws=phrases.name, lm=None, loglevel="FATAL")
    decoder.start_utt()

    def step(samples: Any) -> None:
        decoder.process_raw((samples * 32767).astype("<i2").tobytes(), False, False)

    return step, 1024, None, {}


SYSTEMS: dict[str, Callable[[str], Loaded]] = {
    "kws": load_kws,
    "kws-c": load_kws_c,
    "silero-vad": load_silero,
    "pymicro-wakeword": load_micro,
    "pyopen-wakeword": load_openwakeword,
    "pocketsphinx": load_pocketsphinx,
}


def pin() -> int | None:
    """Keep this process on one core, the last it may use; None where that is not possible."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def peak_memory() -> float:
    """Most memory that this process has held, MB. Linux counts it from the start of the program, not of its parent."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1000
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1000


def measure(system: str, file: str) -> dict[str, Any]:
    """Load time, peak memory, and the time of a warm step in the quietest of `ROUNDS` rounds."""
    step, size, path, extras = SYSTEMS[system](file)
    import numpy as np

    rate, model_alone = extras.pop("rate", 16000), extras.pop("model_alone", None)
    tone = 0.05 * np.sin(np.arange(16 * size) * 0.3)
    blocks = np.split(tone.astype(np.float32), 16)
    step(blocks[0])
    load_time = time.perf_counter() - STARTED
    for i in range(WARM_STEPS):
        step(blocks[i % 16])
    memory = peak_memory()
    times = _times(step, blocks)
    if model_alone is not None:
        extras["model_us"] = 1e6 * _times(model_alone, blocks)[STEPS // 2]
    return {
        "system": system,
        "file": str(path) if path else None,
        "bytes": path.stat().st_size if path else None,
        "step_ms": 1000 * size / rate,
        "median_us": 1e6 * times[STEPS // 2],
        "p95_us": 1e6 * times[STEPS * 95 // 100],
        "rtf": times[STEPS // 2] * rate / size,
        "load_s": load_time,
        "memory_mb": memory,
        **extras,
    }


def _times(step: Callable[[Any], Any], blocks: list[Any], steps: int = STEPS) -> list[float]:
    """Seconds of each of `steps` steps, sorted: of the round with the lowest median."""
    rounds = []
    for _ in range(ROUNDS):
        times = []
        for i in range(steps):
            before = time.perf_counter()
            step(blocks[i % len(blocks)])
            times.append(time.perf_counter() - before)
        rounds.append(sorted(times))
    return min(rounds, key=lambda times: times[steps // 2])


def measure_file(file: str, engine: str = "onnxruntime") -> dict[str, Any]:
    """Seconds of audio that one second of computing takes in, when a whole file is fed at once."""
    import numpy as np

    from kws.streaming import StreamingSpotter

    spotter = StreamingSpotter(file, engine=engine)
    samples = (0.05 * np.sin(np.arange(FILE_SECONDS * spotter.model.sample_rate) * 0.3)).astype(np.float32)
    rounds = []
    for _ in range(ROUNDS):
        before = time.perf_counter()
        spotter.feed(samples)
        spotter.flush()
        rounds.append(time.perf_counter() - before)
    return {"times_real_time": FILE_SECONDS / min(rounds)}


def measure_streams(file: str, engine: str = "onnxruntime") -> dict[str, Any]:
    """Streams that one core keeps up with in real time, in batches of `STREAMS`: model alone, and with detectors."""
    import numpy as np

    from kws.batched import BatchedSpotter
    from kws.c.choice import load_model
    from kws.runtime.onnx_model import SpotterModel, Stepper

    model = load_model(file, engine)
    fixed = model.batch_size if isinstance(model, SpotterModel) else None  # the C engine takes any number of any file
    found = []
    wave = (0.05 * np.sin(np.arange(model.block_size) * 0.3)).astype(np.float32)
    seconds = model.block_size / model.sample_rate
    for n in STREAMS if fixed is None else (fixed,):
        row: dict[str, float] = {"n": n}
        steps: dict[str, Callable[[Any], Any]] = {"spotter": BatchedSpotter(model, n).feed}
        if isinstance(model, SpotterModel):
            steps["model"] = functools.partial(_step, Stepper(model, n))
        for name, step in steps.items():
            times = _times(step, [[wave] * n], max(4, 200 // n))
            row[name] = n * seconds / times[len(times) // 2]
        found.append(row)
    return {"block_ms": 1000 * seconds, "streams": found}


def _step(stepper: Stepper, _: Any) -> None:
    stepper.step()


def main() -> int:
    """Entry: exit status 0, or 1 with one sentence on standard error, 3 where the system is not installed."""
    system, file = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    pin()
    measures: dict[str, Callable[[str], dict[str, Any]]] = {
        "whole-file": measure_file,
        "whole-file-c": functools.partial(measure_file, engine="c"),
        "streams": measure_streams,
        "streams-c": functools.partial(measure_streams, engine="c"),
    }
    try:
        result = measures[system](file) if system in measures else measure(system, file)
    except ImportError as error:
        print(error, file=sys.stderr)
        return 3
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
