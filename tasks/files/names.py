"""File names as text: exact in memory and in archives, safe in JSON and in messages.

A name is any bytes without "/" and NUL. In memory it is those bytes read as UTF-8 with surrogates for
what is no UTF-8, whatever the locale of the process is, so that the exact bytes can be had back.
"""

from __future__ import annotations

import base64
import os
from typing import Any

__all__ = ["from_bytes", "from_json", "shown", "to_bytes", "to_json"]

_LONGEST_SHOWN = 160


def from_bytes(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def to_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def shown(path: str | bytes | os.PathLike[str]) -> str:
    """The path for people: on one line, printable, its beginning cut off when it is very long."""
    raw = path if isinstance(path, bytes) else to_bytes(os.fspath(path))
    text = raw.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= _LONGEST_SHOWN else f"...{text[3 - _LONGEST_SHOWN :]}"


def to_json(key: str, name: str) -> dict[str, str]:
    """`name` under `key`. One that is no UTF-8 has its exact bytes beside it, under ``key_base64``.

    JSON readers other than Python's refuse the surrogates that would stand for such bytes.
    """
    raw = to_bytes(name)
    try:
        return {key: raw.decode("utf-8")}
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "backslashreplace")
        return {key: text, f"{key}_base64": base64.b64encode(raw).decode("ascii")}


def from_json(key: str, record: dict[str, Any]) -> str:
    """The name that `to_json` put into `record`."""
    exact = record.get(f"{key}_base64")
    return str(record[key]) if exact is None else from_bytes(base64.b64decode(exact))
