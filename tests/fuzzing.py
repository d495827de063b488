"""Damaged input for everything that reads what strangers write: `make fuzz`, and a thousand of each in the tests.

    python tests/fuzzing.py [SECONDS] [SEED]    # found/ in .cache/fuzz keeps what did something else than it should

Each target reads bytes and either understands them or raises an error that a user can mend (`KwsError`, `OSError`).
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import soundfile

from kws.apps.info import table
from kws.apps.web_server import _Handler
from kws.audio.files import blocks
from kws.errors import KwsError
from kws.recordings.labels import read_recordings
from kws.runtime.contract import contradiction
from kws.runtime.graph_bounds import check_graph
from kws.runtime.onnx_model import DescribedModel
from kws.runtime.onnx_reader import read_onnx

MODEL = Path(__file__).parents[1] / "kws" / "models" / "gsc12_tiny.onnx"
ODD = [None, True, -1, 0, 1, 2**31, 2**64, 1e308, -0.5, "", "x" * 99, "../x", "\x1b[2J", [], {}, [[]], {"a": []}, "12"]
WORDS = [
    b"\0" * 4,
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\x80",
    b"\x01",
    b"\r\n\r\n",
    b'"',
    b",",
    b"\n",
]
Random = np.random.Generator


class Target(NamedTuple):
    """What reads, the good inputs that are damaged, and how."""

    read: Callable[[bytes, Path], object]
    seeds: Callable[[], list[bytes]]
    damage: Callable[[bytes, Random], bytes]


def damaged(content: bytes, rng: Random) -> bytes:
    """A few bytes flipped, put in, taken out, said twice or cut off; more often near the start, where heads are."""
    made = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        span = len(made) if rng.random() < 0.3 else min(len(made), 200)
        at, kind, length = int(rng.integers(span + 1)), rng.integers(6), int(rng.integers(1, 9))
        if kind == 0:
            made[at : at + 1] = bytes([rng.integers(256)])
        elif kind == 1:
            word = WORDS[rng.integers(len(WORDS))]
            made[at : at + len(word)] = word
        elif kind == 2:
            made[at:at] = rng.bytes(length)
        elif kind == 3:
            del made[at : at + length]
        elif kind == 4:
            made[at:at] = made[at : at + 8 * length]
        elif rng.random() < 0.2:
            del made[at:]
    return bytes(made)


def damaged_json(content: bytes, rng: Random) -> bytes:
    """A value or two, anywhere in it, becomes an odd one, or goes."""
    values = json.loads(content)
    for _ in range(int(rng.integers(1, 3))):
        inside, key = values, None
        while True:
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            if not keys:
                break
            parent, key = inside, keys[rng.integers(len(keys))]
            inside = parent[key]
            if not isinstance(inside, dict | list) or rng.random() < 0.3:
                break
        if key is None:
            continue
        if rng.random() < 0.15:
            del parent[key]
        else:
            parent[key] = ODD[rng.integers(len(ODD))]
    return json.dumps(values).encode()


def metadata(content: bytes, folder: Path) -> None:
    """What is not refused must be good for all that reads it."""
    values = json.loads(content)
    if contradiction(values) is None:
        model = DescribedModel(Path("m.onnx"), values)
        facts = {"file": "m", "bytes": 1, "engine": None, "batch_size": 1, "frame_ms": 1.0, "latency_ms": 1.0}
        keys = ("kws_version", "labels", "sample_rate", "frontend", "block_size", "model", "detector", "fa_per_hour")
        facts |= {key: values.get(key) for key in keys} | {"operating_points": values.get("operating_points", [])}
        card = values.get("card") or {}
        of_card = ("parameters", "multiplications_per_second", "operating_point", "validation_accuracy", "data")
        facts |= {key: card.get(key) for key in (*of_card, "data_licence", "licence")}
        table({**facts, "model": values.get("model", {}), "precision": "float32", "variant": "waveform"})
        assert model.labels


def onnx(content: bytes, folder: Path) -> None:
    path = folder / "m.onnx"
    path.write_bytes(content)
    graph = read_onnx(path)
    if contradiction(graph.metadata) is None:
        check_graph(graph)


def safetensors(content: bytes, folder: Path) -> None:
    from kws.model.checkpoint import load_checkpoint

    path = folder / "c.safetensors"
    path.write_bytes(content)
    load_checkpoint(path)


def audio(ending: str, content: bytes, folder: Path) -> None:
    path = folder / f"x.{ending}"
    path.write_bytes(content)
    for block in itertools.islice(blocks(path, 16000), 100):
        assert np.isfinite(block).all()


def labels(content: bytes, folder: Path) -> None:
    if not (folder / "x.wav").exists():
        soundfile.write(folder / "x.wav", np.zeros(160_000), 16000)
    (folder / "labels.csv").write_bytes(content)
    read_recordings(folder, ("_unknown_", "yes", "no"))


def wyoming(content: bytes, folder: Path) -> None:
    """A conversation with a client that sends these bytes and goes: it must end, and tell of no mistake of ours."""
    from kws.apps.wake.handler import LOG, WakeHandler

    mistakes: list[object] = []

    async def talk() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(content)
        reader.feed_eof()
        sink = SimpleNamespace(
            get_extra_info=lambda name: None, write=lambda data: None, writelines=lambda data: None, drain=_nothing,
            close=lambda: None, transport=SimpleNamespace(abort=lambda: None),
        )  # fmt: skip
        await asyncio.wait_for(WakeHandler(reader, sink, _service()).run(), 20)  # type: ignore[arg-type]

    told = {"exception": lambda *_: mistakes.append(sys.exc_info()[1]), "disabled": True}
    with patch.multiple(LOG, **told):
        asyncio.run(talk())
    if mistakes:
        raise mistakes[0]  # type: ignore[misc]


async def _nothing() -> None:
    pass


@cache
def _service() -> Any:
    from kws.apps.wake.catalogue import Catalogue
    from kws.apps.wake.handler import Service

    service = Service(Catalogue(MODEL.parent))
    service.catalogue.refresh()
    service.catalogue.refresh = lambda: None  # type: ignore[method-assign]
    return service


def http(content: bytes, folder: Path) -> None:
    """A request to the server of the page."""
    answer = io.BytesIO()
    connection = SimpleNamespace(
        makefile=lambda *_: io.BytesIO(content), sendall=answer.write, settimeout=lambda seconds: None,
        setsockopt=lambda *_: None,
    )  # fmt: skip
    _Handler(connection, ("127.0.0.1", 1), SimpleNamespace(), files={"index.html": MODEL})
    assert MODEL.name.encode() not in answer.getvalue()[:2000]


@cache
def _metadata() -> bytes:
    return json.dumps(read_onnx(MODEL).metadata).encode()


@cache
def _checkpoints() -> list[bytes]:
    import torch

    from kws.config import FrontendConfig, RecurrentConfig
    from kws.model.checkpoint import save_checkpoint
    from kws.model.spotter import KeywordSpotter

    torch.manual_seed(0)
    config = RecurrentConfig(hidden_size=2, conv_channels=[2], projection_size=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.safetensors"
        save_checkpoint(path, KeywordSpotter(FrontendConfig(n_mels=4, n_mfcc=4), config, ("_unknown_", "yes")))
        return [path.read_bytes()]


def _sounds(ending: str) -> list[bytes]:
    content = io.BytesIO()
    noise = 0.1 * np.random.default_rng(0).standard_normal(4000)
    soundfile.write(content, noise, 16000, format={"mp3": "MP3", "ogg": "OGG", "flac": "FLAC"}.get(ending, "WAV"))
    return [content.getvalue()]


def _events() -> list[bytes]:
    def event(kind: str, data: Any = None, payload: bytes = b"") -> bytes:
        head = {"type": kind, "data": data or {}, "payload_length": len(payload)}
        return json.dumps(head).encode() + b"\n" + payload

    sound = {"rate": 16000, "width": 2, "channels": 1, "timestamp": 0}
    words = event("detect", {"names": ["yes"]}) + event("audio-start", sound)
    return [
        event("describe") + event("ping", {"text": "x"}),
        words + event("audio-chunk", sound, bytes(640)) + event("audio-stop", {"timestamp": 1}),
    ]


REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /kws.wasm HTTP/1.0\r\n\r\n",
    b"GET http://[/x HTTP/1.1\r\nRange: bytes=0-\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.0\r\nIf-Modified-Since: x\r\n\r\n",
    b"POST /models.json HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
]
TABLE = b"file,onset,offset,keyword\nx.wav,0.5,1.0,yes\nx.wav,2,2.5,no\nx.wav,3.25,4,_unknown_\n"
TARGETS = {
    "metadata": Target(metadata, lambda: [_metadata()], damaged_json),
    "onnx": Target(onnx, lambda: [MODEL.read_bytes()], damaged),
    "safetensors": Target(safetensors, _checkpoints, damaged),
    **{kind: Target(partial(audio, kind), partial(_sounds, kind), damaged) for kind in ("wav", "flac", "ogg", "mp3")},
    "labels": Target(labels, lambda: [TABLE], damaged),
    "wyoming": Target(wyoming, _events, damaged),
    "http": Target(http, lambda: REQUESTS, damaged),
}


def inputs(name: str, seed: int) -> Iterator[bytes]:
    """Damaged input for a target, always the same for a seed."""
    target, rng = TARGETS[name], np.random.default_rng([seed, list(TARGETS).index(name)])
    seeds = target.seeds()
    while True:
        yield target.damage(seeds[rng.integers(len(seeds))], rng)


def fault(name: str, content: bytes, folder: Path) -> str:
    """What a target did that it must not, or nothing."""
    try:
        TARGETS[name].read(content, folder)
    except (KwsError, OSError) as error:
        return "" if len(str(error)) < 2000 else f"a sentence of {len(str(error))} characters"
    except Exception:
        return traceback.format_exc()
    return ""


def main() -> None:
    given = dict(enumerate(sys.argv))
    seconds, seed = float(given.get(1, 600)), int(given.get(2, 1))
    found, counts = Path(".cache/fuzz/found"), dict.fromkeys(TARGETS, 0)
    end, streams = time.monotonic() + seconds, {name: inputs(name, seed) for name in TARGETS}
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            for name, stream in streams.items():
                for content in itertools.islice(stream, 50):
                    began = time.monotonic()
                    what = fault(name, content, Path(folder))
                    if time.monotonic() - began > 10:
                        what = f"it took {time.monotonic() - began:.0f} s"
                    counts[name] += 1
                    if what:
                        bad += 1
                        found.mkdir(parents=True, exist_ok=True)
                        (found / f"{name}-{seed}-{counts[name]}").write_bytes(content)
                        print(f"{name} {counts[name]}: {what}", flush=True)
    print(", ".join(f"{name} {count}" for name, count in counts.items()), f"; {bad} faults")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
