"""FakeClock: time that stands still while somebody works, and jumps when everybody waits."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ebbtide.jobs import clock as product_clock
from ebbtide.tasks import CancelEvent

__all__ = ["FakeClock", "WaitsForEver"]


class WaitsForEver(RuntimeError):
    """Everybody waits without a limit, and nothing is to happen: without this error the test would hang."""


@dataclass(eq=False)
class _Waiter:
    flag: threading.Event
    until: float

    def waits_at(self, elapsed: float) -> bool:
        return not self.flag.is_set() and elapsed < self.until


class FakeClock:
    """A clock of a test's own. It stands still while somebody works, and jumps when everybody waits.

    It covers ``self.sleep(...)`` and ``self.cancel.wait(...)`` of tasks whose cancel event it has made, as
    `TaskRun` has it do, and, while it is `installed`, the clocks by which this process tells when a job is
    due and how long a lease runs. It does not cover other processes, the clock of a database server
    (PostgreSQL), what reads ``time`` itself, nor waits for anything else, such as locks, sockets, programs
    and the polls of a conductor: who stands there is at work, as far as this clock knows.

    A thread that waits is alone unless it was started by `run`. Safe to use from several threads.

    Args:
        now: unix seconds to begin with.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.boot_id = "0123456789ab"
        self._now = now
        self._boot = 5_000.0
        self._changed = threading.Condition()  # guards what follows
        self._elapsed = 0.0
        self._at_work = 0  # threads of `run` that have not ended
        self._waiters: list[_Waiter] = []
        self._calls: list[tuple[float, int, Callable[[], object]]] = []  # a heap, by moment
        self._numbers = itertools.count()

    @property
    def elapsed(self) -> float:
        """The seconds that have passed since the clock was made."""
        return self._elapsed

    @property
    def now(self) -> float:
        """Unix seconds. Setting them is setting the clock of a machine: nobody has waited so long."""
        return self._now

    @now.setter
    def now(self, seconds: float) -> None:
        self._now = seconds
        self.moved()

    @property
    def boot(self) -> float:
        """Seconds since the machine booted, by which leases are counted on SQLite. May be set as well."""
        return self._boot

    @boot.setter
    def boot(self, seconds: float) -> None:
        self._boot = seconds
        self.moved()

    def moved(self) -> None:
        """Called whenever `now` or `boot` has changed: a subclass may pass them on."""

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass. What was to happen by then has happened when this returns."""
        with self._changed:
            self._pass_until(self._elapsed + seconds)

    def call_later(self, seconds: float, call: Callable[[], object]) -> Callable[[], None]:
        """Do `call` once so many seconds have passed, in the thread that lets them pass. It may not wait.

        Returns what takes that back, if it has not happened yet.
        """
        with self._changed:
            planned = (self._elapsed + seconds, next(self._numbers), call)
            heapq.heappush(self._calls, planned)

        def take_back() -> None:
            with self._changed:
                if planned in self._calls:
                    self._calls.remove(planned)
                    heapq.heapify(self._calls)

        return take_back

    def event(self) -> CancelEvent:
        """A cancel event whose waits are by this clock."""
        return CancelEvent(self.flag, call_later=self.call_later)

    def flag(self) -> threading.Event:
        """A `threading.Event` whose waits are by this clock."""
        return _Flag(self)

    def run(self, *calls: Callable[[], Any]) -> list[Any]:
        """Do these side by side, each in a thread of its own: time passes only while all of them wait.

        Returns what they returned once all have ended, or raises what the first of them raised.
        """
        with self._changed:
            self._at_work += len(calls)
        with ThreadPoolExecutor(max(1, len(calls)), thread_name_prefix="fake-clock") as pool:
            futures = [pool.submit(self._work, call) for call in calls]
        return [future.result() for future in futures]

    def _work(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """While this lasts, this is the clock of Ebbtide in this process, as far as told above."""
        kept = (product_clock.wall, product_clock.boot_seconds, product_clock.boot_id)
        ours = (lambda: self.now, lambda: self.boot, lambda: self.boot_id)
        product_clock.wall, product_clock.boot_seconds, product_clock.boot_id = ours  # type: ignore[assignment]
        try:
            yield
        finally:
            product_clock.wall, product_clock.boot_seconds, product_clock.boot_id = kept

    def _wait(self, flag: threading.Event, seconds: float) -> bool:
        with self._changed:
            until = math.inf if seconds >= threading.TIMEOUT_MAX else self._elapsed + seconds
            waiter = _Waiter(flag, until)
            self._waiters.append(waiter)
            try:
                while waiter.waits_at(self._elapsed):
                    if self._everybody_waits():
                        self._jump()
                    else:
                        self._changed.wait()
            finally:
                self._waiters.remove(waiter)
                self._changed.notify_all()
            return flag.is_set()

    def _everybody_waits(self) -> bool:
        # Who has what he waited for is at work again, although he has not come to know it yet.
        return len(self._waiters) >= self._at_work and all(
            waiter.waits_at(self._elapsed) for waiter in self._waiters
        )

    def _jump(self) -> None:
        """To the next moment at which anything happens."""
        moments = [waiter.until for waiter in self._waiters] + [moment for moment, _, _ in self._calls[:1]]
        moment = min(moments)
        if moment == math.inf:
            raise WaitsForEver("everybody waits without a limit, and nothing is to happen: set off a cancel")
        self._pass_until(moment)

    def _pass_until(self, moment: float) -> None:
        while self._calls and self._calls[0][0] <= moment:
            due, _, call = heapq.heappop(self._calls)
            self._move_to(due)
            call()
        self._move_to(moment)
        self._changed.notify_all()

    def _move_to(self, moment: float) -> None:
        passed = max(0.0, moment - self._elapsed)
        if passed:
            self._elapsed = moment
            self._now += passed
            self._boot += passed
            self.moved()

    def _told(self) -> None:
        """A flag was set: whoever waits for it is to look."""
        with self._changed:
            self._changed.notify_all()


class _Flag(threading.Event):
    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def set(self) -> None:
        super().set()
        self._clock._told()

    def wait(self, timeout: float | None = None) -> bool:
        return self._clock._wait(self, math.inf if timeout is None else timeout)
