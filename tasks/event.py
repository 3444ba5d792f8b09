"""The cancel event: all that a task sees of a cancel request."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

__all__ = ["LOST", "CancelEvent", "Cancelled"]

LOG = logging.getLogger(__name__)

# How many shields are around what runs here. Of a context, not of a thread alone: bodies that are
# coroutines share one thread.
_shields: ContextVar[int] = ContextVar("shields", default=0)

# The source that is no request: this run may not go on, and another goes on with the job.
LOST = "lost"

CallLater = Callable[[float, Callable[[], object]], Callable[[], object]]


class Cancelled(Exception):
    """Raised inside a task when its job is being cancelled.

    It is an ``Exception`` on purpose, unlike in trio or asyncio: TaskFlow turns only an
    ``Exception`` into a failure it reverts from; anything else leaves the flow half done with
    no undo. Leaving a task it means: the effect did not happen, or the task's revert undoes it.

    Args:
        reason: the words of whoever asked.
        source: who asked in kind: ``user``, ``parent``, or a limit that was passed: ``deadline``,
            ``no_progress``, ``task_limit``. Nobody asked where it is ``lost``: this run of the job may not go
            on, since its conductor has lost it; another one goes on with it, and runs or undoes this task.
        kept: at most one value, the result of an ``execute()`` that had returned before the
            request was seen. It travels in ``args``, which TaskFlow persists with a failure, so
            a stock engine's undo can still be given it.
    """

    def __init__(self, reason: str = "", source: str = "user", *kept: Any) -> None:
        super().__init__(reason, source, *kept)
        self.reason = reason
        self.source = source

    @property
    def returned(self) -> bool:
        """Whether ``execute()`` had returned; its result is then in `result`."""
        return len(self.args) > 2

    @property
    def result(self) -> Any:
        return self.args[2] if self.returned else None

    def __str__(self) -> str:
        # The kept result stays out of logs: it may be large, and it is not ours to show.
        return f"cancelled: {self.reason}" if self.reason else "cancelled"


class CancelEvent:
    """One for each run of a job: unset, then set for good.

    A level, not a pulse: code that swallows one `Cancelled` meets the next checkpoint. Safe to
    use from any thread. `reason` and `source` do not change once set.

    Args:
        make_flag: makes what is waited on. A test gives flags whose time it controls.
        call_later: calls a function, from whichever thread, once so many seconds have passed, and returns
            what takes that back; calling that twice, or too late, does nothing.
    """

    def __init__(
        self,
        make_flag: Callable[[], threading.Event] = threading.Event,
        *,
        call_later: CallLater | None = None,
    ) -> None:
        self._make_flag = make_flag
        self._call_later = call_later or _by_timer
        self._flag = make_flag()
        self._lock = threading.Lock()  # guards the three fields below until the flag is set
        self._reason = ""
        self._source = ""
        self._callbacks: list[Callable[[CancelEvent], None]] = []

    @property
    def requested(self) -> bool:
        """Whether a cancel was requested, shielded or not."""
        return self._flag.is_set()

    @property
    def reason(self) -> str:
        return self._reason

    @property
    def source(self) -> str:
        return self._source

    @property
    def shielded(self) -> bool:
        """Whether the calling thread, or coroutine, is inside a `shield()`, of whichever event."""
        return _shields.get() > 0

    def set(self, reason: str = "", source: str = "user") -> bool:
        """Request the cancel. Returns whether this call was the first; later ones change nothing.

        Callbacks run in the calling thread before it returns. One that raises is logged: it keeps
        the request from nobody else.
        """
        with self._lock:
            if self._flag.is_set():
                return False
            self._reason, self._source = reason, source
            callbacks, self._callbacks = self._callbacks, []
            self._flag.set()
        for callback in callbacks:
            try:
                callback(self)
            except Exception:  # anybody's code; the callbacks after it still have to hear
                LOG.exception("a callback of the cancel event raised: %r", callback)
        return True

    def check(self) -> None:
        """Raise `Cancelled` when a cancel was requested and the calling thread is not shielded."""
        if self._flag.is_set() and not self.shielded:
            raise Cancelled(self._reason, self._source)

    def wait(self, seconds: float) -> bool:
        """Wait until a cancel is requested, at most `seconds`; returns whether it is to be heeded.

        In a shield nothing is delivered: it waits the whole time and returns False.
        """
        seconds = min(seconds, threading.TIMEOUT_MAX)  # beyond that, infinity too, Python raises
        if self.shielded:
            self._make_flag().wait(seconds)
            return False
        return self._flag.wait(seconds)

    @contextlib.contextmanager
    def shield(self) -> Iterator[None]:
        """A stretch of the calling thread, or coroutine, in which nothing is delivered. May be nested."""
        _shields.set(_shields.get() + 1)
        try:
            yield
        finally:
            _shields.set(_shields.get() - 1)

    def add_callback(self, callback: Callable[[CancelEvent], None]) -> None:
        """Call `callback(event)` once when the cancel is requested; now, when it already was."""
        with self._lock:
            if not self._flag.is_set():
                self._callbacks.append(callback)
                return
        callback(self)

    def child(self) -> CancelEvent:
        """An event that is set with this one and may be set alone."""
        event = self._another()

        def pass_on(parent: CancelEvent) -> None:
            event.set(parent.reason, parent.source)

        self.add_callback(pass_on)
        return event

    def _another(self) -> CancelEvent:
        """One like it, not set."""
        return CancelEvent(self._make_flag, call_later=self._call_later)

    @contextlib.contextmanager
    def limited(
        self, seconds: float, reason: str, source: str, *, call_later: CallLater | None = None
    ) -> Iterator[CancelEvent]:
        """A child that is set by itself, with that reason and source, unless the block ends in `seconds`."""
        child = self.child()
        take_back = (call_later or self._call_later)(seconds, lambda: child.set(reason, source))
        try:
            yield child
        finally:
            take_back()


def _by_timer(seconds: float, call: Callable[[], object]) -> Callable[[], object]:
    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), call)
    timer.name, timer.daemon = "ebbtide-limit", True
    timer.start()
    return timer.cancel
