"""The bodies of one run that are at work, and what is told of them before it matters."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator

from ebbtide.tasks.event import CancelEvent

__all__ = ["Bodies"]


class Bodies:
    """Counts bodies from before their barrier to their end, and tells the largest grace among them.

    Told beforehand: a body that keeps the interpreter to itself lets nobody say anything any more. So
    the word is out before the body begins, and whoever ends the run never has to ask.

    An undo is shielded. While one runs beside an execute the grace is infinite, so that the run is not
    ended under it.

    Args:
        grace_seconds: of a body that has none of its own, and what counts as told at first.
        tell: called with each new value, under a lock; None, the last one: the run is at rest.
        tell_undo: called with a task and how many seconds a try of its undo may take, before that begins; and
            with None in their place once it has ended.
    """

    def __init__(
        self,
        event: CancelEvent,
        grace_seconds: float,
        tell: Callable[[float | None], None],
        tell_undo: Callable[[str, float | None], None] = lambda task, seconds: None,
    ) -> None:
        self._event = event
        self._grace_seconds = grace_seconds
        self._tell = tell
        self._tell_undo = tell_undo
        self._lock = threading.Lock()  # guards what follows, and keeps what is told in order
        self._executing: dict[str, float] = {}
        self._undoing = 0
        self._making: tuple[str, float] | None = None
        self._told: float | None = grace_seconds
        event.add_callback(lambda _: self._changed())

    @property
    def told(self) -> float | None:
        """What was told last. None: a cancel is requested, no body executes, and none ever will."""
        return self._told

    def grace_of(self, grace_seconds: float | None) -> float:
        """That of a body which says so itself; None: it has none of its own."""
        return self._grace_seconds if grace_seconds is None else grace_seconds

    @contextlib.contextmanager
    def executing(self, name: str, grace_seconds: float | None = None) -> Iterator[None]:
        """Surrounds a body, its barrier included. Inside, look at the event before anything else."""
        with self._lock:
            self._executing[name] = self.grace_of(grace_seconds)
            self._tell_changes()
        try:
            yield
        finally:
            with self._lock:
                del self._executing[name]
                self._tell_changes()

    @contextlib.contextmanager
    def undoing(self, task: str, seconds: float) -> Iterator[None]:
        """Surrounds one try of an undo, its barrier included, which may take so many seconds."""
        with self._lock:
            self._undoing += 1
            self._tell_changes()
            self._tell_undo(task, seconds)
        try:
            yield
        finally:
            with self._lock:
                self._undoing -= 1
                self._tell_undo(task, None)
                self._tell_changes()

    @contextlib.contextmanager
    def making(self, name: str, seconds: float) -> Iterator[None]:
        """Surrounds what comes before any body, and may hang as one may.

        No body executes then, so that a cancel gives it no grace: from there on it is told like an undo.
        """
        with self._lock:
            self._making = (name, seconds)
            self._tell_making()
        try:
            yield
        finally:
            with self._lock:
                self._making = None
                if self._event.requested:
                    self._tell_undo(name, None)

    def _changed(self) -> None:
        with self._lock:
            self._tell_changes()
            self._tell_making()

    def _tell_making(self) -> None:
        if self._making is not None and self._event.requested:
            self._tell_undo(*self._making)

    def _tell_changes(self) -> None:
        if self._told is None:
            return  # at rest: who enters now meets the event and turns back
        now: float | None = self._told
        if self._executing:
            now = math.inf if self._undoing else max(self._executing.values())
        elif self._event.requested:
            now = None
        if now != self._told:
            self._told = now
            self._tell(now)
