"""Holding: a task failed for good, nothing was undone, and the job is parked until a person decides.

It was posted so (`on_failure = hold`). It may go on at the task that failed, in the same attempt; be
cancelled, which undoes it; or be accepted as it is.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ebbtide.errors import EdgeRefused
from ebbtide.jobs import tables
from ebbtide.jobs.edges import apply_edge
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.states import JobState

__all__ = ["go_on", "holds", "let_undo", "set_back_failed"]

_parks = tables.job_parks
_tasks = tables.job_tasks


def holds(connection: sa.Connection, row: sa.Row[Any]) -> bool:
    """Whether the job of that row is parked since it holds, and for no other reason."""
    if row.state != JobState.PARKED:
        return False
    query = sa.select(_parks.c.held).where(_parks.c.job == row.id, _parks.c.attempt == row.attempt)
    return bool(connection.execute(query.order_by(_parks.c.number.desc()).limit(1)).scalar())


def go_on(connection: sa.Connection, row: sa.Row[Any], *, at: float, who: str) -> None:
    """Let it go on at what failed. `row` is the job's, locked.

    Raises:
        EdgeRefused: it does not hold.
    """
    if not holds(connection, row):
        raise EdgeRefused(row.id, row.state, "from_failure")
    set_back_failed(connection, row)
    _unpark(connection, row, at, who, {"from_failure": True})


def let_undo(connection: sa.Connection, row: sa.Row[Any], *, at: float, who: str) -> None:
    """Have it undone, since a cancel was recorded: it waits for nobody any more."""
    _unpark(connection, row, at, who, {})


def _unpark(connection: sa.Connection, row: sa.Row[Any], at: float, who: str, detail: dict[str, Any]) -> None:
    values = {"due_at": WallNow(), "interruptions": 0, "owner": None}
    apply_edge(connection, "unparked", row.id, at=at, values=values, actor=who, detail=detail)


def set_back_failed(connection: sa.Connection, row: sa.Row[Any]) -> None:
    """What failed begins again as if its runner had died in it: a body that did not return, in its round.

    Its undo is owed once, for all that it has done in that round, however often it began.
    """
    connection.execute(
        sa.update(_tasks)
        .where(
            _tasks.c.job == row.id,
            _tasks.c.attempt == row.attempt,
            _tasks.c.how == "raised",
            _tasks.c.undo_begun_at.is_(None),
        )
        .values(how="interrupted", error=None)
    )
