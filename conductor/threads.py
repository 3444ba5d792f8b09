"""Runs in threads of the conductor's own process."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
from collections.abc import Iterator

from ebbtide.conductor.capture import install
from ebbtide.conductor.execution import Execution
from ebbtide.conductor.ladder import Ladder, Rung
from ebbtide.conductor.options import RunOptions
from ebbtide.conductor.runners import AtRest, Ended, News, Overdue, Runners
from ebbtide.flows import Registry
from ebbtide.jobs import clock
from ebbtide.jobs.claims import Claim, Request
from ebbtide.jobs.store import Store

__all__ = ["ThreadRunners"]


class ThreadRunners(Runners):
    """Threads of this process, for embedding and tests. Nothing ends a task that is deaf to its event: it
    is told to be overdue, and its cancel waits until it returns.

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
        self._running: dict[str, Execution] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._ladders: dict[str, Ladder] = {}
        self._ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()

    @property
    def idle(self) -> int:
        return self._count - len(self._running)

    def run(self, claim: Claim) -> None:
        execution = Execution(self._store, self._registry, claim, self._options)
        thread = threading.Thread(
            target=self._drive, args=(execution, claim), name="ebbtide-driver", daemon=True
        )
        self._running[claim.job_id] = execution
        self._threads[claim.job_id] = thread
        thread.start()

    def cancel(self, request: Request) -> bool:
        execution = self._running.get(request.job_id)
        if execution is None:
            return False
        if execution.claim.cancel is None and request.job_id not in self._ladders:
            self._ladders[request.job_id] = Ladder(kill_after_seconds=math.inf)
        execution.event.set(request.reason, request.source)
        return True

    def suspend(self) -> None:
        for execution in self._running.values():
            execution.suspend()

    def poll(self, seconds: float) -> Iterator[News]:
        with contextlib.suppress(queue.Empty):
            ended = self._ended.get(timeout=seconds)
            job_id = ended.claim.job_id
            self._running.pop(job_id)
            self._ladders.pop(job_id, None)
            self._threads.pop(job_id).join()
            yield ended
        yield from self._climb()

    def _climb(self) -> Iterator[News]:
        for job_id, ladder in list(self._ladders.items()):
            execution = self._running[job_id]
            grace = execution.bodies.told
            if grace is None:
                del self._ladders[job_id]
                if ladder.rung is Rung.OVERDUE:
                    yield AtRest(execution.claim)
            elif ladder.climb(grace):
                yield Overdue(execution.claim, clock.wall(), grace)

    def hold_until(self, boot_seconds: float) -> None:
        """Nothing: threads cannot be ended, and end with this process."""

    def end_all(self) -> None:
        self.suspend()

    def close(self) -> None:
        for execution in self._running.values():
            execution.suspend()
        for thread in self._threads.values():
            thread.join()

    def _drive(self, execution: Execution, claim: Claim) -> None:
        try:
            self._ended.put(Ended(claim, execution.run()))
        except BaseException as error:  # noqa: BLE001  # a fault of ours: taken up again, parks after three
            self._ended.put(Ended(claim, None, f"its run failed: {type(error).__name__}: {error}"))
