"""Parking: a job waits for a person. Who parks it says why; who accepts it as it is says why, too."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ebbtide.errors import EdgeRefused, UsageError
from ebbtide.jobs import tables
from ebbtide.jobs.cancels import stopped_by_limit
from ebbtide.jobs.edges import apply_edge
from ebbtide.jobs.removal import remove_if_asked
from ebbtide.jobs.rounds import failure_of, latest_rounds, left_out_before, not_undone, undo_owed
from ebbtide.jobs.states import JobState
from ebbtide.wording import one_line

__all__ = ["accept", "let_try_again", "park", "skip_undo", "undos_that_failed"]

_parks = tables.job_parks
_MAX_LISTED = 1000


def park(
    connection: sa.Connection,
    job_id: str,
    *,
    epoch: int,
    at: float,
    reason: str,
    task: str | None,
    actor: str | None,
    error: str | None = None,
    error_task: str | None = None,
    held: bool = False,
) -> None:
    """Apply the edge `parked` under `epoch`, naming the reason and the task, if one is to blame.

    `error` and `error_task` are what the outcome would have named, had the undo succeeded. `held` says that
    nothing of it was tried: the job holds, unless a cancel was requested before.

    Raises:
        EdgeRefused: it was to hold, and a cancel request came first.
    """
    row = apply_edge(
        connection,
        "parked",
        job_id,
        at=at,
        epoch=epoch,
        conditions=(tables.jobs.c.cancel_requested_at.is_(None),) if held else (),
        values={"owner": None},
        actor=actor,
        detail={"reason": reason, "task": task},
    )
    connection.execute(
        sa.insert(_parks).values(
            job=job_id,
            attempt=row.attempt,
            number=row.entries,
            reason=reason,
            task=task,
            error=error,
            error_task=error_task,
            parked_at=at,
            held=int(held),
        )
    )


def accept(connection: sa.Connection, job: sa.Row[Any], *, at: float, reason: str, who: str) -> None:
    """End a parked job as it is: cancelled if a person had asked for that, else failed.

    `job` is its row, locked. The request, if any, stays without the time of its undo: there was none. A job
    that was to be deleted is removed.

    Raises:
        EdgeRefused: it is not parked.
    """
    if job.state != JobState.PARKED:
        raise EdgeRefused(job.id, job.state, "accepted")
    tasks = latest_rounds(connection, [job]).get((job.id, job.attempt), [])
    left_out = left_out_before(connection, [job]).get((job.id, job.attempt), [])
    error, error_task = _why(connection, job, tasks)
    cancelled = job.cancel_requested_at is not None and not stopped_by_limit(connection, job)
    row = apply_edge(
        connection,
        "accepted_as_cancelled" if cancelled else "accepted_as_failed",
        job.id,
        at=at,
        values={"owner": None, "ended_at": at, "undo": "accepted", "undoing": 0},
        actor=who,
        detail={"reason": reason, "not_undone": not_undone([*left_out, *tasks])[:_MAX_LISTED]},
    )
    connection.execute(
        sa.insert(tables.job_outcomes).values(
            job=job.id,
            attempt=job.attempt,
            state=row.state,
            undo=row.undo,
            error=error,
            error_task=error_task,
            ended_at=at,
        )
    )
    remove_if_asked(connection, [job.id])


def let_try_again(connection: sa.Connection, job: sa.Row[Any]) -> None:
    """Whatever could not be undone has all its tries once more. `job` is its row, locked."""
    tasks = tables.job_tasks
    connection.execute(
        sa.update(tasks)
        .where(tasks.c.job == job.id, tasks.c.attempt == job.attempt, tasks.c.undo_ended_at.is_(None))
        .values(undo_failures=0)
    )


def undos_that_failed(connection: sa.Connection, job: sa.Row[Any]) -> dict[str, int]:
    """Of a parked job the tasks whose undo can be left out, each with its round. `job` is its row."""
    return {
        each.task: each.round
        for each in latest_rounds(connection, [job]).get((job.id, job.attempt), [])
        if each.undo_begun_at is not None and undo_owed(each)
    }


def skip_undo(connection: sa.Connection, job: sa.Row[Any], task: str, reason: str) -> None:
    """Leave an undo out that has failed: whoever goes on takes it for done. `job` is its row, locked.

    Raises:
        UsageError: none of that name has.
    """
    tasks = tables.job_tasks
    failed = undos_that_failed(connection, job)
    if task not in failed:
        told = ", ".join(one_line(name, 110) for name in failed) or "none"
        raise UsageError(f"no undo of '{one_line(task, 110)}' has failed in job {job.id} (failed: {told})")
    connection.execute(
        sa.update(tasks)
        .where(
            tasks.c.job == job.id,
            tasks.c.attempt == job.attempt,
            tasks.c.task == task,
            tasks.c.round == failed[task],
        )
        .values(undo_skipped=reason)
    )


def _why(
    connection: sa.Connection, job: sa.Row[Any], tasks: list[sa.Row[Any]]
) -> tuple[str | None, str | None]:
    """The error of the outcome and its task: what had failed; for a failed job at least why it was parked."""
    query = sa.select(_parks).where(_parks.c.job == job.id, _parks.c.attempt == job.attempt)
    parked = connection.execute(query.order_by(_parks.c.number.desc()).limit(1)).first()
    if parked is not None and parked.error is not None:
        return parked.error, parked.error_task
    failed = failure_of(tasks)
    if failed is not None:
        return failed.error, failed.task
    if parked is not None and job.cancel_requested_at is None:
        return parked.reason, parked.task
    return None, None
