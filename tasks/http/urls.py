"""Addresses: which ones a job may name, and as what they are shown."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from ebbtide.wording import one_line

__all__ = ["SCHEMES", "origin", "plain_url", "shown_url"]

SCHEMES = ("http", "https")
_PORTS = {"http": 80, "https": 443}
_LONGEST = 8000


def plain_url(text: str) -> str:
    """`text` itself, if it is an address that a job may name: parameters are stored and shown.

    Raises:
        ValueError: it is none of http or https, has no host, or has a password in it.
    """
    if len(text) > _LONGEST or not text.isprintable() or " " in text:
        raise ValueError(f"should be a URL of at most {_LONGEST:,} printable characters without spaces")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"should be a URL: {one_line(error, 100)}") from None
    if parts.scheme not in SCHEMES or not host:
        raise ValueError("should be a URL that begins with http:// or https:// and names a host")
    if "@" in parts.netloc:
        raise ValueError("should be a URL without a user in it: it is stored and shown; give the token apart")
    return text


def shown_url(url: str) -> str:
    """`url` as an error may show it: without its query, where tokens are, and without a user."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return one_line(f"{parts.scheme}://{host}{parts.path}", 160)


def origin(parts: SplitResult) -> tuple[str, str, int | None]:
    """What two addresses share that belong to one server: scheme, host and port."""
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme)
