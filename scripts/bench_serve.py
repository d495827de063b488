"""What `kws serve` costs, beside pyopen-wakeword behind the same protocol, fed the same audio in the same run.

    python scripts/bench_serve.py clients --words DIR      # 1, 10 and 20 clients in real time: delay and CPU
    python scripts/bench_serve.py hour                     # an hour of audio at speed: memory at each tenth of it
    python scripts/bench_serve.py connections              # 500 clients at once, each heard

`--words DIR`: a folder of Speech Commands; its first recordings of "yes" that gsc12 hears are played, each followed by
espeak-ng's "hey jarvis" for the peer, with pauses. A delay is counted from the word's end (its last 10 ms within 35 dB
of the loudest) to the client's receipt of the detection, and is negative where a model knows the word before; `of it,
served` from when the client sent the chunk that brought the detection. The service has a process and a core of its own,
`--core`; its CPU time is the system's count.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from wyoming.audio import AudioChunk, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.server import AsyncEventHandler, AsyncServer
from wyoming.wake import Detect, Detection, NotDetected

from kws.audio.levels import dbfs
from kws.streaming import StreamingSpotter

RATE, CHUNK, PAUSE, WORDS = 16000, 1024, 2.0, 8
PORTS = {"kws serve": 10481, "pyopen-wakeword": 10482}
NAMES = {"kws serve": "gsc12.yes", "pyopen-wakeword": "hey_jarvis"}


class Peer(AsyncEventHandler):
    """pyopen-wakeword's "hey jarvis", as wyoming-openwakeword runs it: a stream and its features for each client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        from pyopen_wakeword import Model, OpenWakeWord, OpenWakeWordFeatures

        self.word, self.features = OpenWakeWord.from_builtin(Model.HEY_JARVIS), OpenWakeWordFeatures.from_builtin()
        self.quiet = 0  # chunks until it may be told again

    async def handle_event(self, event: Event) -> bool:
        if AudioChunk.is_type(event.type):
            chunk, self.quiet = AudioChunk.from_event(event), self.quiet - 1
            heard = [
                p for part in self.features.process_streaming(chunk.audio) for p in self.word.process_streaming(part)
            ]
            if max(heard, default=0) > 0.5 and self.quiet < 0:
                self.quiet = RATE // CHUNK
                await self.write_event(Detection("hey_jarvis", chunk.timestamp).event())
        elif Ping.is_type(event.type):
            await self.write_event(Pong(Ping.from_event(event).text).event())
        elif Describe.is_type(event.type):
            await self.write_event(Info().event())
        return True


class Audio(NamedTuple):
    """int16 `[S]`, and where the words of each service end, seconds."""

    samples: np.ndarray
    ends: dict[str, list[float]]


def word_end(samples: np.ndarray) -> float:
    levels = dbfs(samples[: len(samples) // 160 * 160].reshape(-1, 160))
    return (int(np.flatnonzero(levels > levels.max() - 35)[-1]) + 1) / 100


def made_audio(folder: Path) -> Audio:
    from kws.speech.espeak import Espeak

    espeak = Espeak()
    espeak.choose_voice("en-us")
    jarvis = (espeak.say("hey jarvis", 140, 50, 50) * 32767).astype(np.int16)
    rng, parts, ends, spotter = np.random.default_rng(0), [], {name: [] for name in PORTS}, StreamingSpotter("gsc12")

    def add(clip: np.ndarray, service: str) -> None:
        ends[service].append(sum(map(len, parts)) / RATE + word_end(clip))
        pause = rng.normal(0, 8, round(PAUSE * RATE)).astype(np.int16)
        parts.extend([clip, pause])

    parts.append(rng.normal(0, 8, 2 * RATE).astype(np.int16))
    for path in sorted((folder / "yes").glob("*.wav")):
        clip, _ = soundfile.read(path, dtype="int16")
        noise = rng.normal(0, 8, (2, RATE)).astype(np.int16)
        heard = [*spotter.feed(np.concatenate([noise[0], clip, noise[1]])), *spotter.flush()]
        if [each.keyword for each in heard] == ["yes"]:
            add(clip, "kws serve")
            add(jarvis, "pyopen-wakeword")
        if len(ends["kws serve"]) == WORDS:
            return Audio(np.concatenate(parts), ends)
    raise SystemExit(f"{folder} holds too few recordings of yes; name a folder of Speech Commands")


class Process:
    """A service in a process of its own, on one core."""

    def __init__(self, name: str, core: int) -> None:
        self.uri = f"tcp://127.0.0.1:{PORTS[name]}"
        ours = ["-m", "kws.cli", "serve", "--uri", self.uri]
        command = [sys.executable, *(ours if name == "kws serve" else [__file__, "peer"])]
        pin = functools.partial(os.sched_setaffinity, 0, {core})
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=pin)

    async def ready(self) -> None:
        while True:
            try:
                async with AsyncClient.from_uri(self.uri):
                    return
            except OSError:
                await asyncio.sleep(0.1)

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        return int(Path(f"/proc/{self.process.pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1000

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


async def play(uri: str, name: str, audio: Audio, ends: list[float]) -> list[tuple[float, float]]:
    """One client in real time -> for each word that was heard, its delay and the part of it that the service took."""
    found, sent = [], {}
    async with AsyncClient.from_uri(uri) as client:
        await client.write_event(Detect([name]).event())
        await asyncio.sleep(np.random.default_rng(id(client)).uniform(0, CHUNK / RATE))  # clients are not in step
        begun = time.monotonic()

        async def listen() -> None:
            while event := await client.read_event():
                if Detection.is_type(event.type):
                    now, timestamp = time.monotonic(), Detection.from_event(event).timestamp
                    delay = min((now - begun - end for end in ends), key=abs)
                    if abs(delay) < 1.5:
                        found.append((delay, now - sent[timestamp]))

        task = asyncio.create_task(listen())
        for at in range(0, len(audio.samples), CHUNK):
            await asyncio.sleep(max(0, begun + (at + CHUNK) / RATE - time.monotonic()))
            sent[round(1000 * at / RATE)] = time.monotonic()
            chunk = audio.samples[at : at + CHUNK].tobytes()
            await client.write_event(AudioChunk(RATE, 2, 1, chunk, timestamp=round(1000 * at / RATE)).event())
        await asyncio.sleep(1)
        task.cancel()
    return found


async def clients(options: argparse.Namespace) -> None:
    audio = made_audio(options.words)
    print(f"{len(audio.samples) / RATE:.0f} s of audio, {WORDS} words of each service, {CHUNK} samples a chunk")
    print("service          clients  heard  delay ms: median, 95 %, most  of it, served: median, most  CPU of a core")
    for name in PORTS:
        for count in options.clients:
            service = Process(name, options.core)
            await service.ready()
            begun, before = time.monotonic(), service.cpu()
            runs = await asyncio.gather(
                *(play(service.uri, NAMES[name], audio, audio.ends[name]) for _ in range(count))
            )
            share = (service.cpu() - before) / (time.monotonic() - begun)
            service.close()
            delays = 1000 * np.array([found for run in runs for found in run] or [(np.nan, np.nan)])
            quantiles = np.percentile(delays[:, 0], [50, 95, 100])
            print(
                f"{name:15}  {count:7}  {len(delays) / count / WORDS:5.0%}  {quantiles[0]:16.0f} {quantiles[1]:6.0f} "
                f"{quantiles[2]:6.0f}  {np.median(delays[:, 1]):15.1f} {delays[:, 1].max():10.1f}  {share:15.1%}",
                flush=True,
            )


async def until(client: AsyncClient, kind: type) -> Event:
    while (event := await client.read_event()) and not kind.is_type(event.type):
        pass
    assert event, "the service hung up"
    return event


async def hour(options: argparse.Namespace) -> None:
    """Streams of a minute, one after the other, new connections every ten, at speed."""
    service, rng = Process("kws serve", options.core), np.random.default_rng(0)
    await service.ready()
    minute = (rng.standard_normal(60 * RATE) * np.repeat(10 ** rng.uniform(0, 3.5, 600), 1600)).clip(-32768, 32767)
    audio, begun = minute.astype(np.int16), time.monotonic()
    for tenth in range(11):
        print(f"{6 * tenth:3} minutes  {service.memory():6.1f} MB", flush=True)
        for _ in range(6 if tenth < 10 else 0):
            async with AsyncClient.from_uri(service.uri) as client:
                for at in range(0, len(audio), CHUNK):
                    await client.write_event(AudioChunk(RATE, 2, 1, audio[at : at + CHUNK].tobytes()).event())
                await client.write_event(AudioStop().event())
                await client.write_event(Ping().event())
                await until(client, Pong)
    print(f"{service.cpu():.1f} s of CPU, {time.monotonic() - begun:.1f} s")
    service.close()


async def connections(options: argparse.Namespace) -> None:
    service = Process("kws serve", options.core)
    await service.ready()
    print(f"before: {service.memory():.1f} MB")
    silence, begun = bytes(2 * RATE), time.monotonic()

    async def one() -> AsyncClient:
        client = AsyncClient.from_uri(service.uri)
        await client.connect()
        await client.write_event(Detect(["yes"]).event())
        await client.write_event(AudioChunk(RATE, 2, 1, silence).event())
        await client.write_event(AudioStop().event())
        await until(client, NotDetected)
        await client.write_event(AudioChunk(RATE, 2, 1, silence).event())  # a stream that stays open
        return client

    found = await asyncio.gather(*(one() for _ in range(options.count)))
    print(f"{len(found)} clients answered in {time.monotonic() - begun:.1f} s, {service.memory():.1f} MB")
    await asyncio.gather(*(client.disconnect() for client in found))
    await asyncio.sleep(1)
    print(f"after they have gone: {service.memory():.1f} MB")
    service.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["clients", "hour", "connections", "peer"])
    parser.add_argument("--words", type=Path, default=Path("data/SpeechCommands/speech_commands_v0.02"))
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 10, 20])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    if options.what == "peer":
        asyncio.run(AsyncServer.from_uri(f"tcp://127.0.0.1:{PORTS['pyopen-wakeword']}").run(Peer))
    else:
        asyncio.run({"clients": clients, "hour": hour, "connections": connections}[options.what](options))


if __name__ == "__main__":
    main()
