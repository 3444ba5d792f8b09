"""A web server on the loopback that does as a test says: breaks off, is silent, lies, asks for patience."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

OLD = formatdate(1_700_000_000, usegmt=True)


@dataclass(frozen=True)
class Request:
    """What somebody has asked for."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Page:
    """What a site has at one address.

    Attributes:
        validators: whether it tells an ETag and a time, which also make it heed `If-Range`.
        chunked: it does not say how long the content is.
        ranges: whether it gives parts.
    """

    content: bytes
    etag: str | None = '"1"'
    modified: str | None = OLD
    content_type: str = "application/octet-stream"
    chunked: bool = False
    ranges: bool = True
    headers: dict[str, str] = field(default_factory=dict)


#: What happens in place of the usual answer, or to it.
Fault = Callable[["Answering", Page], None]


class Site:
    """The server: pages by path, and for each path the faults of its next answers, one for each."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.requests: list[Request] = []
        self.stalled = threading.Event()  # somebody waits for an answer that does not come
        self.go_on = threading.Event()  # set at the end at the latest: nobody stalls for ever
        self.lock = threading.Lock()
        self.url = ""

    def page(self, path: str, content: bytes, **options: Any) -> str:
        self.pages[path] = Page(content, **options)
        return self.url + path

    def next(self, path: str, *faults: Fault) -> None:
        """The next answers at `path` are these, before it answers as usual again."""
        self.faults.setdefault(path, []).extend(faults)

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]


class Answering(BaseHTTPRequestHandler):
    """One request. `site` is set on a subclass."""

    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        self._do()

    def do_POST(self) -> None:
        self._do()

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.site.lock:
            self.site.requests.append(Request(self.command, self.path, headers, body))
            faults = self.site.faults.get(self.path, [])
            fault = faults.pop(0) if faults else None
            page = self.site.pages.get(self.path)
        if page is None and fault is None:
            self.answer(404, b"no such page\n", {"Content-Type": "text/plain"})
            return
        page = page or Page(b"")
        with contextlib.suppress(ConnectionError):
            (fault or usual)(self, page)

    def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.head(status, {"Content-Length": str(len(content)), **headers})
        self.wfile.write(content)

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def cut(self) -> None:
        """Close the connection without another word."""
        self.wfile.flush()
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        self.wfile.flush()
        self.site.stalled.set()
        self.site.go_on.wait()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _head(page: Page) -> dict[str, str]:
    headers = {"Content-Type": page.content_type, **page.headers}
    if page.etag is not None:
        headers["ETag"] = page.etag
    if page.modified is not None:
        headers["Last-Modified"] = page.modified
    return headers


def _part(answering: Answering, page: Page) -> tuple[int, bytes, dict[str, str]]:
    """Status, content and headers of an honest answer, `Range` and `If-Range` heeded."""
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", answering.headers.get("range", ""))
    same = answering.headers.get("if-range") in (None, page.etag, page.modified)
    if wanted is None or not page.ranges or not same:
        return 200, page.content, _head(page)
    first, size = int(wanted[1]), len(page.content)
    if first >= size:
        return 416, b"", {"Content-Range": f"bytes */{size}"}
    last = min(int(wanted[2] or size - 1), size - 1)
    return (
        206,
        page.content[first : last + 1],
        {"Content-Range": f"bytes {first}-{last}/{size}", **_head(page)},
    )


def usual(answering: Answering, page: Page) -> None:
    status, content, headers = _part(answering, page)
    if not page.chunked:
        answering.answer(status, content, headers)
        return
    answering.head(status, {"Transfer-Encoding": "chunked", **headers})
    for start in range(0, len(content), 1000):
        piece = content[start : start + 1000]
        answering.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    answering.wfile.write(b"0\r\n\r\n")


def breaks_after(count: int) -> Fault:
    """It sends so many bytes of the content and closes the connection."""
    return _sends(count, Answering.cut)


def stalls_after(count: int) -> Fault:
    """It sends so many bytes of the content, and then nothing; the connection stays."""
    return _sends(count, Answering.stall)


def _sends(count: int, then: Callable[[Answering], None]) -> Fault:
    def fault(answering: Answering, page: Page) -> None:
        status, content, headers = _part(answering, page)
        answering.head(status, {"Content-Length": str(len(content)), **headers})
        answering.wfile.write(content[:count])
        then(answering)

    return fault


def stalls(answering: Answering, page: Page) -> None:
    """It takes the request and says nothing."""
    answering.stall()


def says(status: int, body: bytes = b"", **headers: str) -> Fault:
    """It answers with this status."""

    def fault(answering: Answering, page: Page) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answering.answer(status, body, {"Content-Type": "text/plain", **named})

    return fault


def with_page(page: Page, then: Fault = usual) -> Fault:
    """From now on there is another page; then it answers in that way."""

    def fault(answering: Answering, before: Page) -> None:
        answering.site.pages[answering.path] = page
        then(answering, page)

    return fault


def without_length(answering: Answering, page: Page) -> None:
    """It sends the content and closes the connection, by which alone its end is to be known."""
    answering.head(200, {"Connection": "close", **_head(page)})
    answering.wfile.write(page.content)
    answering.cut()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def hang_up(self) -> None:
        """End every connection: one that a test has killed keeps its own open for ever."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the other side has gone: so a test wants it


@pytest.fixture
def site() -> Iterator[Site]:
    """A site without pages."""
    new = Site()
    handler = type("Handler", (Answering,), {"site": new})
    server = _Server(("127.0.0.1", 0), handler)
    new.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield new
    finally:
        new.go_on.set()
        server.shutdown()
        thread.join()
        server.hang_up()
        server.server_close()
