"""`kws web`: hear keywords in the browser. Serves the page on this machine, or writes it to a folder for any host."""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import shutil
import sys
import tempfile
import threading
import urllib.parse
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kws.c.block import make_block
from kws.c.build import wasm_library
from kws.c.weights import read_weights
from kws.errors import KwsError
from kws.runtime.shipped import DEFAULT, find_model
from kws.system.atomic import whole_files

PAGE = Path(__file__).resolve().parent / "web"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
}

Site = Mapping[str, Path]  # path below the root -> a file


def site(models: Sequence[Path], folder: Path) -> Site:
    """Every file of the page; the list of models is written to `folder`.

    Raises `ModelError` for a model that the page cannot run, `EngineError` where its engine was not built and cannot
    be, `KwsError` for two models of a name.
    """
    named: dict[str, Path] = {}
    for model in models:
        make_block(read_weights(model))
        if (name := f"models/{model.name}") in named:
            raise KwsError(f"two models are called {model.name}; rename one")
        named[name] = model
    listed = folder / "models.json"
    listed.write_text(json.dumps([urllib.parse.quote(name) for name in named]))
    return {
        **{path.name: path for path in sorted(PAGE.iterdir()) if path.suffix in TYPES},
        "kws.wasm": wasm_library(),
        **named,
        listed.name: listed,
    }


def write(files: Site, folder: Path) -> None:
    """Write a site to a folder, for any host of static files."""
    with whole_files(folder) as partial:
        for name, file in files.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, path)


MOST_CONNECTIONS = 64  # at once; further ones are closed
IDLE_SECONDS = 10  # that a client may take to ask, or to take what it asked for


class _Handler(http.server.SimpleHTTPRequestHandler):
    """The standard library's, for the files of a site and no others."""

    extensions_map = TYPES
    timeout = IDLE_SECONDS

    def __init__(self, *arguments: object, files: Site) -> None:
        self.files = files
        super().__init__(*arguments)  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        """The file of a request; of one that is not in the site, the name of none."""
        try:
            name = urllib.parse.unquote(urllib.parse.urlsplit(path).path).lstrip("/") or "index.html"
        except ValueError:  # http://[/x
            return ""
        return str(self.files.get(name, ""))

    def send_head(self) -> Any:
        """As the standard library's, but for an address that cannot be read."""
        if not self.translate_path(self.path):
            return self.send_error(http.HTTPStatus.NOT_FOUND)
        return super().send_head()

    def end_headers(self) -> None:
        """A browser asks whether a file has changed before it uses it again."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing of requests."""


class _Server(http.server.ThreadingHTTPServer):
    """The standard library's with so many threads and no more, to which a client that drops is no news."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, unless there are too many."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that ended."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def server(files: Site, port: int) -> http.server.ThreadingHTTPServer:
    """A server of `files` on the loopback address; port 0: any free one. Raises `OSError` if the port is taken."""
    try:
        return _Server(("127.0.0.1", port), functools.partial(_Handler, files=files))
    except (OSError, OverflowError) as error:
        raise OSError(f"port {port} cannot be served ({error}); choose another, or 0 for any: --port 0") from error


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kws web", description=__doc__, epilog="Ctrl-C ends it.")
    add = parser.add_argument
    text = f"a file, or the name of a shipped model, to choose from; repeatable (default: {DEFAULT})"
    add("--model", action="append", metavar="ONNX", help=text)
    add("--port", type=int, default=8465, help="on 127.0.0.1; 0: any free one (default: 8465)")
    add("--open", action="store_true", help="open the page in the browser")
    add("--export", metavar="DIR", help="write the page to DIR and end, instead of serving it")
    return parser.parse_args(given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `kws web`: the exit status."""
    options = _arguments(arguments)
    models = [find_model(model) for model in options.model or [DEFAULT]]
    with tempfile.TemporaryDirectory() as folder:
        files = site(models, Path(folder))
        if options.export:
            write(files, Path(options.export))
            print(f"{options.export} holds the page; any host of static files can serve it, over https")
            return 0
        with server(files, options.port) as running:
            url = f"http://127.0.0.1:{running.server_address[1]}/"
            print(f"{url}  (Ctrl-C ends it)", flush=True)
            if options.open:
                webbrowser.open(url)
            try:
                running.serve_forever()
            except KeyboardInterrupt:
                return 0
    return 0
