"""TaskManager: plain coroutines in an asyncio program, which need no durability but an owner."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from ebbtide.errors import Conflict, EbbtideError, NotFound
from ebbtide.wording import one_line

__all__ = [
    "GroupEnd",
    "ManagedCancelled",
    "NotAccepting",
    "Statistics",
    "StreamEnd",
    "TaskExists",
    "TaskManager",
    "TaskStatus",
    "UnknownTask",
]

LOG = logging.getLogger(__name__)

_AGAIN_SECONDS = 0.5  # until what was cancelled and goes on is cancelled again

_T = TypeVar("_T")


class NotAccepting(Conflict):
    """The manager, or the group, takes nothing new."""


class TaskExists(Conflict):
    """A task of that id runs already."""


class UnknownTask(NotFound):
    """There is no task of that id, or it has ended long ago."""


class ManagedCancelled(EbbtideError):
    """The task that was waited for was cancelled. No CancelledError: nobody has cancelled who waits."""


class TaskStatus(enum.StrEnum):
    """Where a task is."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Statistics:
    """How many tasks, since the manager was made."""

    started: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    refused: int = 0
    running: int = 0
    streams: int = 0  # open now


@dataclass(frozen=True)
class StreamEnd:
    """The last item of a stream that was ended by the manager and not by its source."""

    reason: str


@dataclass(frozen=True)
class GroupEnd:
    """How the tasks of a group have ended: ids, and for failures what was raised."""

    completed: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    failures: dict[str, BaseException] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)  # not ended in time


@dataclass(eq=False)
class _Entry:
    id: str
    group: str | None
    task: asyncio.Task[Any]
    waiters: int = 0


class TaskManager:
    """Owns the coroutines that it starts. For one event loop; not for several threads.

        manager = TaskManager()
        manager.start("answer-1", answer(prompt), group="agents")
        result = await manager.wait("answer-1")
        await manager.shutdown(timeout=10)

    A task is held until it ends, so it is never collected half-way. One that fails while nobody waits for it
    is logged. The manager swallows no CancelledError: whoever is cancelled while he waits stops waiting, and
    the task that he waited for goes on.

    Args:
        name: how logs name this manager.
        keep: of how many ended tasks status and result are kept; and of so many in groups, how they ended.
    """

    def __init__(self, name: str = "tasks", *, keep: int = 1000) -> None:
        self._name = name
        self._keep = keep
        self._entries: dict[str, _Entry] = {}  # those that run
        self._ended: dict[str, asyncio.Task[Any]] = {}  # the newest last
        self._closed_groups: set[str] = set()
        # Group, id and task of those of a group that have ended, the newest last.
        self._group_ends: deque[tuple[str, str, asyncio.Task[Any]]] = deque(maxlen=keep)
        self._counts = dict.fromkeys(("started", "completed", "failed", "cancelled", "refused"), 0)
        self._streams = 0
        self._closing = ""  # why nothing new is taken
        self._told = asyncio.Event()  # set when streams are to end

    @property
    def accepting(self) -> bool:
        """Whether new tasks are taken."""
        return not self._closing

    @property
    def statistics(self) -> Statistics:
        return Statistics(**self._counts, running=len(self._entries), streams=self._streams)

    def start(self, task_id: str, coroutine: Coroutine[Any, Any, Any], *, group: str | None = None) -> None:
        """Run a coroutine under an id, which may be used again once it has ended.

        Raises:
            NotAccepting: the manager is shutting down, or the group was stopped.
            TaskExists: a task of that id runs.
        """
        refusal: EbbtideError | None = None
        if self._closing:
            refusal = NotAccepting(f"{self._name} takes no new task: {self._closing}")
        elif group in self._closed_groups:
            refusal = NotAccepting(f"group {one_line(str(group), 100)} takes no new task: it was stopped")
        elif task_id in self._entries:
            refusal = TaskExists(f"task {one_line(task_id, 100)} runs already: choose another id")
        if refusal is not None:
            coroutine.close()  # else Python warns that it was never awaited
            self._counts["refused"] += 1
            raise refusal
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self._name}:{task_id}")
        entry = self._entries[task_id] = _Entry(task_id, group, task)
        self._ended.pop(task_id, None)
        self._counts["started"] += 1
        task.add_done_callback(lambda done: self._end(entry))

    def status(self, task_id: str) -> TaskStatus:
        """Where the task is. Raises UnknownTask."""
        return _status_of(self._task(task_id))

    def cancel(self, task_id: str) -> bool:
        """Cancel a task, as asyncio does. False: it has ended already. Raises UnknownTask.

        Returns at once: `wait` tells when its cleanup is over.
        """
        return self._task(task_id).cancel()

    async def wait(self, task_id: str, timeout: float | None = None) -> Any:
        """What the task returned; or raises what it raised.

        Raises:
            UnknownTask: there is none.
            ManagedCancelled: it was cancelled.
            TimeoutError: `timeout` seconds have passed. The task goes on.
        """
        task = self._task(task_id)
        entry = self._entries.get(task_id)
        if entry is not None:
            entry.waiters += 1
        try:
            # Not `await task`: a cancel of the waiter would be passed on to the task.
            await asyncio.wait({task}, timeout=timeout)
        finally:
            if entry is not None and not task.done():
                entry.waiters -= 1
        if not task.done():
            raise TimeoutError(f"task {one_line(task_id, 100)} still runs after {timeout:g} seconds")
        if task.cancelled():
            raise ManagedCancelled(f"task {one_line(task_id, 100)} was cancelled")
        return task.result()

    async def stop_group(self, group: str, timeout: float | None = None) -> GroupEnd:
        """Take no new task into the group, and wait at most `timeout` seconds for those that are in it.

        Returns how those that were ever in it have ended, as far as that is kept: once all have, it is told
        and forgotten.
        """
        self._closed_groups.add(group)
        await self._wait_for(self._of(group), timeout)
        return self._group_end(group)

    async def cancel_group(self, group: str, timeout: float | None = None) -> GroupEnd:
        """As `stop_group`, but they are cancelled. A member that calls it is left out."""
        self._closed_groups.add(group)
        await self._cancel_all(self._of(group), timeout)
        return self._group_end(group)

    async def stream(self, source: AsyncIterator[_T]) -> AsyncIterator[_T | StreamEnd]:
        """The items of `source`. On a shutdown it ends with a `StreamEnd` for its last item, which says why.

        The source is closed in either case, also when whoever reads is cancelled or goes away.
        """
        self._streams += 1
        told = asyncio.ensure_future(self._told.wait())
        step: asyncio.Future[_T] | None = None
        try:
            while not self._told.is_set():
                step = asyncio.ensure_future(_next(source))
                await asyncio.wait({step, told}, return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    break
                try:
                    item = step.result()
                except StopAsyncIteration:
                    return
                yield item
            yield StreamEnd(self._closing)
        finally:
            self._streams -= 1
            told.cancel()
            await _close(source, step)

    async def shutdown(self, timeout: float, *, cancel_timeout: float = 5.0) -> Statistics:
        """Take nothing new, end the streams, wait `timeout` seconds for what runs; then cancel the rest and
        wait for its cleanup. A task that calls it is not waited for. May be called again.

        Args:
            cancel_timeout: seconds for the cleanup. What goes on after that is logged and left.
        """
        self._closing = self._closing or "it is shutting down"
        self._told.set()
        LOG.info("%s: accepts no more; %d tasks run", self._name, len(self._entries))
        await self._wait_for(self._entries.values(), timeout)
        LOG.info("%s: waited; %d tasks still run", self._name, len(self._entries))
        left = await self._cancel_all(self._entries.values(), cancel_timeout)
        if left:
            names = ", ".join(sorted(one_line(entry.id, 100) for entry in left))
            LOG.error("%s: tasks do not end although they are cancelled: %s", self._name, names)
        statistics = self.statistics
        counts = (f"{count} {word}" for word, count in asdict(statistics).items() if count)
        LOG.info("%s: shut down: %s", self._name, ", ".join(counts) or "it had no task")
        return statistics

    def _task(self, task_id: str) -> asyncio.Task[Any]:
        entry = self._entries.get(task_id)
        task = entry.task if entry is not None else self._ended.get(task_id)
        if task is None:
            raise UnknownTask(f"there is no task {one_line(task_id, 100)}, or it has ended long ago")
        return task

    def _of(self, group: str) -> list[_Entry]:
        return [entry for entry in self._entries.values() if entry.group == group]

    def _end(self, entry: _Entry) -> None:
        task = entry.task
        del self._entries[entry.id]
        self._ended[entry.id] = task
        if entry.group is not None:
            self._group_ends.append((entry.group, entry.id, task))
        while len(self._ended) > self._keep:
            del self._ended[next(iter(self._ended))]
        self._counts[_status_of(task).value] += 1
        if not task.cancelled() and (error := task.exception()) is not None and not entry.waiters:
            LOG.error("%s: task %s failed", self._name, one_line(entry.id, 100), exc_info=error)

    def _group_end(self, group: str) -> GroupEnd:
        end = GroupEnd(running=[entry.id for entry in self._of(group)])
        ends = [each for each in self._group_ends if each[0] == group]
        if not end.running:
            others = [each for each in self._group_ends if each[0] != group]
            self._group_ends = deque(others, maxlen=self._keep)
        for _, task_id, task in ends:
            match _status_of(task):
                case TaskStatus.COMPLETED:
                    end.completed.append(task_id)
                case TaskStatus.CANCELLED:
                    end.cancelled.append(task_id)
                case _:
                    error = task.exception()
                    assert error is not None
                    end.failures[task_id] = error
        return end

    async def _wait_for(self, entries: Iterable[_Entry], timeout: float | None) -> list[_Entry]:
        """Wait for others; returns those that have not ended in time."""
        others = [entry for entry in entries if entry.task is not asyncio.current_task()]
        if others:
            await asyncio.wait({entry.task for entry in others}, timeout=timeout)
        await asyncio.sleep(0)  # what is called when a task is done has been called then
        return [entry for entry in others if not entry.task.done()]

    async def _cancel_all(self, entries: Iterable[_Entry], timeout: float | None) -> list[_Entry]:
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        left = [entry for entry in entries if entry.task is not asyncio.current_task()]
        while left:
            for entry in left:
                entry.task.cancel()
            seconds = _AGAIN_SECONDS if deadline is None else min(_AGAIN_SECONDS, deadline - loop.time())
            left = await self._wait_for(left, max(0.0, seconds))
            if deadline is not None and loop.time() >= deadline:
                return left
        return left


def _status_of(task: asyncio.Task[Any]) -> TaskStatus:
    if not task.done():
        return TaskStatus.RUNNING
    if task.cancelled():
        return TaskStatus.CANCELLED
    return TaskStatus.COMPLETED if task.exception() is None else TaskStatus.FAILED


async def _next(source: AsyncIterator[_T]) -> _T:
    return await anext(source)


async def _close(source: AsyncIterator[Any], step: asyncio.Future[Any] | None) -> None:
    """End a step that is under way, and then its source."""
    if step is not None:
        step.cancel()
        await asyncio.wait({step})
        if not step.cancelled():
            step.exception()  # looked at: a StopAsyncIteration is told by nobody else
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
