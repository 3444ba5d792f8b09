"""What is sent to a server by a thread of its own: no caller waits for a server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from ebbtide.jobs.linkhealth import Health, LinkBroken, start_thread

__all__ = ["Sender"]

LOG = logging.getLogger(__name__)

# How long `close` waits for what is still to be sent.
_CLOSE_SECONDS = 2.0
# Nobody relies on what is sent: of more than this at once nothing is kept.
_MOST_WAITING = 1000


class _Closable(Protocol):
    def close(self) -> None: ...


L = TypeVar("L", bound=_Closable)
T = TypeVar("T")


class Sender(Generic[L, T]):
    """Sends over links of a kind, in a thread that begins with the first thing to send.

    What is put while the server is away is dropped.

    Args:
        health: of the links.
        open_link: makes one; may raise LinkBroken.
        send: everything that waits, by its key; may raise LinkBroken, and is then called once more, with
            another link.
        unsent: the words for the log when `close` gives up.
    """

    def __init__(
        self,
        name: str,
        health: Health,
        open_link: Callable[[], L],
        send: Callable[[L, Mapping[str, T]], None],
        unsent: str,
    ) -> None:
        self._name = name
        self._open_link = open_link
        self._send_all = send
        self._unsent = unsent
        self._told = threading.Condition()
        # Guarded by `_told`:
        self._waiting: dict[str, T] = {}
        self._thread: threading.Thread | None = None
        self._closed = False
        # Touched by the thread alone, once it has begun:
        self._health = health

    def put(self, key: str, thing: T) -> None:
        """Have it sent within a moment; returns at once. One that waits under the same key is replaced."""
        with self._told:
            if self._closed or len(self._waiting) >= _MOST_WAITING:
                return
            self._waiting[key] = thing
            self._told.notify()
            if self._thread is None:
                self._begin()

    def _begin(self) -> None:
        if self._health.may_try:
            with self._health.watched():
                self._thread = start_thread(self._name, self._run)
        if self._thread is None:
            self._waiting.clear()

    def close(self) -> None:
        """Send what waits, as far as the server answers within seconds, and end. Safe to call twice."""
        with self._told:
            self._closed = True
            self._told.notify()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
            if self._thread.is_alive():
                LOG.warning("%s: the server does not answer; the sweep finds it", self._unsent)

    def _run(self) -> None:
        link: L | None = None
        while True:
            with self._told:
                self._told.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    break
                things = dict(self._waiting)
                self._waiting.clear()
            link = self._send(link, things)
        if link is not None:
            link.close()

    def _send(self, link: L | None, things: Mapping[str, T]) -> L | None:
        """Send over the link, or over a new one; returns the one that works."""
        if link is not None:
            try:
                self._send_all(link, things)
                return link
            except LinkBroken:
                link.close()  # it may have been dead for long: the server may be back since
        if not self._health.may_try:
            return None
        link = None
        with self._health.watched():
            link = self._open_link()
            try:
                self._send_all(link, things)
            except BaseException:
                link.close()
                link = None
                raise
            self._health.mended()
        return link
