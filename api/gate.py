"""The gate: who asks, from where, how often, with what body. Nothing passes it that any of them forbids."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers as RequestHeaders
from starlette.responses import Response

from ebbtide.api.headers import App, Receive, Scope, Send
from ebbtide.api.intake import read_form, read_json
from ebbtide.api.limits import Bucket, Limits
from ebbtide.api.problems import ApiError, Problem, problem_of
from ebbtide.errors import StoreUnavailable
from ebbtide.jobs.credentials import Credential, Credentials, Kind, Role

__all__ = ["COOKIE", "CSRF_FIELD", "CSRF_HEADER", "Caller", "Gate", "csrf_token", "wait_for"]

COOKIE = "ebbtide_session"
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM = "application/x-www-form-urlencoded"
_PORT = re.compile(r":\d*$")
_CHALLENGE = 'Bearer realm="ebbtide"'


@dataclass(frozen=True)
class Caller:
    """Who asks. `session` is the secret of the cookie that says so; None: it was a bearer token."""

    name: str
    role: Role
    jobs_of: str | None
    credential: str
    session: str | None = None

    @classmethod
    def of(cls, held: Credential, session: str | None = None) -> Caller:
        role = Role(held.role)
        jobs_of = None if role is Role.ADMIN else held.jobs_of
        return cls(held.name, role, jobs_of, held.id, session)


def csrf_token(session: str) -> str:
    """What a form of ours has to bring along: known to those alone who were given the session's pages."""
    return hashlib.sha256(f"csrf:{session}".encode()).hexdigest()


class Gate:
    """ASGI middleware around the application.

    What it finds is in the request's state: `caller` (None: nobody, which only pages and probes allow) and
    `form`, the fields of a form.
    """

    def __init__(
        self,
        app: App,
        *,
        credentials: Credentials,
        limits: Limits,
        wrong_tokens: Bucket,
        hosts: frozenset[str] | None,
        answer_of: Callable[[Scope, Problem], Response],
    ) -> None:
        self._app = app
        self._answer_of = answer_of
        self._credentials = credentials
        self._limits = limits
        self._requests = Bucket(limits.requests)
        self._cancels = Bucket(limits.cancels)
        self._wrong_tokens = wrong_tokens
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            receive = await self._passed(scope, receive)
        except ApiError as error:
            await self._refuse(error.problem, scope, receive, send)
        except StoreUnavailable as error:
            await self._refuse(problem_of(error), scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _refuse(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            code, reason = 4000 + problem.status, problem.detail[:100]
            await send({"type": "websocket.close", "code": code, "reason": reason})
            return
        await self._answer_of(scope, problem)(scope, receive, send)

    async def _passed(self, scope: Scope, receive: Receive) -> Receive:
        headers = RequestHeaders(scope=scope)
        path = scope["path"]
        state = scope.setdefault("state", {})
        method = scope.get("method", "GET")
        if self._hosts is not None:
            _check_host(headers, self._hosts)
        caller = await self._caller(scope, headers)
        if caller is None and _is_closed(path):
            raise _unauthenticated("a bearer token is wanted", None)
        _check_origin(scope, headers, method, caller)
        if caller is not None:
            bucket = self._cancels if method == "POST" and path.endswith("/cancel") else self._requests
            wait_for(bucket.take(caller.credential))
        state["caller"], state["form"] = caller, {}
        if scope["type"] == "websocket" or method in _SAFE:
            return receive
        body = await _read_body(headers, receive, self._limits.body_bytes)
        self._read(scope, headers, body, caller)
        return _replayed(body, receive)

    async def _caller(self, scope: Scope, headers: RequestHeaders) -> Caller | None:
        """Raises ApiError 401 for a token that is no longer, or never was, one."""
        given = headers.getlist("authorization")
        if given:
            host = (scope.get("client") or ("",))[0]
            # Looked at first: whoever guesses is not even looked up any more.
            wait_for(self._wrong_tokens.is_empty(host))
            scheme, _, secret = given[0].partition(" ")
            if len(given) > 1 or scheme.lower() != "bearer" or not secret.strip():
                raise _unauthenticated("the header Authorization should be: Bearer TOKEN", "invalid_request")
            held = await run_in_threadpool(self._credentials.holder, secret.strip(), Kind.TOKEN)
            if held is None:
                self._wrong_tokens.take(host)
                raise _unauthenticated("the token is unknown, has expired or was revoked", "invalid_token")
            return Caller.of(held)
        session = _cookie(headers)
        if session is None:
            return None
        held = await run_in_threadpool(self._credentials.holder, session, Kind.SESSION)
        return None if held is None else Caller.of(held, session)

    def _read(self, scope: Scope, headers: RequestHeaders, body: bytes, caller: Caller | None) -> None:
        """Refuse a body that is no good, and a request that a page of ours did not make."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        is_page = not _is_closed(scope["path"])
        if body and is_page and kind == _FORM:
            scope["state"]["form"] = read_form(body)
        elif body and kind != "application/json":
            wanted = f"application/json or {_FORM}" if is_page else "application/json"
            raise ApiError(415, "unsupported-media-type", "Not JSON", f"the body should be {wanted}")
        elif body:
            read_json(body)
        if caller is not None and caller.session is not None:
            brought = headers.get(CSRF_HEADER) or scope["state"]["form"].get(CSRF_FIELD, "")
            if not hmac.compare_digest(brought.encode(), csrf_token(caller.session).encode()):
                raise _forged("the CSRF token is missing or wrong: load the page again")


def _is_closed(path: str) -> bool:
    """Whether nobody without a credential gets an answer there."""
    return path.startswith("/api/") or path == "/metrics"


def _check_host(headers: RequestHeaders, hosts: frozenset[str]) -> None:
    """A name that somebody else has made to lead here would make his pages ours, for a browser."""
    given = [_PORT.sub("", host).lower() for host in headers.getlist("host")]
    if len(given) != 1 or given[0] not in hosts:
        raise ApiError(
            400,
            "unknown-host",
            "Not asked by its name",
            "the server is asked by a name that is none of its own: see its option allowed_hosts",
        )


def _check_origin(scope: Scope, headers: RequestHeaders, method: str, caller: Caller | None) -> None:
    """A browser says from where a request comes: from our pages, where it changes something or is live."""
    if (method in _SAFE and scope["type"] == "http") or (caller is not None and caller.session is None):
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in ("same-origin", "none"):
        raise _forged("the request comes from another site")
    if origin is None and site is None and caller is not None:
        raise _forged("a browser's request says from where it comes; a program brings a bearer token")
    if origin is not None and origin.partition("://")[2] != headers.get("host", ""):
        raise _forged("the request comes from another site")


def _forged(detail: str) -> ApiError:
    return ApiError(403, "csrf", "Not from a page of ours", detail)


def _unauthenticated(detail: str, code: str | None) -> ApiError:
    challenge = _CHALLENGE if code is None else f'{_CHALLENGE}, error="{code}"'
    return ApiError(401, "unauthenticated", "Who asks?", detail, headers={"WWW-Authenticate": challenge})


def wait_for(seconds: float) -> None:
    """Raises ApiError 429 where a bucket wants a caller to wait."""
    if seconds:
        raise ApiError(
            429,
            "too-many-requests",
            "Too many requests",
            "more requests than are allowed: try again later",
            headers={"Retry-After": str(math.ceil(seconds))},
        )


def _cookie(headers: RequestHeaders) -> str | None:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


async def _read_body(headers: RequestHeaders, receive: Receive, limit: int) -> bytes:
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise ApiError(415, "unsupported-media-type", "Compressed", "the body should not be compressed")
    told = headers.get("content-length", "0")
    if told.isascii() and told.isdecimal() and (len(told) > 15 or int(told) > limit):
        raise _too_large(limit)
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError(400, "invalid-json", "No JSON", "the request ended before its body did")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return b"".join(parts)


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413, "too-large", "Too much data", f"the body is larger than {limit} bytes", facts={"limit": limit}
    )


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` for the application: the body that has been read, then whatever comes."""
    given = False

    async def replay() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
