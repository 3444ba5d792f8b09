"""Where the bars of a symbol come from: an address or a path, with the symbol in it."""

from __future__ import annotations

import os
import re
import stat
import string
import time
from datetime import date
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from ebbtide.tasks.bars.bar import Bar, read_bars
from ebbtide.tasks.bars.errors import BarsUnreadable
from ebbtide.tasks.http import Client, RequestFailed, plain_url, shown_url

__all__ = ["MAX_BYTES", "Source", "checked_symbol", "checked_template"]

MAX_BYTES: Final = 64 * 1024 * 1024
_FIELDS = frozenset({"symbol", "start", "end", "token"})
_SYMBOL = re.compile(r"[A-Za-z0-9^][A-Za-z0-9._^=-]{0,31}")


def checked_symbol(text: str) -> str:
    """`text` itself, if it may be a symbol; ValueError if not. It becomes part of addresses and paths."""
    if not _SYMBOL.fullmatch(text):
        raise ValueError("should be a symbol: a letter or digit, then up to 31 of A-Z a-z 0-9 . _ ^ = -")
    return text


def checked_template(text: str) -> str:
    """`text` itself, if it says where symbols are found; ValueError if not."""
    try:
        names = [name for _, name, form, turn in string.Formatter().parse(text) if name is not None]
        plain = not any(form or turn for _, _, form, turn in string.Formatter().parse(text))
    except ValueError:
        names, plain = [], False
    if not plain or "symbol" not in names or not _FIELDS.issuperset(names):
        raise ValueError("should have {symbol} in it; of other names it may have {start}, {end}, {token}")
    sample = text.format(symbol="A", start="2024-01-01", end="2024-01-01", token="A")
    if not Source.is_remote(text) and "token" in names:
        raise ValueError("should be a URL where it has {token} in it")
    if sample.startswith("/"):
        return text
    if urlsplit(sample).scheme == "file":
        if urlsplit(sample).netloc or not urlsplit(sample).path.startswith("/"):
            raise ValueError("should be file:///ABSOLUTE/PATH")
        return text
    plain_url(sample)
    return text


class Source:
    """Reads what a template says, one symbol at a time.

    Args:
        client: makes the requests; None: the template is a path.
        seconds: how long one symbol may take to arrive.
        token: what ``{token}`` stands for in the template.
    """

    def __init__(
        self,
        template: str,
        start: date | None,
        end: date | None,
        client: Client | None,
        *,
        seconds: float,
        token: str | None = None,
    ) -> None:
        self._template, self._client, self._seconds = template, client, seconds
        self._start, self._end = start, end
        self._values = {"start": _iso(start), "end": _iso(end), "token": quote(token or "", safe="")}

    @staticmethod
    def is_remote(template: str) -> bool:
        """Whether it is an address, and no path."""
        return template.startswith(("http://", "https://"))

    def place(self, symbol: str) -> str:
        """Where this symbol is found."""
        named = quote(symbol, safe="^=") if self._client else symbol
        return self._template.format(symbol=named, **self._values)

    def bars(self, symbol: str) -> list[Bar]:
        """The bars of `symbol` that are wanted, by day.

        Raises:
            Cancelled: a cancel was requested meanwhile.
            RequestFailed: see `Client.get`; or it took too long.
            BarsUnreadable: it is no file that can be read, too large, or no table of bars.
        """
        place = self.place(symbol)
        if self._client is None:
            return read_bars(_file(place), place, self._start, self._end)
        return read_bars(self._fetch(self._client, place), shown_url(place), self._start, self._end)

    def _fetch(self, client: Client, url: str) -> bytes:
        pieces: list[bytes] = []
        size, until = 0, time.monotonic() + self._seconds
        with client.get(url) as response:
            if response.status_code != 200:
                problem = f"answered {response.status_code}, which is no table"
                raise RequestFailed(shown_url(url), problem, "mend the address, then retry")
            for piece in response.iter_bytes():
                client.checkpoint()
                size += len(piece)
                if size > MAX_BYTES:
                    raise BarsUnreadable(shown_url(url), f"has more than {MAX_BYTES >> 20} MiB")
                if time.monotonic() > until:
                    problem = f"took longer than {self._seconds:g} s"
                    raise RequestFailed(shown_url(url), problem, "try again later", passing=True)
                pieces.append(piece)
        client.checkpoint()  # a cut by a cancel may look like an end
        return b"".join(pieces)


def _file(place: str) -> bytes:
    path = unquote(urlsplit(place).path) if place.startswith("file:") else place
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise BarsUnreadable(place, "is no file")
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BarsUnreadable(place, f"cannot be read, {(error.strerror or '').lower()}") from None
    if len(data) > MAX_BYTES:
        raise BarsUnreadable(place, f"has more than {MAX_BYTES >> 20} MiB")
    return data


def _iso(day: date | None) -> str:
    return "" if day is None else day.isoformat()
