"""Whether a run is overdue: a cancel was forwarded to it, its grace is over, and its tasks are still at work.

Told by its conductor, as well as it can be: what happens to the run does not wait for this to be stored.
"""

from __future__ import annotations

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.claims import Claim
from ebbtide.jobs.edges import record
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store

__all__ = ["clear_overdue", "mark_overdue"]

_jobs = tables.jobs
_tasks = tables.job_tasks


def mark_overdue(store: Store, claim: Claim, *, at: float, grace_seconds: float, actor: str) -> None:
    """Record it, with an entry that names the tasks at work, for as long as the run of `claim` lasts.

    Repeating changes nothing, and neither does a claim that is over. Every edge of the job takes it back.
    """
    with store.write() as connection:
        marked = connection.execute(
            sa.update(_jobs)
            .where(*_runs(claim), _jobs.c.overdue_at.is_(None))
            .values(overdue_at=at)
            .returning(_jobs.c.id)
        ).first()
        if marked is None:
            return
        at_work = sa.select(_tasks.c.task).where(
            _tasks.c.job == claim.job_id, _tasks.c.attempt == claim.attempt, _tasks.c.ended_at.is_(None)
        )
        detail = {
            "tasks": list(connection.scalars(at_work.order_by(_tasks.c.position))),
            "grace_seconds": grace_seconds,
        }
        record(connection, "overdue", claim.job_id, at=at, actor=actor, detail=detail)


def clear_overdue(store: Store, claim: Claim) -> None:
    """Take it back: the run executes nothing any more. A claim that is over is left alone."""
    with store.write() as connection:
        connection.execute(sa.update(_jobs).where(*_runs(claim)).values(overdue_at=None))


def _runs(claim: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        _jobs.c.id == claim.job_id,
        _jobs.c.epoch == claim.epoch,
        _jobs.c.state == JobState.RUNNING.value,
    )
