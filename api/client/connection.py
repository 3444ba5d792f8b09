"""The connection to an API server: requests, and problems turned back into the errors that they were."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

import httpx

from ebbtide import errors
from ebbtide.api.problems import KINDS, type_of
from ebbtide.errors import CommitUnknown, ConfigError, EbbtideError, NotAllowed, StoreUnavailable, UsageError
from ebbtide.wording import one_line

__all__ = ["Connection", "Event", "EventConnection", "error_of", "read_token"]

_ANSWER_SECONDS, _CONNECT_SECONDS = 30.0, 10.0
# Longer than the server is silent on a stream.
_SILENCE_SECONDS = 45.0
_BY_TYPE = {type_of(kind.name): (error, kind) for error, kind in KINDS.items()}


def read_token(path: str) -> str:
    """The token in a file that is its owner's alone. Raises UsageError."""
    try:
        with open(path, encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            token = file.read(1000).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"the token file {one_line(path)} cannot be read: {reason}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"others can read the token file {one_line(path)}: chmod 600 it")
    if not token or any(character.isspace() for character in token):
        raise UsageError(f"the token file {one_line(path)} should hold one token and nothing else")
    return token


def error_of(status: int, problem: dict[str, Any]) -> EbbtideError:
    """The error that a problem was made of; for one of the API itself, one of its family."""
    detail = str(problem.get("detail", f"the server answered {status}"))
    kind: type[EbbtideError]
    if problem.get("type") in _BY_TYPE:
        kind, told = _BY_TYPE[problem["type"]]
        if told.facts and all(name in problem for name in told.facts if name != "detail"):
            return kind(*(problem[name] if name != "detail" else detail for name in told.facts))
        return kind(detail)
    if status in (401, 403):
        return NotAllowed(detail)
    if status == 404:
        return errors.NotFound(detail)
    if status == 429 or status >= 500:
        return StoreUnavailable(detail)
    return UsageError(detail)


class Connection:
    """Speaks to one server. Safe to use from several threads.

    Args:
        server: its URL, such as http://127.0.0.1:8765.
        token: a bearer token.
        transport: how requests get there; default: the network.
    """

    def __init__(self, server: str, token: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._server = server
        self._client = httpx.Client(
            base_url=_checked(server), headers=_bearer(token), timeout=_timeout(), transport=transport
        )

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, **query: Any) -> Any:
        """The answer to a GET. Raises the error that the server met, or StoreUnavailable."""
        params = {name: value for name, value in query.items() if value is not None}
        try:
            response = self._client.get(path, params=params)
        except httpx.TransportError as error:
            raise _unreachable(self._server, error) from error
        return _answer(response)

    def change(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The answer to what changes something. Raises as `get`, and CommitUnknown."""
        try:
            response = self._client.request(method, path, json=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _unreachable(self._server, error) from error
        except httpx.TransportError as error:
            raise CommitUnknown(f"server {self._server}: {error or type(error).__name__}") from error
        return _answer(response)

    def events(self, path: str, *, silence_seconds: float | None = None, **query: Any) -> Iterator[Event]:
        """The events of a stream, until it ends. Raises as `get`; TimeoutError after such a silence."""
        parser = _Parser()
        try:
            with self._client.stream(
                "GET", path, params=query, timeout=_timeout(silence_seconds)
            ) as response:
                if response.status_code != 200:
                    response.read()
                    _answer(response)
                for line in response.iter_lines():
                    if (event := parser.take(line)) is not None:
                        yield event
        except httpx.TransportError as error:
            raise _broken(self._server, error) from error


class EventConnection:
    """As `Connection`, for the streams of one event loop, of which it may have any number open."""

    def __init__(self, server: str, token: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._server = server
        self._client = httpx.AsyncClient(
            base_url=_checked(server),
            headers=_bearer(token),
            transport=transport,
            limits=httpx.Limits(max_connections=None),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def events(
        self, path: str, *, silence_seconds: float | None = None, **query: Any
    ) -> AsyncGenerator[Event, None]:
        """As `Connection.events`."""
        parser = _Parser()
        times = _timeout(silence_seconds)
        try:
            async with self._client.stream("GET", path, params=query, timeout=times) as response:
                if response.status_code != 200:
                    await response.aread()
                    _answer(response)
                async for line in response.aiter_lines():
                    if (event := parser.take(line)) is not None:
                        yield event
        except httpx.TransportError as error:
            raise _broken(self._server, error) from error


Event = tuple[str, Any]
"""The name of an event, and its data."""


def _answer(response: httpx.Response) -> Any:
    if response.status_code == 204:
        return None
    try:
        value = response.json()
    except ValueError as error:
        detail = f"what answers there is no API of Ebbtide (status {response.status_code})"
        raise StoreUnavailable(detail) from error
    if response.is_success:
        return value
    raise error_of(response.status_code, value if isinstance(value, dict) else {})


class _Parser:
    """Of server-sent events, each of which has one line of data."""

    def __init__(self) -> None:
        self._name, self._data = "message", ""

    def take(self, line: str) -> Event | None:
        """The event that ends with this line, if one does."""
        if line.startswith("event:"):
            self._name = line[6:].strip()
        elif line.startswith("data:"):
            self._data = line[5:].strip()
        elif not line:
            name, data = self._name, self._data
            self._name, self._data = "message", ""
            return (name, json.loads(data)) if data else None
        return None


def _checked(server: str) -> httpx.URL:
    try:
        url = httpx.URL(server)
    except httpx.InvalidURL as error:
        raise ConfigError(f"the server {one_line(server, 80)} is no URL: {one_line(error)}") from error
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise ConfigError("the server should be a URL such as https://jobs.example.org, without a password")
    if url.path.rstrip("/").endswith("/api/v1"):
        raise ConfigError("the server should be named without /api/v1, as `ebbtide api` prints it")
    return url


def _bearer(token: str) -> dict[str, str]:
    """Redirects are not followed, as httpx has it: the token goes to this server alone."""
    return {"Authorization": f"Bearer {token}"}


def _timeout(silence_seconds: float | None = _ANSWER_SECONDS) -> httpx.Timeout:
    """How long an answer may take to begin and to go on; None: as long as a stream may be silent."""
    silence = min(_SILENCE_SECONDS, silence_seconds or _SILENCE_SECONDS)
    return httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS, read=silence)


def _broken(server: str, error: httpx.TransportError) -> Exception:
    if isinstance(error, httpx.ReadTimeout):
        return TimeoutError(f"server {server} was silent")
    return _unreachable(server, error)


def _unreachable(server: str, error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"server {server} cannot be reached: {error or type(error).__name__}")
