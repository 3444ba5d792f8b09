"""Client: the requests of one task."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.http.errors import ExtraMissing, RequestFailed
from ebbtide.tasks.http.patience import retry_after
from ebbtide.tasks.http.urls import SCHEMES, origin, shown_url
from ebbtide.wording import one_line

if TYPE_CHECKING:
    import httpx

__all__ = ["Client", "require_httpx"]

# Below the grace of a task that nobody has given another: a connect cannot be ended from outside.
_LONGEST_CONNECT: Final = 5.0
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LONGEST_ERROR = 2000


def require_httpx() -> None:
    """Raises `ExtraMissing` where httpx is not installed: before anything is made that would be undone."""
    try:
        import httpx  # noqa: F401
    except ImportError:
        raise ExtraMissing from None


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Whom to believe: read once in each process, since that takes longer than many a request."""
    import httpx

    return httpx.create_ssl_context()


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
            verify=_certificates(),
            timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, _LONGEST_CONNECT)),
            # One connection: what a cancel has to end is never more than that.
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            headers={"User-Agent": "ebbtide", "Accept": "*/*"},
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
    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> Iterator[httpx.Response]:
        """The answer to a request, its body not read yet; redirects are followed.

        Within the block too, what httpx raises becomes what is said here.

        Raises:
            Cancelled: a cancel was requested meanwhile.
            RequestFailed: there was no answer, or it broke off, or it is an error (4xx, 5xx).
        """
        import httpx

        self._task.checkpoint()
        try:
            response = self._answer(method, url, dict(headers or {}), json)
            try:
                _refuse_error(response, url)
                yield response
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict) as error:
            # The cut of a cancel arrives as a broken connection.
            self._task.checkpoint()
            raise _failed(url, error) from error

    def _answer(self, method: str, url: str, headers: dict[str, str], json: Any) -> httpx.Response:
        first = urlsplit(url)
        for _ in range(self._redirects + 1):
            sent = dict(headers)
            if self._token is not None and origin(urlsplit(url)) == origin(first):
                sent["Authorization"] = f"Bearer {self._token}"
            request = self._client.build_request(
                method, url, headers=sent, json=json, extensions={"trace": self._sockets.trace}
            )
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


def _refuse_error(response: httpx.Response, url: str) -> None:
    status = response.status_code
    if status < 400 or status == 416:
        return
    passing = status in _PASSING
    words = f"answered {status} {response.reason_phrase}".rstrip()
    told = "" if passing else _told(response)
    advice = "try again later" if passing else "mend the address or the token, then retry"
    asked = retry_after(response.headers.get("retry-after"))
    raise RequestFailed(shown_url(url), words + told, advice, passing=passing, retry_after=asked)


def _told(response: httpx.Response) -> str:
    """The first words of an error's body, where it is text."""
    if not response.headers.get("content-type", "").startswith(("text/plain", "application/json")):
        return ""
    body = b""
    for piece in response.iter_bytes(_LONGEST_ERROR):
        body = piece
        break
    text = one_line(body.decode("utf-8", "replace"), 160)
    return f" ({text})" if text else ""


def _failed(url: str, error: Exception) -> RequestFailed:
    import httpx

    shown = shown_url(url)
    if isinstance(error, httpx.ConnectTimeout):
        problem = "could not be reached in time"
    elif isinstance(error, httpx.TimeoutException):
        problem = "was silent for too long"
    elif isinstance(error, httpx.ConnectError):
        problem = f"could not be reached, {error}"
    elif isinstance(error, httpx.TransportError):
        problem = f"broke off, {error}"
    else:
        return RequestFailed(shown, f"cannot be asked, {error}", "mend the address, then retry")
    return RequestFailed(shown, problem, "try again later", passing=True)
