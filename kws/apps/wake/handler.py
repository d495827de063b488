"""One connection: Wyoming events in, detections out. Whatever a client sends, the others notice nothing of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_read_event
from wyoming.info import Attribution, Describe, Info, WakeModel, WakeProgram
from wyoming.ping import Ping, Pong
from wyoming.server import AsyncEventHandler
from wyoming.wake import Detect, Detection, NotDetected

from kws import __version__
from kws.apps.wake.catalogue import LOG, Catalogue, Word
from kws.apps.wake.stream import Heard, WakeStream
from kws.errors import KwsError

LARGEST_EVENT = 1 << 22  # bytes: 20 s of 48 kHz stereo
MOST_CONNECTIONS = 1000
WRITE_SECONDS = 10.0  # a client that takes nothing for so long is dropped
# A peer that is gone without a word is noticed after about two minutes.
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
MAKER = Attribution(name="kws", url="")
PROGRAM = "kws"

Parsed = TypeVar("Parsed")


class Service:
    """What all connections share: the words, where detections are kept, and who is connected."""

    def __init__(self, catalogue: Catalogue, save: Path | None = None) -> None:
        """`catalogue`: refreshed once at least."""
        self.catalogue, self.save = catalogue, save
        self.connections: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    async def refresh(self) -> None:
        """Look at the folder of models; one that is loaded keeps no stream waiting."""
        async with self._lock:
            try:
                await asyncio.to_thread(self.catalogue.refresh)
            except KwsError as error:  # the folder has gone: what is known goes on
                LOG.warning("%s", error)

    def info(self) -> Info:
        """What `describe` is answered with: one program (Home Assistant reads the first alone), a model for a word."""
        models = [_described(word) for word in self.catalogue.words.values()]
        about = "Keyword spotting that people can train, trust and ship"
        program = WakeProgram(PROGRAM, MAKER, installed=True, description=about, version=__version__, models=models)
        return Info(wake=[program])


def _described(word: Word) -> WakeModel:
    language = word.loaded.language
    return WakeModel(
        name=word.name,
        attribution=MAKER,
        installed=True,
        description=word.keyword if word.name == word.keyword else f"{word.keyword} ({word.loaded.name})",
        version=str(word.loaded.model.metadata.get("kws_version") or __version__),
        languages=[language] if language else [],
        phrase=word.keyword,
    )


class _Bounded:
    """A reader that refuses an event larger than `LARGEST_EVENT` before it waits for it."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.readline, self.feed_eof, self._reader = reader.readline, reader.feed_eof, reader

    async def readexactly(self, n: int) -> bytes:
        if n > LARGEST_EVENT:
            raise KwsError(f"an event of {n} bytes; there may be {LARGEST_EVENT}")
        return await self._reader.readexactly(n)


class WakeHandler(AsyncEventHandler):
    """The conversation with one client.

    `detect` chooses words for every stream that follows, until the next `detect`; without one, all words are heard. A
    running stream begins anew with it. A stream is begun by `audio-start`, or by a chunk where none is running.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, service: Service) -> None:
        """A connection that has just been made."""
        super().__init__(reader, writer)
        self._bounded, self._service = _Bounded(reader), service
        self._names: list[str] | None = None
        self._stream: WakeStream | None = None
        self._peer = str((writer.get_extra_info("peername") or ("local",))[0])
        _keep_alive(writer.get_extra_info("socket"))

    async def run(self) -> None:
        """Answer events until the client goes, or sends what is none."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._service.connections) >= MOST_CONNECTIONS:
            LOG.warning("%s is dropped: there are %d clients already", self._peer, MOST_CONNECTIONS)
            self.writer.close()
            return
        self._service.connections.add(task)
        try:
            while (event := await self._read()) is not None and await self.handle_event(event):
                pass
        except KwsError as error:
            LOG.warning("%s is dropped: it sent %s", self._peer, error)
            with suppress(OSError, asyncio.TimeoutError):
                await self._tell(Error(str(error)))
        except asyncio.TimeoutError:
            LOG.warning("%s is dropped: it takes no answers", self._peer)
            self.writer.transport.abort()  # close would wait until it takes them
        except OSError as error:
            LOG.info("%s has gone (%s)", self._peer, error)
        except Exception:  # a mistake of ours, which the other clients do not suffer from
            LOG.exception("%s is dropped", self._peer)
        finally:
            self._service.connections.discard(task)
            if self._stream:
                self._stream.close()
            self.writer.close()

    async def _read(self) -> Event | None:
        try:
            return await async_read_event(self._bounded)  # type: ignore[arg-type]
        except asyncio.IncompleteReadError:  # the client went within an event
            return None
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise KwsError(f"what is no event ({type(error).__name__})") from error

    async def handle_event(self, event: Event) -> bool:
        """Answer one event; those of other services are passed over, as the protocol asks. Raises `KwsError`."""
        kind = event.type
        if AudioChunk.is_type(kind):
            await self._listen(_parsed(AudioChunk.from_event, event))
        elif AudioStart.is_type(kind):
            await self._begin()
        elif AudioStop.is_type(kind):
            await self._stop()
        elif Detect.is_type(kind):
            await self._choose(_parsed(Detect.from_event, event).names)
        elif Describe.is_type(kind):
            await self._service.refresh()
            await self._tell(self._service.info())
        elif Ping.is_type(kind):
            await self._tell(Pong(_parsed(Ping.from_event, event).text))
        return True

    async def _choose(self, names: Sequence[str] | None) -> None:
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise KwsError(f"detect with names {str(names)[:100]}, which is no list of names")
        self._names = names or None
        await self._service.refresh()
        _, unknown = self._service.catalogue.select(self._names)
        if unknown:
            known = ", ".join(self._service.catalogue.words)
            told = f"no model has the word {', '.join(unknown)}; the words are {known}"
            LOG.warning("%s: %s", self._peer, told)
            await self._tell(Error(told, "unknown-name"))
        if self._stream:
            await self._begin()

    async def _begin(self) -> WakeStream:
        if self._stream:
            self._stream.close()
        await self._service.refresh()
        words, _ = self._service.catalogue.select(self._names)
        self._stream = WakeStream(words, self._service.save)
        return self._stream

    async def _listen(self, chunk: AudioChunk) -> None:
        stream = self._stream or await self._begin()
        for heard in stream.feed(chunk):
            at = chunk.timestamp if chunk.timestamp is not None else round(1000 * heard.detection.time)
            await self._report(heard, at)

    async def _stop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        for heard in stream.stop():
            await self._report(heard, round(1000 * heard.detection.time))
        if not stream.heard_any:
            await self._tell(NotDetected())

    async def _report(self, heard: Heard, timestamp: int) -> None:
        LOG.info("%s: %s %.2f", self._peer, heard.name, heard.detection.score)
        await self._tell(Detection(name=heard.name, timestamp=timestamp))

    async def _tell(self, answer: Eventable) -> None:
        await asyncio.wait_for(self.write_event(answer.event()), WRITE_SECONDS)


def _parsed(parse: Callable[[Event], Parsed], event: Event) -> Parsed:
    """An event of a known type. Raises `KwsError` where it lacks what its type has."""
    try:
        return parse(event)
    except (KeyError, TypeError, AttributeError) as error:
        raise KwsError(f"{event.type} without what belongs to it ({error})") from error


def _keep_alive(sock: socket.socket | None) -> None:
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # not everywhere
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
