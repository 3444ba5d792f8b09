"""Client: the requests of one task."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.http.answers import (
    LONGEST_WORDS,
    failed,
    httpx_errors,
    refuse_error,
    require_httpx,
    settings,
    wants_words,
)
from ebbtide.tasks.http.errors import RequestFailed
from ebbtide.tasks.http.urls import SCHEMES, origin, shown_url

if TYPE_CHECKING:
    import httpx

__all__ = ["Client"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Client:
    """Makes the requests of one task, one at a time. Use it with `with`, in the task's own thread.

    Every wait has a limit, and a cancel request ends it at once; but for the opening of a connection, which
    takes at most 5 s, and the look-up of a name, for which the system's resolver has a limit. Redirects are
    followed by rules: only to http and https, never from https to http, and the token goes to no other
    server than the one that the address names. Proxies are those of the conductor's environment.

    Args:
        task: whose checkpoints these are.
        timeout_seconds: how long a server may be silent.
        redirects: how many are followed for one request.
        token: sent as ``Authorization: Bearer``.
    """

    def __init__(
        self, task: CancelableTask, *, timeout_seconds: float, redirects: int = 5, token: str | None = None
    ) -> None:
        require_httpx()
        import httpx

        self._task = task
        self._redirects = redirects
        self._token = token
        self._sockets = _Sockets(task)
        self._client = httpx.Client(
            **settings(timeout_seconds),
            # One connection: what a cancel has to end is never more than that.
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()
        self._sockets.close()

    def checkpoint(self) -> None:
        """That of the task: for whoever reads the answer in a loop."""
        self._task.checkpoint()

    @contextlib.contextmanager
    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """What is answered to a GET, its body not read yet; redirects are followed.

        Within the block too, what httpx raises becomes what is said here.

        Raises:
            Cancelled: a cancel was requested meanwhile.
            RequestFailed: there was no answer, or it broke off, or it is an error (4xx, 5xx).
        """
        self._task.checkpoint()
        try:
            response = self._answer(url, dict(headers or {}))
            try:
                if wants_words(response):
                    refuse_error(response, url, next(response.iter_bytes(LONGEST_WORDS), b""))
                refuse_error(response, url)
                yield response
            finally:
                response.close()
        except httpx_errors() as error:
            # The cut of a cancel arrives as a broken connection.
            self._task.checkpoint()
            raise failed(url, error) from error

    def _answer(self, url: str, headers: dict[str, str]) -> httpx.Response:
        first = urlsplit(url)
        for _ in range(self._redirects + 1):
            sent = dict(headers)
            if self._token is not None and origin(urlsplit(url)) == origin(first):
                sent["Authorization"] = f"Bearer {self._token}"
            traced = {"trace": self._sockets.trace}
            request = self._client.build_request("GET", url, headers=sent, extensions=traced)
            response = self._client.send(request, stream=True, follow_redirects=False)
            if response.status_code not in _REDIRECTS or "location" not in response.headers:
                return response
            response.close()
            url = _redirected(url, response.headers["location"])
        raise RequestFailed(
            shown_url(first.geturl()),
            f"redirects more than {self._redirects} times",
            "name the address that it leads to, or allow more redirects",
        )


class _Sockets:
    """The connections of one client; a cancel request shuts them, so that a read comes back at once."""

    def __init__(self, task: CancelableTask) -> None:
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._event = task.cancel
        self._event.add_callback(lambda event: self._shut())

    def trace(self, name: str, info: Mapping[str, Any]) -> None:
        """Called by httpx with what it does."""
        if name != "connection.connect_tcp.complete":
            return
        connected = info["return_value"].get_extra_info("socket")
        # Of our own: the other one is taken apart by TLS. What is shut is the connection of both.
        ours = socket.socket(fileno=os.dup(connected.fileno()))
        with self._lock:
            self._close()
            self._open.append(ours)
        # The request may have come between the two: then nobody else shuts this one.
        if self._event.requested:
            self._shut()

    def _shut(self) -> None:
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):  # the server was faster
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        for each in self._open:
            each.close()
        self._open.clear()


def _redirected(url: str, location: str) -> str:
    shown = shown_url(url)
    try:
        target = urljoin(url, location)
        before, after = urlsplit(url), urlsplit(target)
        usable = after.scheme in SCHEMES and bool(after.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise RequestFailed(shown, "redirects to what is no http or https address", "name another address")
    if before.scheme == "https" and after.scheme == "http":
        advice = "name the http address yourself if that is wanted"
        raise RequestFailed(shown, "redirects from https to http, which is not followed", advice)
    return target
