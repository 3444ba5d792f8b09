"""What the records of its tasks say of an attempt: the last round of each, what failed, what still stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.tasks.savepoint import PREFIX

__all__ = [
    "failure_of",
    "latest_rounds",
    "left_out_before",
    "not_undone",
    "reached_savepoints",
    "undo_owed",
]

_tasks = tables.job_tasks


def latest_rounds(
    connection: sa.Connection, rows: Sequence[sa.Row[Any]]
) -> dict[tuple[str, int], list[sa.Row[Any]]]:
    """Of each job's present attempt the last round of each task, in order of beginning."""
    latest: dict[tuple[str, str], sa.Row[Any]] = {}
    for row in _of_attempts(connection, rows):
        latest.pop((row.job, row.task), None)  # a later round stands where that one began
        latest[row.job, row.task] = row
    return _grouped(latest.values())


def left_out_before(
    connection: sa.Connection, rows: Sequence[sa.Row[Any]]
) -> dict[tuple[str, int], list[sa.Row[Any]]]:
    """The same of earlier rounds whose undo a person has left out: after that the task began anew, on top of
    what stood.
    """
    later = _tasks.alias("later")
    began_anew = sa.exists().where(
        later.c.job == _tasks.c.job,
        later.c.attempt == _tasks.c.attempt,
        later.c.task == _tasks.c.task,
        later.c.round > _tasks.c.round,
    )
    left_out = (_tasks.c.undo_skipped.is_not(None), _tasks.c.undo_ended_at.is_(None))
    return _grouped(_of_attempts(connection, rows, *left_out, began_anew))


def _of_attempts(
    connection: sa.Connection, rows: Sequence[sa.Row[Any]], *conditions: sa.ColumnElement[bool]
) -> Iterator[sa.Row[Any]]:
    if not rows:
        return
    attempts = {row.id: row.attempt for row in rows}
    query = sa.select(_tasks).where(_tasks.c.job.in_(attempts), *conditions)
    for row in connection.execute(query.order_by(_tasks.c.job, _tasks.c.position)):
        if row.attempt == attempts[row.job]:
            yield row


def _grouped(tasks: Iterable[sa.Row[Any]]) -> dict[tuple[str, int], list[sa.Row[Any]]]:
    grouped: dict[tuple[str, int], list[sa.Row[Any]]] = defaultdict(list)
    for task in tasks:
        grouped[task.job, task.attempt].append(task)
    return grouped


def undo_owed(task: Any) -> bool:
    """Whether the undo of a task that began is still to be done: it is not, and nobody has left it out.

    Args:
        task: its row in one round, as the store or a run has it.
    """
    return task.undo_ended_at is None and task.undo_skipped is None


def failure_of(tasks: Iterable[sa.Row[Any]]) -> sa.Row[Any] | None:
    """The first that failed."""
    return next((task for task in tasks if task.how == "raised"), None)


def not_undone(tasks: Iterable[sa.Row[Any]]) -> list[str]:
    """Those that began and whose work stands, or stands half: its undo is owed, or was left out."""
    return list(dict.fromkeys(task.task for task in tasks if task.undo_ended_at is None))


def reached_savepoints(connection: sa.Connection, job: sa.Row[Any]) -> list[str]:
    """The savepoints that the job of that row has reached and not gone back behind, in order."""
    return [
        task.task.removeprefix(PREFIX)
        for task in latest_rounds(connection, [job]).get((job.id, job.attempt), [])
        if task.task.startswith(PREFIX) and task.how == "returned" and task.undo_ended_at is None
    ]
