"""The server: the application on a socket, until it is told to stop."""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import socket
from collections.abc import Callable, Collection, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ebbtide.api.live.feed import Feed
from ebbtide.errors import ConfigError, UsageError
from ebbtide.jobs import Poster
from ebbtide.wording import one_line

__all__ = ["Server", "bound", "configured", "hosts_of", "is_loopback", "require_tokens", "serve"]

# For how long answers that are under way are waited for, once it is told to stop.
_FINISH_SECONDS = 1
# No name of these leads a browser to somebody else's page.
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


def serve(app: FastAPI, listener: socket.socket, on_ready: Callable[[], None] = lambda: None) -> None:
    """Serve on a socket that listens, until SIGTERM or SIGINT. Streams end at once, answers are finished."""
    with _own_signals():
        Server(configured(app), app.state.feed, on_ready).run(sockets=[listener])


def configured(app: FastAPI) -> uvicorn.Config:
    """How uvicorn is to serve the application."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_FINISH_SECONDS,
        timeout_keep_alive=15,
        h11_max_incomplete_event_size=32 * 1024,
        ws_max_size=64 * 1024,
    )


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises ConfigError when there is no such place, or it is taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"host {one_line(host, 80)} cannot be used: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"port {port} of {one_line(host, 80)} cannot be used: {error.strerror}; name another with --port"
        ) from error
    listener.set_inheritable(False)
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether programs of this machine alone can reach it."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def hosts_of(listener: socket.socket, allowed: Collection[str]) -> frozenset[str] | None:
    """The names by which the server on that socket may be asked for; None: any."""
    if not allowed and not is_loopback(listener):
        return None
    host = listener.getsockname()[0]
    own = {f"[{host}]" if ":" in host else host} if is_loopback(listener) else set()
    return _LOOPBACK | own | {name.lower() for name in allowed}


def require_tokens(listener: socket.socket, poster: Poster) -> None:
    """UsageError where others could reach a server that nobody can have a token for yet."""
    if not is_loopback(listener) and not poster.credentials.tokens():
        host = listener.getsockname()[0]
        raise UsageError(
            f"nobody has a token, and {host} can be reached from other machines: make one first with "
            "`ebbtide token create NAME --role admin`"
        )


class Server(uvicorn.Server):
    """Tells when it is ready, and ends its streams before it waits for answers."""

    def __init__(self, config: uvicorn.Config, feed: Feed, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._feed = feed
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._feed.close()
        await super().shutdown(sockets)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Uvicorn raises the signal that stopped it once more: to have been told to stop is no bad end here."""

    def ignore(number: int, frame: FrameType | None) -> None:
        """It has done its work."""

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, ignore) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
