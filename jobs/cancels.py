"""The record of a request to stop a job: a person's cancel, or a limit that was passed; one an attempt.

Both go the same way: recorded, forwarded, delivered, undone. They differ in their source, which decides
how the attempt ends: what a person has cancelled ends cancelled, what was out of time ends failed. A cancel
that comes after a limit takes the place of its request: what is cancelled is not tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.edges import noted
from ebbtide.jobs.scripts import Among, Script, Statement, insert_from, new

__all__ = [
    "DEADLINE",
    "NO_PROGRESS",
    "TASK_LIMIT",
    "entry_of",
    "fulfilled",
    "is_limit",
    "limit_stops",
    "overruled",
    "recorded_since",
    "requested",
    "stopped_by_limit",
    "stopped_by_limits",
]

DEADLINE, TASK_LIMIT, NO_PROGRESS = "deadline", "task_limit", "no_progress"
_LIMITS = frozenset({DEADLINE, TASK_LIMIT, NO_PROGRESS})

_jobs = tables.jobs
_cancels = tables.job_cancels
# Forwarded and delivered it is later, if at all.
_FROM_JOB = {
    "job": _jobs.c.id,
    "attempt": _jobs.c.attempt,
    **{name: sa.null() for name in ("forwarded_at", "delivered_at")},
}
_INSERT_REQUESTS = insert_from(_cancels, _FROM_JOB, Among(_jobs.c.id))
_attempt = sa.select(_jobs.c.attempt).where(_jobs.c.id == _cancels.c.job).scalar_subquery()
_OVERRULE = Statement(
    sa.update(_cancels)
    .where(Among(_cancels.c.job), _cancels.c.attempt == _attempt)
    .values(
        {
            **new(["requested_at", "reason", "source", "who"]),
            # What the run was told of the limit it has heard of by now: it is being undone.
            **{
                name: sa.case((_cancels.c[name].is_not(None), sa.bindparam("new_requested_at")), else_=None)
                for name in ("forwarded_at", "delivered_at")
            },
        }
    )
)


def is_limit(source: str) -> bool:
    """Whether a request of that source is no person's wish, but a limit that was passed."""
    return source in _LIMITS


def requested(job_ids: Sequence[str], now: float, reason: str, who: str, source: str) -> Script:
    """What records the request of each job, with an entry. Whoever sends it has locked their rows, and found
    none in this attempt.
    """
    name, detail = entry_of(reason, source)
    noting = noted(name, job_ids, at=now, actor=who, detail=detail, when="cancel_requested_at")
    return [*_recorded(job_ids, now, reason, who, source, reverted_at=None), *noting]


def fulfilled(job_ids: Sequence[str], now: float, reason: str, who: str, source: str) -> Script:
    """The same where nothing has begun: all is undone with the request. Row and entry are the sender's."""
    return _recorded(job_ids, now, reason, who, source, reverted_at=now)


def overruled(job_ids: Sequence[str], now: float, reason: str, who: str, source: str) -> Script:
    """What puts a cancel in the place of a limit's request, with an entry. Whoever sends it has locked the
    rows of these jobs, and found them stopped by a limit.
    """
    name, detail = entry_of(reason, source)
    request = {"ids": job_ids, "requested_at": now, "reason": reason, "source": source, "who": who}
    noting = noted(name, job_ids, at=now, actor=who, detail=detail, when="cancel_requested_at")
    return [(_OVERRULE, [request]), *noting]


def entry_of(reason: str, source: str) -> tuple[str, dict[str, str]]:
    """Name and detail of the entry that tells of a request."""
    name = "limit_passed" if is_limit(source) else "cancel_requested"
    return name, {"reason": reason, "source": source}


def _recorded(
    job_ids: Sequence[str], now: float, reason: str, who: str, source: str, reverted_at: float | None
) -> Script:
    request = {"reason": reason, "source": source, "who": who, "requested_at": now}
    return [(_INSERT_REQUESTS, [request | {"ids": job_ids, "reverted_at": reverted_at}])]


def limit_stops() -> sa.ColumnElement[bool]:
    """Whether a job is being stopped, in this attempt, because a limit was passed."""
    return sa.exists().where(
        _cancels.c.job == _jobs.c.id, _cancels.c.attempt == _jobs.c.attempt, _cancels.c.source.in_(_LIMITS)
    )


def stopped_by_limit(connection: sa.Connection, row: sa.Row[Any]) -> bool:
    """The same of the job of that row."""
    return bool(stopped_by_limits(connection, [row]))


def stopped_by_limits(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> set[str]:
    """Those of the jobs of these rows that are being stopped so."""
    ids = [row.id for row in rows if row.cancel_requested_at is not None]
    if not ids:
        return set()
    return set(connection.scalars(sa.select(_jobs.c.id).where(Among(_jobs.c.id, ids), limit_stops())))


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
