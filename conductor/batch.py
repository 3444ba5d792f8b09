"""What one commit of the journal writes, and the statements for it.

What every commit sends is compiled once for each kind of database and sent as text. As expressions,
found in SQLAlchemy's cache, the same statements take four times as long, far more than SQLite
takes to obey them; a statement built anew for each write does not even hit that cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import sqlalchemy as sa
from oslo_serialization import jsonutils
from oslo_utils import timeutils
from taskflow import states as taskflow_states
from taskflow.persistence import models

from ebbtide.jobs import tables
from ebbtide.jobs.edges import record
from ebbtide.jobs.states import JobState

__all__ = ["Batch", "atom_row", "fence", "write_rows"]

_jobs = tables.jobs
_tasks = tables.job_tasks
_flows = tables.flowdetails
_atoms = tables.atomdetails

_Values = tuple[Any, ...] | dict[str, Any]


class _Statement:
    """A statement whose parameters are called `new_COLUMN` and `key_COLUMN`; rows come by column."""

    def __init__(self, expression: sa.Insert | sa.Update) -> None:
        self._expression = expression
        self._texts: dict[str, tuple[str, Callable[[Mapping[str, Any]], _Values]]] = {}  # by kind of database

    def send(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> sa.CursorResult[Any]:
        """Execute it for each of the rows."""
        known = self._texts.get(connection.dialect.name)
        if known is None:
            known = self._texts[connection.dialect.name] = self._compile(connection.dialect)
        text, arrange = known
        values = [arrange(row) for row in rows]
        return connection.exec_driver_sql(text, cast(Any, values[0] if len(values) == 1 else values))

    def _compile(self, dialect: sa.Dialect) -> tuple[str, Callable[[Mapping[str, Any]], _Values]]:
        compiled = self._expression.compile(dialect=dialect)
        names = compiled.positiontup or list(compiled.binds)
        columns = [name.removeprefix("new_").removeprefix("key_") for name in names]
        types = (compiled.binds[name].type.dialect_impl(dialect) for name in names)
        convert = [kind.bind_processor(dialect) for kind in types]
        binding = list(zip(columns, convert, strict=True))

        def arrange(row: Mapping[str, Any]) -> tuple[Any, ...]:
            return tuple(row[column] if to is None else to(row[column]) for column, to in binding)

        if compiled.positional:
            return compiled.string, arrange
        return compiled.string, lambda row: dict(zip(names, arrange(row), strict=True))


def _insert(table: sa.Table) -> _Statement:
    return _Statement(sa.insert(table).values(_new(column.name for column in table.c)))


def _update(table: sa.Table, key: tuple[str, ...], columns: Iterable[str]) -> sa.Update:
    # A bound name may not be a column's own name in an UPDATE's WHERE: hence the prefixes.
    where = [table.c[name] == sa.bindparam(f"key_{name}") for name in key]
    return sa.update(table).where(*where).values(_new(columns))


def _new(columns: Iterable[str]) -> dict[str, sa.BindParameter[Any]]:
    return {name: sa.bindparam(f"new_{name}") for name in columns}


# What the undo is given has to outlive a runner that dies in the undo.
_WITH_RESULT = (taskflow_states.SUCCESS, taskflow_states.REVERTING)

_TASK_KEY = ("job", "attempt", "round", "task")
_insert_task = _insert(_tasks)
_update_task = _Statement(
    _update(_tasks, _TASK_KEY, [column.name for column in _tasks.c if column.name not in _TASK_KEY])
)
_insert_logbook = _insert(tables.logbooks)
_insert_flow = _insert(_flows)
_insert_atom = _insert(_atoms)
_update_atom = _Statement(
    _update(
        _atoms,
        ("uuid",),
        (
            "updated_at",
            "state",
            "intention",
            "meta",
            "results",
            "failure",
            "revert_results",
            "revert_failure",
            "version",
        ),
    )
)
_update_flow = _Statement(_update(_flows, ("uuid",), ("updated_at", "state", "meta")))
_insert_log = _insert(tables.job_logs)

# The fence: the last statement of every commit, so that its lock on the row is short. No row:
# another holder has raised the epoch, and this run may store nothing any more.
_FENCED = ("write", "begun", "tasks_total", "tasks_done", "tasks_undone", "undoing", "logs", "interruptions")
_fence = _Statement(_update(_jobs, ("id", "epoch", "state"), _FENCED).returning(_jobs.c.cancel_requested_at))


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
    keep_logs_after: int = 0  # older lines make room
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

        # A row of an earlier round may be beside it: that one is undone, and stays.
        def stays(row: dict[str, Any]) -> bool:
            return row["task"] not in begins or row["undo_ended_at"] is not None

        self.new_tasks = list(filter(stays, self.new_tasks))
        self.tasks = list(filter(stays, self.tasks))
        self.beginning = set()


def write_rows(connection: sa.Connection, batch: Batch) -> None:
    """All rows of the batch but the job's own."""
    now = timeutils.utcnow()
    made, changed = {"created_at": now, "updated_at": None}, {"updated_at": now}
    if batch.logbook is not None:
        _insert_logbook.send(connection, [batch.logbook | made])
    if batch.new_flow is not None:
        _insert_flow.send(connection, [batch.new_flow | made])
    if batch.flow is not None:
        _update_flow.send(connection, [batch.flow | changed])
    if batch.new_atoms:
        _insert_atom.send(connection, [row | made for row in batch.new_atoms])
    if batch.atoms:
        _update_atom.send(connection, [row | changed for row in batch.atoms])
    owner = {"job": batch.job_id, "attempt": batch.attempt}
    if batch.new_tasks:
        _insert_task.send(connection, [row | owner for row in batch.new_tasks])
    if batch.tasks:
        _update_task.send(connection, [row | owner for row in batch.tasks])
    if batch.logs:
        _insert_log.send(connection, batch.logs)
        if batch.keep_logs_after > 0:
            old = (tables.job_logs.c.job == batch.job_id, tables.job_logs.c.number <= batch.keep_logs_after)
            connection.execute(sa.delete(tables.job_logs).where(*old))
    if batch.delivered is not None:
        _write_delivered(connection, batch)


def fence(connection: sa.Connection, batch: Batch) -> sa.Row[Any] | None:
    """Prove the claim and write the job's counters; the row tells whether a cancel was requested."""
    key = {"id": batch.job_id, "epoch": batch.epoch, "state": JobState.RUNNING.value}
    return _fence.send(connection, [batch.job | key]).first()


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


def atom_row(atom: models.AtomDetail, result_text: str | None) -> dict[str, Any]:
    """The row of an atom.

    Args:
        result_text: JSON of what its task returned, where it did.
    """
    row = {
        "uuid": atom.uuid,
        "name": atom.name,
        "atom_type": models.atom_detail_type(atom),
        "state": atom.state,
        "intention": atom.intention,
        "version": atom.version,
        "meta": jsonutils.dumps(atom.meta),
        "failure": atom.failure and jsonutils.dumps(atom.failure.to_dict()),
        "revert_failure": atom.revert_failure and jsonutils.dumps(atom.revert_failure.to_dict()),
        "revert_results": None if atom.revert_results is None else jsonutils.dumps(atom.revert_results),
    }
    if atom.state in _WITH_RESULT and result_text is not None:
        # As it was when the task returned: a later task may have changed the object since.
        row["results"] = result_text
    else:
        # As a dict: the results of a retry controller hold failures.
        row["results"] = None if atom.results is None else jsonutils.dumps(atom.to_dict()["results"])
    return row
