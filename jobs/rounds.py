"""What the records of its tasks say of an attempt: the last round of each, what failed, what still stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.tasks.savepoint import PREFIX

__all__ = ["failure_of", "latest_rounds", "not_undone", "reached_savepoints"]

_tasks = tables.job_tasks


def latest_rounds(
    connection: sa.Connection, rows: Sequence[sa.Row[Any]]
) -> dict[tuple[str, int], list[sa.Row[Any]]]:
    """Of each job's present attempt the last round of each task, in order of beginning."""
    if not rows:
        return {}
    attempts = {row.id: row.attempt for row in rows}
    query = sa.select(_tasks).where(_tasks.c.job.in_(attempts)).order_by(_tasks.c.job, _tasks.c.position)
    latest: dict[tuple[str, str], sa.Row[Any]] = {}
    for row in connection.execute(query):
        if row.attempt == attempts[row.job]:
            latest.pop((row.job, row.task), None)  # a later round stands where that one began
            latest[row.job, row.task] = row
    grouped: dict[tuple[str, int], list[sa.Row[Any]]] = defaultdict(list)
    for row in latest.values():
        grouped[row.job, row.attempt].append(row)
    return grouped


def failure_of(tasks: Iterable[sa.Row[Any]]) -> sa.Row[Any] | None:
    """The first that failed."""
    return next((task for task in tasks if task.how == "raised"), None)


def not_undone(tasks: Iterable[sa.Row[Any]]) -> list[str]:
    """Those that began and whose work stands, or stands half."""
    return [task.task for task in tasks if task.undo_ended_at is None]


def reached_savepoints(connection: sa.Connection, job: sa.Row[Any]) -> list[str]:
    """The savepoints that the job of that row has reached and not gone back behind, in order."""
    return [
        task.task.removeprefix(PREFIX)
        for task in latest_rounds(connection, [job]).get((job.id, job.attempt), [])
        if task.task.startswith(PREFIX) and task.how == "returned" and task.undo_ended_at is None
    ]
