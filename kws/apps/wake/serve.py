"""`kws serve`: a Wyoming wake-word service, for Home Assistant, satellites and whoever speaks the protocol."""

from __future__ import annotations

import argparse
import asyncio
import functools
import logging
import signal
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlparse

from wyoming.client import AsyncClient
from wyoming.info import Describe, Info
from wyoming.server import AsyncServer

from kws.apps.wake.catalogue import LOG, Catalogue
from kws.apps.wake.handler import Service, WakeHandler
from kws.errors import KwsError
from kws.runtime.shipped import FOLDER

URI = "tcp://0.0.0.0:10400"
CHECK_SECONDS = 5.0
STOP_SECONDS = 5.0  # what a connection has to end in


async def serve(
    uri: str, catalogue: Catalogue, save: Path | None, zeroconf: str | None, stopped: asyncio.Event
) -> None:
    """Serve the words of `catalogue` until `stopped` is set; then every client is let go.

    uri: `tcp://HOST:PORT` or `unix://PATH`. save: a folder for what is heard, or None. zeroconf: the name by which
    Home Assistant finds the service, or None. Raises `KwsError` for another URI, `OSError` where it is taken.
    """
    service = Service(catalogue, save)
    server = _server(uri)
    try:
        await server.start(functools.partial(WakeHandler, service=service))
    except (OSError, OverflowError) as error:
        raise OSError(f"{uri} cannot be served ({error}); choose another with --uri") from error
    announced = None
    try:
        if zeroconf is not None:
            announced = await _announce(uri, zeroconf)
        kinds = len({word.loaded.name for word in catalogue.words.values()})
        LOG.info("%s hears %d words of %d models  (Ctrl-C ends it)", uri, len(catalogue.words), kinds)
        await stopped.wait()
    finally:
        if announced is not None:
            await announced.async_close()
        await server.stop()
        if service.connections:
            await asyncio.wait(service.connections, timeout=STOP_SECONDS)


def _server(uri: str) -> AsyncServer:
    _checked(uri)
    return AsyncServer.from_uri(uri)


def _checked(uri: str) -> None:
    parts = urlparse(uri)
    try:
        good = (parts.scheme == "tcp" and parts.hostname and parts.port) or (parts.scheme == "unix" and parts.path)
    except ValueError:  # a port beyond 65535
        good = False
    if not good:
        raise KwsError(f"--uri {uri} is neither tcp://HOST:PORT nor unix://PATH, for example {URI}")


async def _announce(uri: str, name: str):  # type: ignore[no-untyped-def]
    """Tell the network where the service is; what is returned has `async_close`."""
    try:
        from wyoming.zeroconf import HomeAssistantZeroconf
    except ImportError as error:
        raise KwsError("--zeroconf needs the package zeroconf; pip install 'kws[serve]'") from error
    parts = urlparse(uri)
    if parts.scheme != "tcp":
        raise KwsError(
            f"--zeroconf tells the network of a service, and {uri} is none of it; give --uri tcp://HOST:PORT"
        )
    host = None if parts.hostname in ("0.0.0.0", "::") else parts.hostname
    try:
        announced = HomeAssistantZeroconf(port=parts.port or 0, name=name or None, host=host)
        await announced.register_server()
    except OSError as error:
        raise OSError(f"--zeroconf finds no network to tell of the service ({error}); leave it out") from error
    return announced._aiozc


async def check(uri: str) -> str:
    """One line on the service at `uri`. Raises `KwsError` where none answers."""
    _checked(uri)
    try:
        async with AsyncClient.from_uri(uri, connect_timeout=CHECK_SECONDS, read_timeout=CHECK_SECONDS) as client:
            await client.write_event(Describe().event())
            event = await client.read_event()
    except (OSError, asyncio.TimeoutError) as error:
        raise KwsError(f"{uri} does not answer ({error or 'timeout'}); start it with kws serve") from error
    if event is None or not Info.is_type(event.type):
        raise KwsError(f"{uri} is no Wyoming service; name that of kws serve")
    models = [model.name for program in Info.from_event(event).wake for model in program.models]
    return f"{uri} hears {', '.join(models)}"


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    epilog = "The protocol has neither passwords nor encryption: serve it to a network that you trust. Ctrl-C ends it."
    parser = argparse.ArgumentParser(prog="kws serve", description=__doc__, epilog=epilog)
    add = parser.add_argument
    add("--uri", default=URI, help=f"tcp://HOST:PORT or unix://PATH (default: {URI})")
    found = "models (*.onnx) to serve, looked for again whenever a client asks (default: those that come with kws)"
    add("--models", default=FOLDER, metavar="DIR", type=Path, help=found)
    add("--fa-per-hour", type=float, metavar="X", help="operating point of the models (default: each model's choice)")
    add(
        "--save", metavar="DIR", type=Path, help="keep what is heard, and the second before it, for kws new --negatives"
    )
    add("--zeroconf", nargs="?", const="", metavar="NAME", help="let Home Assistant find the service by itself")
    add("--check", action="store_true", help="ask the service at --uri what it hears, and end")
    return parser.parse_args(given)


async def _until_stopped(options: argparse.Namespace, catalogue: Catalogue) -> None:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stopped.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopped.set))
    await serve(options.uri, catalogue, options.save, options.zeroconf, stopped)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `kws serve`: the exit status."""
    options = _arguments(arguments)
    if options.check:
        print(asyncio.run(check(options.uri)))
        return 0
    logging.basicConfig(format="%(message)s")
    LOG.setLevel(logging.INFO)
    _checked(options.uri)
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
    catalogue = Catalogue(options.models, options.fa_per_hour)
    catalogue.refresh()
    if not catalogue.words:
        LOG.warning("%s holds no model yet; those put there are found", options.models)
    asyncio.run(_until_stopped(options, catalogue))
    return 0
