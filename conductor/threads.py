"""Runs in threads of the conductor's own process."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import select
import threading
from collections.abc import Iterator, Sequence

from ebbtide.conductor.capture import install
from ebbtide.conductor.execution import Execution
from ebbtide.conductor.ladder import Ladder, Rung
from ebbtide.conductor.options import RunOptions
from ebbtide.conductor.runners import AtRest, Ended, News, Overdue, Runners, Suspending, listening
from ebbtide.flows import Registry
from ebbtide.jobs import clock
from ebbtide.jobs.claims import Claim, Request
from ebbtide.jobs.store import Store
from ebbtide.tasks.wrapping import describe

__all__ = ["ThreadRunners"]


class ThreadRunners(Runners):
    """Threads of this process, for embedding and tests. Nothing ends a task that is deaf to its event: it
    is told to be overdue, and its cancel waits until it returns. Coroutines alone are cut off by `close`.

    Args:
        count: how many jobs at once.
    """

    def __init__(self, count: int, options: RunOptions, store: Store, registry: Registry) -> None:
        install(outputs=False)
        self._count = count
        self._options = options
        self._store = store
        self._registry = registry
        self.keys = frozenset(definition.key for definition in registry.definitions())
        # By claim: a job that was retried at once may run before its last run is quite over.
        self._running: dict[Claim, Execution] = {}
        self._threads: dict[Claim, threading.Thread] = {}
        self._ladders: dict[Claim, Ladder] = {}
        self._ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        self._suspending: list[Suspending] = []  # not told yet
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._waiting = select.poll()
        self._waiting.register(self._wake_reader, select.POLLIN)

    @property
    def idle(self) -> int:
        return self._count - len(self._running)

    def run(self, claim: Claim) -> bool:
        if not self.idle:
            return False
        execution = Execution(self._store, self._registry, claim, self._options)
        thread = threading.Thread(
            target=self._drive, args=(execution, claim), name="ebbtide-driver", daemon=True
        )
        self._running[claim] = execution
        self._threads[claim] = thread
        thread.start()
        return True

    def cancel(self, request: Request) -> bool:
        for claim, execution in self._running.items():
            if request.is_for(claim):
                if claim.cancel is None and claim not in self._ladders:
                    self._ladders[claim] = Ladder(kill_after_seconds=math.inf)
                execution.event.set(request.reason, request.source)
                return True
        return False

    def suspend(self) -> None:
        for claim, execution in self._running.items():
            execution.suspend()
            self._suspending.append(Suspending(claim))

    def pause(self, job_id: str, epoch: int) -> None:
        for claim, execution in self._running.items():
            if (claim.job_id, claim.epoch) == (job_id, epoch):
                execution.pause()

    def poll(self, seconds: float, *bells: int) -> Sequence[News]:
        with listening(self._waiting, bells):
            self._waiting.poll(seconds * 1000)
        return list(self._news())

    def _news(self) -> Iterator[News]:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_reader, 4096)
        suspending, self._suspending = self._suspending, []
        yield from suspending
        # Put before the pipe was written to: what woke us is there.
        while not self._ended.empty():
            ended = self._ended.get()
            self._running.pop(ended.claim)
            self._ladders.pop(ended.claim, None)
            self._threads.pop(ended.claim).join()
            yield ended
        yield from self._climb()

    def _climb(self) -> Iterator[News]:
        for claim, ladder in list(self._ladders.items()):
            grace = self._running[claim].bodies.told
            if grace is None:
                del self._ladders[claim]
                if ladder.rung is Rung.OVERDUE:
                    yield AtRest(claim)
            elif ladder.climb(grace):
                yield Overdue(claim, clock.wall(), grace)

    def hold_until(self, boot_seconds: float) -> None:
        """Nothing: threads cannot be ended, and end with this process."""

    def end_all(self) -> None:
        for execution in self._running.values():
            execution.give_up()

    def close(self) -> None:
        for execution in self._running.values():
            execution.cut_off()
        for thread in self._threads.values():
            thread.join()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _drive(self, execution: Execution, claim: Claim) -> None:
        try:
            ended = Ended(claim, execution.run())
        except BaseException as error:  # noqa: BLE001  # a fault of ours: taken up again, parks after three
            cause = describe(error, execution.redactor.redact)
            ended = Ended(claim, None, f"its run failed: {cause}")
        self._ended.put(ended)
        with contextlib.suppress(BlockingIOError):  # full: it wakes anyway
            os.write(self._wake_writer, b".")
