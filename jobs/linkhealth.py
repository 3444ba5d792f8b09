"""Links to servers that may break at any moment: what became of them, and when they are made again."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator

from ebbtide.wording import hide_password, one_line

__all__ = ["Health", "LinkBroken", "start_thread"]

LOG = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class LinkBroken(Exception):
    """The server cannot be reached, refuses, or does not answer."""


class Health:
    """How the links of one thread have fared: when one is to be tried again, and what was logged of it.

    Args:
        what, name: for the log: ``signal``, ``redis``.
        meanwhile: what is logged besides when one breaks.
    """

    def __init__(self, what: str, name: str, meanwhile: str) -> None:
        self._what = what
        self._name = name
        self._meanwhile = meanwhile
        self._broken = False
        self._pause = _FIRST_PAUSE_SECONDS
        self._next_try = 0.0

    @property
    def seconds_left(self) -> float:
        """Until the next try."""
        return max(0.0, self._next_try - time.monotonic())

    @property
    def may_try(self) -> bool:
        return self.seconds_left == 0.0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """What breaks in here is logged, unless it was broken before; the next try waits longer each time."""
        try:
            yield
        except LinkBroken as error:
            self._failed(error)
        except Exception as error:  # a fault of ours or of a library: the next link may work
            if not self._broken:
                LOG.exception("%s.failed %s", self._what, self._name)
            self._failed(error)

    def mended(self) -> None:
        """A link works."""
        if self._broken:
            LOG.info("%s.mended %s", self._what, self._name)
        self._broken = False
        self._pause = _FIRST_PAUSE_SECONDS

    def _failed(self, error: Exception) -> None:
        if not self._broken:
            told = one_line(hide_password(str(error) or type(error).__name__))
            LOG.warning("%s.broken %s: %s; %s", self._what, self._name, told, self._meanwhile)
        self._broken = True
        # By chance: those who lost the same server do not all come back in one moment.
        self._next_try = time.monotonic() + self._pause * random.uniform(0.5, 1.0)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)


def start_thread(name: str, target: Callable[..., None], *arguments: object) -> threading.Thread:
    """A thread that has begun. Raises LinkBroken when the system has none to give."""
    # A daemon: a server that does not answer must not keep a program from ending.
    thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise LinkBroken(str(error)) from error
    return thread
