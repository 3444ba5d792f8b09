"""What one commit of the journal writes, and the statements for it.

The statements are built once: a statement built anew for each write never hits SQLAlchemy's cache.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.edges import record
from ebbtide.jobs.states import JobState

__all__ = ["Batch", "fence", "write_rows"]

_jobs = tables.jobs
_tasks = tables.job_tasks
_flows = tables.flowdetails
_atoms = tables.atomdetails

_TASK_KEY = ("job", "attempt", "round", "task")
_ATOM_COLUMNS = (
    "state",
    "intention",
    "meta",
    "results",
    "failure",
    "revert_results",
    "revert_failure",
    "version",
)


def _update(table: sa.Table, key: tuple[str, ...], columns: tuple[str, ...]) -> sa.Update:
    # A bound name may not be a column's own name in an UPDATE's WHERE: hence the prefix.
    where = [table.c[name] == sa.bindparam(f"key_{name}") for name in key]
    return sa.update(table).where(*where).values({name: sa.bindparam(f"new_{name}") for name in columns})


_TASK_COLUMNS = tuple(column.name for column in _tasks.c if column.name not in _TASK_KEY)
_insert_task = sa.insert(_tasks)
_update_task = _update(_tasks, _TASK_KEY, _TASK_COLUMNS)
_insert_atom = sa.insert(_atoms)
_update_atom = _update(_atoms, ("uuid",), _ATOM_COLUMNS)
_update_flow = _update(_flows, ("uuid",), ("state", "meta"))
_insert_log = sa.insert(tables.job_logs)

# The fence: the last statement of every commit, so that its lock on the row is short. No row:
# another holder has raised the epoch, and this run may store nothing any more.
_FENCED = ("write", "begun", "tasks_total", "tasks_done", "tasks_undone", "undoing", "logs", "interruptions")
_fence = (
    sa.update(_jobs)
    .where(
        _jobs.c.id == sa.bindparam("key_id"),
        _jobs.c.epoch == sa.bindparam("key_epoch"),
        _jobs.c.state == JobState.RUNNING.value,
    )
    .values({name: sa.bindparam(f"new_{name}") for name in _FENCED})
    .returning(_jobs.c.cancel_requested_at)
)


@dataclass
class Batch:
    """Rows as dicts of columns; `job` are the counters for the job's row."""

    job_id: str
    attempt: int
    epoch: int
    job: dict[str, int] = field(default_factory=dict)
    logbook: dict[str, Any] | None = None
    flow: dict[str, Any] | None = None
    new_flow: dict[str, Any] | None = None
    new_atoms: list[dict[str, Any]] = field(default_factory=list)
    atoms: list[dict[str, Any]] = field(default_factory=list)
    new_tasks: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    logs: list[dict[str, Any]] = field(default_factory=list)
    delivered: tuple[str, float] | None = None
    beginning: set[str] = field(default_factory=set)

    @property
    def empty(self) -> bool:
        return not (
            self.new_flow
            or self.flow
            or self.new_atoms
            or self.atoms
            or self.new_tasks
            or self.tasks
            or self.logs
            or self.delivered
        )

    def without(self, begins: set[str]) -> None:
        """Drop the tasks that begin in this batch: a cancel was accepted before it could be stored."""
        self.new_tasks = [row for row in self.new_tasks if row["task"] not in begins]
        self.tasks = [row for row in self.tasks if row["task"] not in begins]
        self.beginning = set()


def write_rows(connection: sa.Connection, batch: Batch) -> None:
    """All rows of the batch but the job's own."""
    if batch.logbook is not None:
        connection.execute(sa.insert(tables.logbooks), batch.logbook)
    if batch.new_flow is not None:
        connection.execute(sa.insert(_flows), batch.new_flow)
    if batch.flow is not None:
        connection.execute(_update_flow, _bound(batch.flow, ("uuid",), ("state", "meta")))
    if batch.new_atoms:
        connection.execute(_insert_atom, batch.new_atoms)
    if batch.atoms:
        connection.execute(_update_atom, [_bound(row, ("uuid",), _ATOM_COLUMNS) for row in batch.atoms])
    owner = {"job": batch.job_id, "attempt": batch.attempt}
    if batch.new_tasks:
        connection.execute(_insert_task, [row | owner for row in batch.new_tasks])
    if batch.tasks:
        connection.execute(
            _update_task, [_bound(row | owner, _TASK_KEY, _TASK_COLUMNS) for row in batch.tasks]
        )
    if batch.logs:
        connection.execute(_insert_log, batch.logs)
    if batch.delivered is not None:
        _write_delivered(connection, batch)


def fence(connection: sa.Connection, batch: Batch) -> sa.Row[Any] | None:
    """Prove the claim and write the job's counters; the row tells whether a cancel was requested."""
    values = {f"new_{name}": batch.job[name] for name in _FENCED}
    return connection.execute(_fence, values | {"key_id": batch.job_id, "key_epoch": batch.epoch}).first()


def _write_delivered(connection: sa.Connection, batch: Batch) -> None:
    assert batch.delivered is not None
    task, at = batch.delivered
    cancels = tables.job_cancels
    first = connection.execute(
        sa.update(cancels)
        .where(
            cancels.c.job == batch.job_id,
            cancels.c.attempt == batch.attempt,
            cancels.c.delivered_at.is_(None),
        )
        .values(delivered_at=at)
        .returning(cancels.c.job)
    ).first()
    if first is not None:
        record(connection, "cancel_delivered", batch.job_id, at=at, detail={"task": task})


def _bound(row: dict[str, Any], key: tuple[str, ...], columns: tuple[str, ...]) -> dict[str, Any]:
    return {f"key_{name}": row[name] for name in key} | {f"new_{name}": row[name] for name in columns}
