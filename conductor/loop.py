"""The event loop of one run, in a thread of its own, for the tasks whose bodies are coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ebbtide.tasks.delivery import BodyLoop
from ebbtide.tasks.event import CancelEvent

__all__ = ["RunLoop"]

# How many bodies wait for the store at once. One commit takes along whatever else is to be stored then.
_BARRIER_THREADS = 32

Begin = Callable[[BodyLoop], Coroutine[Any, Any, Any]]


class RunLoop:
    """Starts its thread when the first coroutine comes. One for each run: nothing of a job outlives it here.

    `submit` and `close` are called by the thread that drives the engine.
    """

    def __init__(self, event: CancelEvent) -> None:
        self._event = event
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bodies: BodyLoop | None = None  # written by the thread of the loop, before anything runs in it
        self._tasks: set[asyncio.Task[None]] = set()
        self._barriers = ThreadPoolExecutor(_BARRIER_THREADS, thread_name_prefix="ebbtide-barrier")

    def submit(self, begin: Begin) -> Future[Any]:
        """Run what `begin` makes; until the loop has come to it, the future can be cancelled."""
        if self._loop is None:
            self._loop = self._started()
        future: Future[Any] = Future()
        self._loop.call_soon_threadsafe(self._start, begin, future)
        return future

    def _started(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        try:
            threading.Thread(target=self._run, args=(loop,), name="ebbtide-loop", daemon=True).start()
        except RuntimeError:  # the system has no thread to give, and may have one the next time
            loop.close()
            raise
        return loop

    def cut_off(self, before: Callable[[], None]) -> None:
        """Cancel the coroutines that run, if there are any, having called `before` in the loop's thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed: nothing runs in it
                self._loop.call_soon_threadsafe(self._cut_off, before)

    def _cut_off(self, before: Callable[[], None]) -> None:
        if self._tasks and self._bodies is not None:
            before()
            self._bodies.cut_off()

    def close(self) -> None:
        """Let the thread go. Does not wait for a body that is deaf to its event."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._barriers.shutdown(wait=False, cancel_futures=True)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            self._bodies = BodyLoop(runner.get_loop(), self._event, self._barriers)
            loop.run_forever()

    def _start(self, begin: Begin, future: Future[Any]) -> None:
        if future.set_running_or_notify_cancel():
            assert self._bodies is not None
            task = asyncio.get_running_loop().create_task(_settle(begin(self._bodies), future))
            self._tasks.add(task)  # the loop itself holds its tasks only weakly
            task.add_done_callback(self._tasks.discard)


async def _settle(coroutine: Coroutine[Any, Any, Any], future: Future[Any]) -> None:
    # In here: a task that cancels itself with its last breath would lose what it has returned.
    try:
        result = await coroutine
    except BaseException as error:  # noqa: BLE001  # whoever waits is to be told, whatever it is
        future.set_exception(error)
    else:
        future.set_result(result)
