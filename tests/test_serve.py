"""`kws serve`, asked by the protocol's own client: what it hears, for whom, and that no client harms another."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_onnx import say, write_tiny

pytest.importorskip("wyoming")
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.wake import Detect, Detection, NotDetected

from kws import cli
from kws.apps.wake.catalogue import Catalogue
from kws.apps.wake.handler import LARGEST_EVENT, Service, WakeHandler
from kws.apps.wake.serve import serve
from kws.audio.pcm import Pcm
from kws.errors import KwsError
from kws.streaming import StreamingSpotter

RATE = 16000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    write_tiny(folder / "first.onnx")
    return folder


def served(models, save=None, catalogue=None):
    """A decorator: `test(connect)` within a running service; `connect()` is a client of it."""

    def run(test):
        async def main():
            uri, stopped = f"tcp://127.0.0.1:{free_port()}", asyncio.Event()
            words = catalogue or Catalogue(models)
            words.refresh()
            service = asyncio.create_task(serve(uri, words, save, None, stopped))
            await until_open(uri)
            connect = functools.partial(AsyncClient.from_uri, uri, read_timeout=20)
            connect.port = int(uri.rpartition(":")[2])
            try:
                await test(connect)
            finally:
                stopped.set()
                await asyncio.wait_for(service, 10)

        asyncio.run(main())

    return run


async def until_open(uri):
    for _ in range(100):
        try:
            async with AsyncClient.from_uri(uri):
                return
        except OSError:
            await asyncio.sleep(0.02)
    raise AssertionError(f"{uri} does not open")


async def play(client, samples, step=1024, rate=RATE, width=2, channels=1, start=True, timestamps=True):
    """A stream of PCM bytes or int16 samples, `step` frames at a time, from its start to its stop."""
    audio = samples if isinstance(samples, bytes) else samples.tobytes()
    form = {"rate": rate, "width": width, "channels": channels}
    if start:
        await client.write_event(AudioStart(**form).event())
    frame = width * channels
    for at in range(0, len(audio), step * frame):
        stamp = round(1000 * at / frame / rate) if timestamps else None
        await client.write_event(AudioChunk(**form, audio=audio[at : at + step * frame], timestamp=stamp).event())
    await client.write_event(AudioStop().event())


async def answers(client):
    """What comes until the answer to a ping."""
    await client.write_event(Ping("done").event())
    found = []
    while (event := await client.read_event()) and not Pong.is_type(event.type):
        found.append(event)
    assert event is not None, "the service hung up"
    assert Pong.from_event(event).text == "done"
    return found


async def names(client):
    return [Detection.from_event(e).name for e in await answers(client) if Detection.is_type(e.type)]


async def described(client):
    await client.write_event(Describe().event())
    return Info.from_event(await client.read_event())


def pcm(words):
    return (say(words) * 32767).astype("<i2")


def test_describe_names_every_word_and_finds_what_is_dropped_in(models, caplog):
    @served(models)
    async def _(connect):
        async with connect() as client:
            program = (await described(client)).wake[0]
            assert [(m.name, m.phrase, m.installed) for m in program.models] == [
                ("first.yes", "yes", True), ("first.no", "no", True),
            ]  # fmt: skip
            made = models / "marvin" / "model.onnx"  # the folder of kws new
            made.parent.mkdir()
            write_tiny(made, labels=["_silence_", "_unknown_", "marvin", "no"])
            (models / "half.onnx").write_bytes(made.read_bytes()[:900])
            await client.write_event(Detect(names=["marvin"]).event())  # without asking what there is
            await play(client, pcm("yny"))
            assert await names(client) == ["marvin", "marvin"]
            assert [m.name for m in (await described(client)).wake[0].models][2:] == ["marvin", "marvin.no"]
            (models / "marvin" / "raw.onnx").write_bytes(made.read_bytes())  # of a stage: only model.onnx is served
            (models / "first.onnx").unlink()
            assert [m.name for m in (await described(client)).wake[0].models] == ["marvin", "marvin.no"]

    assert "half.onnx is passed over" in caplog.text


def test_only_the_words_that_were_asked_for_are_told(models):
    @served(models)
    async def _(connect):
        async with connect() as client:
            await client.write_event(Detect(names=["no"]).event())
            for _ in range(2):  # a new stream forgets no names
                await play(client, pcm("yny"))
                assert await names(client) == ["no"]
            await client.write_event(Detect(names=["first.yes"]).event())
            await play(client, pcm("yny"))
            assert await names(client) == ["first.yes", "first.yes"]
            await client.write_event(Detect(names=["first"]).event())
            await play(client, pcm("yny"))
            assert await names(client) == ["first.yes", "first.no", "first.yes"]
            await client.write_event(Detect(names=None).event())
            await play(client, pcm("yn"))
            assert await names(client) == ["first.yes", "first.no"]
            await client.write_event(Detect(names=["maybe"]).event())
            await play(client, pcm("yny"))
            error, end = await answers(client)
            assert "the words are first.yes, first.no" in Error.from_event(error).text
            assert NotDetected.is_type(end.type)


def test_detections_are_those_of_the_spotter_at_the_chunk_that_brings_them(models):
    samples = pcm("ynynny")
    expected = []
    spotter = StreamingSpotter(models / "first.onnx")
    for at in range(0, len(samples), 800):
        expected += [(f"first.{d.keyword}", at // 16) for d in spotter.feed(samples[at : at + 800])]
    assert len(expected) == 6

    @served(models)
    async def _(connect):
        async with connect() as client:
            await play(client, samples, 800, start=False)  # a chunk begins a stream, too
            found = [Detection.from_event(event) for event in await answers(client)]
            assert [(each.name, each.timestamp) for each in found] == expected
            await play(client, pcm(""))
            assert [event.type for event in await answers(client)] == ["not-detected"]
            await play(client, samples, timestamps=False)
            found = [Detection.from_event(event) for event in await answers(client)]
            assert [each.name for each in found] == [name for name, _ in expected]
            assert all(0 <= ours.timestamp - at <= 130 for ours, (_, at) in zip(found, expected, strict=True))


def at_format(samples, rate, width, channels):
    """int16 at 16 kHz as PCM of another format: samples repeated, channels alike but for one that is zero."""
    whole = (
        np.repeat(samples.astype(np.int64), rate // RATE) if rate >= RATE else samples.astype(np.int64)[:: RATE // rate]
    )
    whole = np.stack([whole * (c < channels - 1 or channels == 1) for c in range(channels)], axis=1).ravel()
    if width == 1:
        return ((whole >> 8) + 128).astype(np.uint8).tobytes()
    return (whole << 8 * (width - 2)).astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()


@pytest.mark.parametrize("form", [(8000, 2, 1), (16000, 1, 1), (48000, 2, 2), (32000, 3, 1), (48000, 4, 6)])
def test_any_rate_width_and_channels(form, models):
    @served(models)
    async def _(connect):
        async with connect() as client:
            await play(client, at_format(pcm("yny"), *form), 999, *form)
            assert await names(client) == ["first.yes", "first.no", "first.yes"]


def test_samples_are_what_their_bytes_say():
    rng = np.random.default_rng(0)
    x = rng.integers(-(1 << 15), 1 << 15, 3000, dtype=np.int16)
    for width in (1, 2, 3, 4):
        audio, converter = at_format(x, RATE, width, 1), Pcm(RATE, width, 1, RATE)
        parts = [converter.process(audio[at : at + 101]) for at in range(0, len(audio), 101)]
        step = 2.0**-7 if width == 1 else 2.0**-15
        np.testing.assert_allclose(np.concatenate(parts), x / 32768, atol=step * (width == 1))
    for wrong in [(0, 2, 1), (16000, 5, 1), (16000, 2, 0), ("16000", 2, 1), (True, 2, 1), (1e4, 2, 1)]:
        with pytest.raises(KwsError):
            Pcm(*wrong, RATE)


def test_twenty_clients_in_real_time_each_on_its_own_stream(models):
    delays = []

    async def one(connect, number):
        word, name = ("y", "first.yes") if number % 2 else ("n", "first.no")
        samples = pcm(word)
        async with connect() as client:
            await client.write_event(Detect(names=[name]).event())
            begun = time.monotonic()
            for at in range(0, len(samples), 512):
                await asyncio.sleep(max(0, begun + (at + 512) / RATE - time.monotonic()))
                await client.write_event(AudioChunk(RATE, 2, 1, samples[at : at + 512].tobytes()).event())
            event = await client.read_event()
            assert Detection.from_event(event).name == name
            return begun

    async def timed(connect, number):
        begun = time.monotonic()
        await one(connect, number)
        delays.append(time.monotonic() - begun)

    @served(models)
    async def _(connect):
        await asyncio.gather(*(timed(connect, number) for number in range(20)))

    assert max(delays) < len(pcm("y")) / RATE + 5  # of a busy machine; scripts/bench_serve.py has the figures


GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x00\xff" * 4000 + b"\n",
    b"[1]\n",
    b"{}\n",
    b'"describe"\n',
    b'{"type": "detect", "data": {"names": [1, {}]}}\n',
    b'{"type": "detect", "data": [3]}\n',
    b'{"type": "audio-chunk", "data": {"rate": 16000}, "payload_length": 2}\nab',
    b'{"type": "audio-chunk", "data": {"rate": 0, "width": 2, "channels": 1}, "payload_length": 2}\nab',
    b'{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": 1}, "payload_length": 99999999999}\n',
    b'{"type": "audio-chunk", "data_length": "many"}\n',
    b"[" * 60000 + b"\n",
    b"x" * 200_000,
]


@pytest.mark.parametrize("raw", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_ends_its_own_connection_alone(raw, models):
    @served(models)
    async def _(connect):
        async with connect() as other:
            await other.write_event(AudioStart(RATE, 2, 1).event())
            reader, writer = await asyncio.open_connection("127.0.0.1", connect.port)
            writer.write(raw)
            with suppress(ConnectionResetError):  # what it had not read yet
                answer = await asyncio.wait_for(reader.read(), 5)  # it hangs up, after a word at most
                assert answer == b"" or json.loads(answer.splitlines()[0])["type"] == "error"
            writer.close()
            await play(other, pcm("y"), start=False)
            assert await names(other) == ["first.yes"]


def test_clients_that_vanish_halt_or_never_read_disturb_nobody(models, monkeypatch):
    monkeypatch.setattr("kws.apps.wake.handler.WRITE_SECONDS", 0.3)

    @served(models)
    async def _(connect):
        halves = [await asyncio.open_connection("127.0.0.1", connect.port) for _ in range(5)]
        for _, writer in halves:  # half an event, and then nothing
            writer.write(b'{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": 1}, "payload_len')
        vanishing = connect()
        await vanishing.connect()
        word = pcm("y")[:13000]  # gone in the middle of a word, the connection reset
        await vanishing.write_event(AudioChunk(RATE, 2, 1, word.tobytes()).event())
        vanishing._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        vanishing._writer.transport.abort()
        deaf = socket.create_connection(("127.0.0.1", connect.port))  # asks on and on, and never reads
        deaf.setblocking(False)
        with suppress(BlockingIOError):
            while deaf.send(b'{"type": "ping", "data": {"text": "%s"}}\n' % (b"x" * 50_000)):
                await asyncio.sleep(0)
        async with connect() as client:
            begun = time.monotonic()
            await play(client, pcm("yn"))
            assert await names(client) == ["first.yes", "first.no"]
            assert time.monotonic() - begun < 2
        for _ in range(100):
            if reset := deaf.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                break
            await asyncio.sleep(0.03)
        assert reset  # the deaf one was dropped
        deaf.close()
        for _, writer in halves:
            writer.close()


def test_an_event_too_large_is_refused_before_it_is_waited_for(models):
    ended = []

    @served(models)
    async def _(connect):
        with suppress(ConnectionResetError):  # it does not read the rest
            async with connect() as client:
                await client.write_event(AudioChunk(RATE, 2, 1, bytes(LARGEST_EVENT)).event())
                ended.append(await names(client))
                await client.write_event(AudioChunk(RATE, 2, 1, bytes(LARGEST_EVENT + 2)).event())
                assert Error.is_type((await client.read_event()).type)
                assert await client.read_event() is None

    assert ended == [[]]


def test_a_mistake_of_ours_costs_one_client_alone(models, monkeypatch, caplog):
    async def broken(self):
        raise ZeroDivisionError("ours")

    @served(models)
    async def _(connect):
        async with connect() as client, connect() as other:
            await names(other)
            monkeypatch.setattr(WakeHandler, "_stop", broken)
            await client.write_event(AudioStop().event())
            assert await client.read_event() is None
            await other.write_event(Event("of-another-service", {"x": 1}))
            assert await names(other) == []

    assert "ZeroDivisionError" in caplog.text


def test_what_is_heard_is_kept_with_the_second_before_it(models, tmp_path):
    kept = tmp_path / "kept"

    @served(models, save=kept)
    async def _(connect):
        async with connect() as client, connect() as other:
            await client.write_event(Detect(names=["yes"]).event())
            for each in (client, other):
                await play(each, pcm("nyn"))
                await names(each)

    assert sorted(path.parent.name for path in kept.rglob("*.wav")) == ["no", "no", "yes", "yes"]
    spotter, samples = StreamingSpotter(models / "first.onnx"), pcm("nyn")
    (yes,) = [each for each in spotter.feed(samples) if each.keyword == "yes"]
    end = round((yes.end + 0.2) * RATE)
    samples, end = np.pad(samples, (RATE, 0)), end + RATE  # silence before the stream began
    for path in (kept / "yes").iterdir():
        clip, rate = soundfile.read(path, dtype="int16")
        assert (rate, len(clip)) == (RATE, 2 * RATE)
        np.testing.assert_allclose(clip, samples[end - 2 * RATE : end], atol=1)
    from kws.words import negatives

    assert len(negatives.find([kept])) == 4  # kws new --negatives takes them


def test_a_word_of_several_models_is_heard_by_the_first(models):
    shutil.copy(models / "first.onnx", models / "second.onnx")
    catalogue = Catalogue(models)
    catalogue.refresh()
    assert [*catalogue.select(None)[0]] == ["first.yes", "first.no"]
    assert catalogue.select(["yes", "second.yes"])[0]["yes"].loaded.name == "first"
    with pytest.raises(KwsError, match="is not a folder"):
        Catalogue(models / "none").refresh()


def test_the_shipped_models_are_served_by_default():
    catalogue = Catalogue()
    catalogue.refresh()
    assert next(iter(catalogue.words)) == "gsc12.yes"
    assert len(catalogue.words) == 40
    model = Service(catalogue).info().wake[0].models[0]
    assert (model.languages, model.phrase, model.description) == (["en"], "yes", "yes (gsc12)")


def test_the_command_stops_on_sigterm_and_answers_a_check(models, tmp_path, capsys):
    uri = f"tcp://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "kws.cli", "serve", "--uri", uri, "--models", str(models)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as process:
        for line in process.stderr:
            if "hears" in line:
                break
        assert cli.main(["serve", "--uri", uri, "--check"]) == 0
        assert capsys.readouterr().out == f"{uri} hears first.yes, first.no\n"
        with socket.create_connection(("127.0.0.1", int(uri.rpartition(":")[2])), 5) as client:
            client.sendall(b'{"type": "ping"}\n')
            assert client.recv(10)
            process.send_signal(signal.SIGTERM)
            while client.recv(1000):
                pass
        rest = process.stderr.read()
        assert process.wait(10) == 0
        assert "Traceback" not in rest
    assert cli.main(["serve", "--uri", uri, "--check"]) == 1
    assert "does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("uri", ["stdio://", "tcp://x", "http://x:1", "tcp://x:99999", "unix://"])
def test_an_address_that_is_none(uri, capsys):
    assert cli.main(["serve", "--uri", uri]) == 1
    assert "neither tcp://HOST:PORT nor unix://PATH" in capsys.readouterr().err


def test_a_port_that_is_taken(models, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        uri = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        assert cli.main(["serve", "--uri", uri, "--models", str(models)]) == 1
    assert f"error: {uri} cannot be served" in capsys.readouterr().err


def test_home_assistant_finds_it_by_zeroconf(models):
    zeroconf = pytest.importorskip("zeroconf")
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

    async def main():
        port, stopped = free_port(), asyncio.Event()
        catalogue = Catalogue(models)
        catalogue.refresh()
        service = asyncio.create_task(serve(f"tcp://127.0.0.1:{port}", catalogue, None, "kws-test", stopped))
        await until_open(f"tcp://127.0.0.1:{port}")
        try:
            finder = AsyncZeroconf()
        except OSError as error:
            pytest.skip(f"no multicast here: {error}")
        found = AsyncServiceInfo("_wyoming._tcp.local.", "kws-test._wyoming._tcp.local.")
        seen = await found.async_request(finder.zeroconf, 4000)
        await finder.async_close()
        stopped.set()
        try:
            await service
        except OSError as error:
            pytest.skip(f"no multicast here: {error}")
        assert seen
        assert (found.port, found.parsed_addresses()) == (port, ["127.0.0.1"])

    assert zeroconf.__version__
    asyncio.run(main())
