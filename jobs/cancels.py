"""The record of a request to stop a job: a person's cancel, or a limit that was passed; one an attempt.

Both go the same way: recorded, forwarded, delivered, undone. They differ in their source, which decides
how the attempt ends: what a person has cancelled ends cancelled, what was out of time ends failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.edges import record_of_all

__all__ = [
    "DEADLINE",
    "NO_PROGRESS",
    "TASK_LIMIT",
    "is_limit",
    "recorded_since",
    "stopped_by_limit",
    "store_requests",
]

DEADLINE, TASK_LIMIT, NO_PROGRESS = "deadline", "task_limit", "no_progress"
_LIMITS = frozenset({DEADLINE, TASK_LIMIT, NO_PROGRESS})

_jobs = tables.jobs
_cancels = tables.job_cancels


def is_limit(source: str) -> bool:
    """Whether a request of that source is no person's wish, but a limit that was passed."""
    return source in _LIMITS


def store_requests(
    connection: sa.Connection, job_ids: Sequence[str], now: float, reason: str, who: str, source: str
) -> None:
    """Record the request of each job, with an entry. Their rows are locked, and have none in this attempt."""
    values = {
        "job": _jobs.c.id,
        "attempt": _jobs.c.attempt,
        "reason": sa.literal(reason, sa.Text),
        "source": sa.literal(source, sa.Text),
        "who": sa.literal(who, sa.Text),
        "requested_at": sa.literal(now, sa.Float),
    }
    requests = sa.select(*values.values()).where(_jobs.c.id.in_(job_ids))
    connection.execute(sa.insert(_cancels).from_select(list(values), requests))
    name = "limit_passed" if is_limit(source) else "cancel_requested"
    detail = {"reason": reason, "source": source}
    asked = {"cancel_requested_at": now}
    record_of_all(connection, name, job_ids, at=now, actor=who, detail=detail, values=asked)


def stopped_by_limit(connection: sa.Connection, row: sa.Row[Any]) -> bool:
    """Whether the job of that row is being stopped, in this attempt, because a limit was passed."""
    if row.cancel_requested_at is None:
        return False
    query = sa.select(_cancels.c.source).where(_cancels.c.job == row.id, _cancels.c.attempt == row.attempt)
    return is_limit(connection.execute(query).scalar_one())


def recorded_since(
    connection: sa.Connection, job_id: str, reason: str, who: str, source: str, since: float
) -> bool:
    """Whether such a request was recorded after that moment, in whichever attempt."""
    query = sa.select(_cancels.c.attempt).where(
        _cancels.c.job == job_id,
        _cancels.c.reason == reason,
        _cancels.c.who == who,
        _cancels.c.source == source,
        _cancels.c.requested_at >= since,
    )
    return connection.execute(query.limit(1)).first() is not None
