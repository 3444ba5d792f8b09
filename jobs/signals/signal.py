"""What a signal is: a hint that something in the store may have changed. The rows are the truth."""

from __future__ import annotations

import select
from abc import ABC, abstractmethod
from threading import Event

__all__ = ["Signal", "wait_for"]


class Signal(ABC):
    """Says "look now" to whoever waits for a change. May ring without reason; may be lost, doubled or late.

    Whoever relies on it must look by itself now and then as well: without any signal everything still
    happens, only later.
    """

    #: How often whoever watches a job looks at it by himself: what does not ring is not seen before.
    sweep_seconds = 1.0

    def __init__(self) -> None:
        self._closed = Event()

    @abstractmethod
    def ring(self, job_id: str) -> None:
        """Tell the others that this job has changed. Called after the commit, with the id of a job: that it
        cannot be told, or that a thread or a descriptor is not to be had, is logged and never raised, and no
        server is waited for.
        """

    def ring_ahead(self, job_id: str) -> None:  # noqa: B027  # as a rule there is nothing to gain
        """Begin to tell of a change that is committed next, where telling takes as long as a commit.

        Called with rows locked: like `ring` it raises nothing and waits for no server. Whoever hears it
        before the commit looks in vain: `ring` is to follow, as always.
        """

    @abstractmethod
    def changed(self) -> bool:
        """Whether something may have happened since the last call; True at the first one.

        Called often, by one thread: it waits for no server, and raises nothing of what goes wrong with one,
        with a folder, a thread or a descriptor. When the signal itself breaks it says True, so that the
        caller looks at the store and meets the trouble there.
        """

    @property
    def listening(self) -> bool:
        """Whether what rings from now on will be heard. False before the first look, or while broken."""
        return True

    @property
    def descriptor(self) -> int | None:
        """A file descriptor that can be read once the signal rings; None: it has to be asked by `changed`.

        Another one, or None for a while, after the signal was broken.
        """
        return None

    def pause(self, seconds: float) -> None:
        """Wait between two looks, at most this long; `close` ends the wait."""
        self._closed.wait(seconds)

    def close(self) -> None:
        """Let go of what the signal holds. Safe to call twice and from any thread; `changed` is True then."""
        self._closed.set()


def wait_for(descriptor: int, seconds: float) -> None:
    """Wait until it can be read, at most this long. One that was closed meanwhile ends the wait at once."""
    waiting = select.poll()  # not select(): that takes no descriptor above 1,023
    waiting.register(descriptor, select.POLLIN)
    waiting.poll(1000 * seconds)
