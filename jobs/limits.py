"""The limits of running jobs: found by the conductor that holds them, recorded as a request to stop.

Three limits, one way: the request is recorded like a cancel, under its own source, with those of the job's
children, and forwarded like one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ebbtide.errors import JobNotFound
from ebbtide.jobs import clock, tables
from ebbtide.jobs.cancelling import cancel_children
from ebbtide.jobs.cancels import DEADLINE, NO_PROGRESS, TASK_LIMIT, requested
from ebbtide.jobs.changes import locked
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.scripts import send
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store

__all__ = ["LimitWatch", "Passed"]

_jobs = tables.jobs
_tasks = tables.job_tasks


@dataclass(frozen=True)
class Passed:
    """A limit that a run has passed, of the job under that epoch."""

    job_id: str
    epoch: int
    source: str
    reason: str


class LimitWatch:
    """Looks at the running jobs of one conductor. Used by one thread.

    Whether a run makes progress is told by its commits, which are counted in its row, and is timed here: no
    clock but this process's own decides that. Another conductor that takes the job up begins to count anew.

    Args:
        seconds: a clock that only grows.
    """

    def __init__(self, store: Store, owner: str, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._owner = owner
        self._seconds = seconds
        self._seen: dict[tuple[str, int], tuple[int, float]] = {}  # the last write of a run, and since when

    def record(self) -> list[Passed]:
        """Record what has passed a limit; returns that. What was recorded before is not looked at again.

        Raises:
            StoreUnavailable: what is missing in the store is found again by the next call.
        """
        recorded = []
        for passed in self._found():
            with self._store.write() as connection:
                if self._store_it(connection, passed):
                    recorded.append(passed)
        return recorded

    def _found(self) -> list[Passed]:
        with self._store.read() as connection:
            rows = connection.execute(self._limited()).all()
            tasks = connection.execute(self._overstayed()).all()
        found = {row.id: passed for row in rows if (passed := self._passed(row)) is not None}
        for task in tasks:
            reason = f"{task.task} took longer than its limit, and did not stop"
            found.setdefault(task.id, Passed(task.id, task.epoch, TASK_LIMIT, reason))
        running = {(row.id, row.epoch) for row in rows}
        self._seen = {run: seen for run, seen in self._seen.items() if run in running}
        return list(found.values())

    def _passed(self, row: sa.Row[Any]) -> Passed | None:
        if row.late:
            reason = f"the job took longer than {row.limit_seconds:g} s"
            return Passed(row.id, row.epoch, DEADLINE, reason)
        if row.stall_seconds is None:
            return None
        now = self._seconds()
        write, since = self._seen.get((row.id, row.epoch), (None, now))
        if write != row.write:
            self._seen[row.id, row.epoch] = (row.write, now)
        elif now - since >= row.stall_seconds:
            reason = f"the job made no progress for {row.stall_seconds:g} s"
            return Passed(row.id, row.epoch, NO_PROGRESS, reason)
        return None

    def _limited(self) -> sa.Select[Any]:
        limited = sa.or_(_jobs.c.deadline_at.is_not(None), _jobs.c.stall_seconds.is_not(None))
        columns = (_jobs.c.id, _jobs.c.epoch, _jobs.c.write, _jobs.c.limit_seconds, _jobs.c.stall_seconds)
        late = sa.func.coalesce(_jobs.c.deadline_at <= WallNow(), sa.false()).label("late")
        return sa.select(*columns, late).where(*self._running(), limited)

    def _overstayed(self) -> sa.Select[Any]:
        """Tasks whose bodies have not ended by when they had to: their own event did not stop them.

        Only under the epoch in which they began: seconds since boot compare on one machine alone.
        """
        of_job = sa.and_(
            _tasks.c.job == _jobs.c.id,
            _tasks.c.attempt == _jobs.c.attempt,
            _tasks.c.epoch == _jobs.c.epoch,
        )
        return (
            sa.select(_jobs.c.id, _jobs.c.epoch, _tasks.c.task)
            .join(_tasks, of_job)
            .where(*self._running(), _tasks.c.ended_at.is_(None), _tasks.c.stop_by <= clock.boot_seconds())
            .order_by(_tasks.c.position)
        )

    def _running(self) -> Iterator[sa.ColumnElement[bool]]:
        """Ours, and neither stopped nor going backwards: an undo has limits of its own."""
        yield _jobs.c.owner == self._owner
        yield _jobs.c.state == JobState.RUNNING.value
        yield _jobs.c.cancel_requested_at.is_(None)
        yield _jobs.c.undoing == 0

    def _store_it(self, connection: sa.Connection, passed: Passed) -> bool:
        try:
            row = locked(connection, passed.job_id)
        except JobNotFound:
            return False
        same = (row.state, row.owner, row.epoch) == (JobState.RUNNING, self._owner, passed.epoch)
        if not same or row.cancel_requested_at is not None:
            return False  # it ended, or somebody has asked before
        now = clock.wall()
        send(connection, requested([row.id], now, passed.reason, self._owner, passed.source))
        # It is undone once they have ended, which they may never do by themselves.
        reason = "its parent has passed a limit"
        cancel_children(connection, [row.id], at=now, who=self._owner, reason=reason)
        return True
