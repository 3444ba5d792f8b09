"""How a request is made, and what its answer means, whoever waits for it, a thread or a coroutine."""

from __future__ import annotations

import functools
import ssl
from typing import TYPE_CHECKING, Any, Final

from ebbtide.tasks.http.errors import ExtraMissing, RequestFailed
from ebbtide.tasks.http.patience import retry_after
from ebbtide.tasks.http.urls import shown_url
from ebbtide.wording import one_line

if TYPE_CHECKING:
    import httpx

__all__ = [
    "LONGEST_WORDS",
    "failed",
    "httpx_errors",
    "refuse_error",
    "require_httpx",
    "settings",
    "wants_words",
]

# Below the grace of a task that nobody has given another: a connect cannot be ended from outside.
_LONGEST_CONNECT: Final = 5.0
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE_NOT_THERE = 416  # an answer to a question, which who asked has to judge
LONGEST_WORDS: Final = 2000
"""Bytes of an error's body that are read."""


def require_httpx() -> None:
    """Raises `ExtraMissing` where httpx is not installed: before anything is made that would be undone."""
    try:
        import httpx  # noqa: F401
    except ImportError:
        raise ExtraMissing from None


def settings(timeout_seconds: float) -> dict[str, Any]:
    """What every client of httpx is made with; `timeout_seconds` is how long a server may be silent."""
    import httpx

    return {
        "verify": _certificates(),
        "timeout": httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, _LONGEST_CONNECT)),
        "headers": {"User-Agent": "ebbtide", "Accept": "*/*"},
    }


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Whom to believe: read once in each process, since that takes longer than many a request."""
    import httpx

    return httpx.create_ssl_context()


def httpx_errors() -> tuple[type[Exception], ...]:
    """All that httpx raises on purpose; `failed` makes our own of them."""
    import httpx

    return httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict


def wants_words(response: httpx.Response) -> bool:
    """Whether the body of this error may say what is wrong."""
    if response.status_code < 400 or response.status_code in (*_PASSING, _RANGE_NOT_THERE):
        return False
    kind: str = response.headers.get("content-type", "")
    return kind.startswith(("text/plain", "application/json"))


def refuse_error(response: httpx.Response, url: str, body: bytes = b"") -> None:
    """Raise `RequestFailed` when the answer is an error (4xx, 5xx); but 416 is left to who asked.

    Args:
        body: the beginning of its body, where `wants_words`.
    """
    status = response.status_code
    if status < 400 or status == _RANGE_NOT_THERE:
        return
    passing = status in _PASSING
    words = f"answered {status} {response.reason_phrase}".rstrip()
    text = one_line(body.decode("utf-8", "replace"), 160)
    told = f" ({text})" if text else ""
    advice = "try again later" if passing else "mend the address or the token, then retry"
    asked = retry_after(response.headers.get("retry-after"))
    raise RequestFailed(shown_url(url), words + told, advice, passing=passing, retry_after=asked)


def failed(url: str, error: Exception) -> RequestFailed:
    """What to raise for an `error` of httpx."""
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
