"""What a task under test is bound to: a detached run that asks the cues at each moment."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import threading
from collections.abc import Callable
from typing import Any

from ebbtide.tasks import CancelEvent, Cancelled, JobInfo, payload
from ebbtide.tasks.run import Begun, DetachedRun, How, Undo
from ebbtide.testing.clock import FakeClock
from ebbtide.testing.cues import Cue, Moment, Place, ReadyCue

__all__ = ["CueMissed", "CuedRun"]


class CueMissed(AssertionError):
    """The body has ended, and what it was to be cancelled or killed at never came."""


class CuedRun(DetachedRun):
    """Asks the cues at each moment of a body or an undo. All but `event` is used by one thread at a time."""

    def __init__(self, clock: FakeClock, job: JobInfo) -> None:
        super().__init__(_WatchedEvent(clock, self._looked), job)
        self.how: How | None = None
        self.result: Any = None
        self.saved: Any = None
        self.was_delivered = False
        self.reports: list[tuple[float, str]] = []
        self.sent: list[Any] = []
        self.checkpoints = 0
        self.died = False
        self._over = threading.Event()
        self._cues: dict[str, Cue] = {}
        self._inside = False
        self._thread = 0

    def listen(self, cancel: Cue | None, kill: Cue | None, over: threading.Event) -> None:
        """From now on these cues count, for the body or the undo that this thread comes to next."""
        cues = {"cancel": cancel, "kill": kill}
        self._cues = {name: cue for name, cue in cues.items() if cue is not None}
        self._over, self._thread = over, threading.get_ident()
        self.checkpoints, self.died = 0, False

    def next_round(self, *, undone: bool) -> None:
        """The body is to run once more: what is undone has not begun any more."""
        self.was_delivered = False
        if undone:
            self.how = None

    def refuse_missed(self, task: str, error: Exception | None) -> None:
        """Raise CueMissed when a cue is left over."""
        if not self._cues:
            return
        told = " and ".join(f"the {name} at {_shown(cue)}" for name, cue in self._cues.items())
        self._cues = {}
        raise CueMissed(
            f"{told} never came: task {task} ended after {self.checkpoints} checkpoints"
            + (f" with {type(error).__name__}: {error}" if error is not None else "")
        ) from error

    def next_runner(self) -> None:
        self.was_delivered = False
        self.job = dataclasses.replace(self.job, epoch=self.job.epoch + 1)

    def stands(self, task: str) -> bool:
        """Whether it has begun and is not undone."""
        return super().begin_undo(task) is not None

    # Run.

    def begin(self, task: str) -> Begun:
        self._come_to(Place.BEFORE)
        try:
            begun = super().begin(task)
        except Cancelled:
            self.was_delivered = True
            raise
        self.how, self.saved = How.INTERRUPTED, begun.saved  # until it is heard of again
        self._come_to(Place.BEGUN)
        self._inside = True
        return begun

    def returned(self, task: str, text: str) -> None:
        self._inside = False
        self._come_to(Place.RETURNED)
        super().returned(task, text)
        self.how, self.result = How.RETURNED, payload.decode(text)

    def stopped(self, task: str, how: How, error: str) -> None:
        self._inside = False
        self._come_to(Place.RETURNED)
        super().stopped(task, how, error)
        self.how = how

    def save(self, task: str, text: str) -> None:
        super().save(task, text)
        self.saved = payload.decode(text)

    def report(self, task: str, fraction: float, message: str) -> None:
        super().report(task, fraction, message)
        self.reports.append((fraction, message))
        self._come_to(Place.REPORT)

    def delivered(self, task: str) -> None:
        self.was_delivered = True

    def open_stream(self, task: str) -> int:
        return len(self.sent)

    def send(self, task: str, text: str) -> bool:
        self.sent.append(payload.decode(text))
        return False

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(0)  # a checkpoint before it waits, as that of any task
        if CancelEvent.wait(self.event, seconds):
            await asyncio.sleep(0)

    def begin_undo(self, task: str) -> Undo | None:
        undo = super().begin_undo(task)
        if undo is not None:
            self._come_to(Place.BEFORE)
            self._come_to(Place.BEGUN)
            self._inside = True
        return undo

    def end_undo(self, task: str, error: str | None) -> None:
        self._inside = False
        self._come_to(Place.RETURNED)
        super().end_undo(task, error)

    # Moments.

    def _looked(self) -> None:
        """The event was looked at. The wrapper looks, too, when a body is left by `Cancelled`."""
        if self._inside and not isinstance(sys.exc_info()[1], (Cancelled, asyncio.CancelledError)):
            self._come_to(Place.CHECKPOINT)

    def _come_to(self, place: Place) -> None:
        if threading.get_ident() != self._thread:
            return  # a thread that the body has started: it would go on after a kill
        if place is Place.CHECKPOINT:
            self.checkpoints += 1
        fraction, message = self.reports[-1] if self.reports else (None, None)
        moment = Moment(place, self.checkpoints, self.saved, fraction, message)
        if self._is_cue("cancel", moment):
            self.event.set("cancelled by a test")
        if self._is_cue("kill", moment):
            self.died, self._inside = True, False
            self._over.set()
            threading.Event().wait()

    def _is_cue(self, name: str, moment: Moment) -> bool:
        cue = self._cues.get(name)
        if cue is None or not cue(moment):
            return False
        del self._cues[name]
        return True


class _WatchedEvent(CancelEvent):
    """Tells whenever somebody looks whether a cancel is requested."""

    def __init__(self, clock: FakeClock, looked: Callable[[], None]) -> None:
        super().__init__(clock.flag, call_later=clock.call_later)
        self._clock = clock
        self._looked = looked

    def _another(self) -> CancelEvent:
        return _WatchedEvent(self._clock, self._looked)

    @property
    def requested(self) -> bool:
        self._looked()
        return super().requested

    def check(self) -> None:
        if not super().requested:  # else it has been looked at already, and is delivered now
            self._looked()
        super().check()

    def wait(self, seconds: float) -> bool:
        self._looked()
        return super().wait(seconds)


def _shown(cue: Cue) -> str:
    return str(cue) if isinstance(cue, ReadyCue) else getattr(cue, "__name__", repr(cue))
