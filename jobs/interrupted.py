"""What is recorded of tasks whose runner died, and of undos for which it had to be ended."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from ebbtide.jobs import clock, tables

__all__ = ["UNBUILT", "mark_interrupted", "record_hung", "unended", "why_ended"]

#: Stands for the name of a task where it was no undo that hung, but the making of the flow before it.
UNBUILT = "the flow itself"

_tasks = tables.job_tasks


def mark_interrupted(connection: sa.Connection, job_id: str, attempt: int) -> None:
    """Who began and was not heard of again was interrupted: its runner is dead, or had to stop."""
    connection.execute(
        sa.update(_tasks)
        .where(_tasks.c.job == job_id, _tasks.c.attempt == attempt, _tasks.c.ended_at.is_(None))
        .values(ended_at=clock.wall(), how="interrupted")
    )


def record_hung(
    connection: sa.Connection, job_id: str, attempt: int, hung: Mapping[str, str]
) -> dict[str, str]:
    """Count a failure of each of these undos, and say how it failed; returns those that are no task's."""
    for task, told in hung.items():
        connection.execute(
            sa.update(_tasks)
            .where(
                _tasks.c.job == job_id,
                _tasks.c.attempt == attempt,
                _tasks.c.task == task,
                _tasks.c.undo_begun_at.is_not(None),
                _tasks.c.undo_ended_at.is_(None),
            )
            .values(undo_failures=_tasks.c.undo_failures + 1, undo_error=told)
        )
    began = sa.select(_tasks.c.task).where(
        _tasks.c.job == job_id, _tasks.c.attempt == attempt, _tasks.c.task.in_(hung)
    )
    known = set(connection.scalars(began)) if hung else set()
    return {what: told for what, told in hung.items() if what not in known}


def why_ended(hung: Mapping[str, str]) -> str:
    """In words, for log and history: what the runner that was ended for these was at."""
    named = {UNBUILT: "the making of its flow"}
    return "; ".join(f"{named.get(what, f'the undo of {what}')}: {told}" for what, told in hung.items())


def unended(connection: sa.Connection, job_id: str, attempt: int) -> list[str]:
    """The tasks of an attempt that began, or whose undo began, and of which nothing more was heard."""
    open_body = _tasks.c.ended_at.is_(None)
    open_undo = sa.and_(_tasks.c.undo_begun_at.is_not(None), _tasks.c.undo_ended_at.is_(None))
    query = (
        sa.select(_tasks.c.task)
        .where(_tasks.c.job == job_id, _tasks.c.attempt == attempt, sa.or_(open_body, open_undo))
        .order_by(_tasks.c.position)
    )
    return list(connection.scalars(query))
