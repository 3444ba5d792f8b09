"""EngineRun: what the tasks of one run are bound to, as the engine sees it."""

from __future__ import annotations

import abc
import contextlib
import threading

from ebbtide.conductor.bodies import Bodies
from ebbtide.conductor.redaction import Redactor
from ebbtide.tasks.event import CancelEvent
from ebbtide.tasks.run import JobInfo, Run

__all__ = ["EngineRun", "GoesBackwards"]


class GoesBackwards(Exception):
    """A task that was still in the pool was to begin although all is being undone by now."""


class EngineRun(Run):
    """Knows which tasks are on their way to a barrier, and which of them began.

    Args:
        bodies: told of each body that begins and ends.
        redactor: knows the secrets of this run.
    """

    def __init__(
        self, job: JobInfo, event: CancelEvent, bodies: Bodies, redactor: Redactor | None = None
    ) -> None:
        self.job = job
        self.event = event
        self.bodies = bodies
        self.redactor = redactor or Redactor()
        self.holding = False  # a failure stops it where it is; written by the thread that drives the engine
        self._lock = threading.Lock()
        self._approaching: set[str] = set()  # submitted, barrier not passed
        self._in_pool: set[str] = set()  # a worker has taken it and not finished
        self._in_loop: set[str] = set()  # in the event loop, or on its way there: it waits for no worker

    def hide(self, text: str) -> str:
        return self.redactor.redact(text)

    # Barriers on their way.

    def submitted(self, task: str, *, in_loop: bool = False) -> None:
        """The engine has handed the task to the pool, or to the event loop."""
        with self._lock:
            self._approaching.add(task)
            if in_loop:
                self._in_loop.add(task)

    def taken(self, task: str) -> None:
        """A worker, or the loop, has begun on it."""
        with self._lock:
            if task not in self._in_loop:
                self._in_pool.add(task)

    def left(self, task: str) -> None:
        """The worker, or the loop, is done with it, however that ended."""
        with self._lock:
            self._in_loop.discard(task)
            self._in_pool.discard(task)
            self._approaching.discard(task)

    @property
    def at_work(self) -> bool:
        """Whether any execute or revert is in the pool or the loop, or on its way there."""
        with self._lock:
            return bool(self._approaching or self._in_pool or self._in_loop)

    def _passing(self, task: str) -> None:
        """The task is at its barrier."""
        with self._lock:
            self._approaching.discard(task)

    # What began.

    @property
    def lost(self) -> Exception | None:
        """Why nothing of this run is stored any more. None: it is."""
        return None

    @abc.abstractmethod
    def goes_backwards(self) -> None:
        """From now on no task begins, although the engine may have handed some to the pool already."""

    @abc.abstractmethod
    def undo_owed(self) -> list[str]:
        """The tasks that began and are still to be undone, if all is."""

    @abc.abstractmethod
    def positions(self) -> dict[str, int]:
        """In which order the tasks began: the higher, the newer."""

    def undo_failures(self, task: str) -> tuple[int, str | None]:
        """How many tries of its undo have failed, and how the last one did."""
        return (0, None)

    def undo_failed(self, task: str) -> None:
        """A try of its undo has failed, and there is to be another: store that."""

    def capturing(self, task: str) -> contextlib.AbstractContextManager[None]:
        """Surrounds what the task does: where its output goes."""
        return contextlib.nullcontext()
