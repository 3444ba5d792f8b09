"""What one commit of the journal writes, and the statements for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from oslo_serialization import jsonutils
from oslo_utils import timeutils
from taskflow import states as taskflow_states
from taskflow.persistence import models

from ebbtide.jobs import tables
from ebbtide.jobs.edges import record
from ebbtide.jobs.scripts import Script, Statement, insert, new, send
from ebbtide.jobs.states import JobState

__all__ = ["WITH_RESULT", "Batch", "atom_row", "write_fenced", "write_unfenced"]

_jobs = tables.jobs
_tasks = tables.job_tasks
_flows = tables.flowdetails
_atoms = tables.atomdetails


def _update(table: sa.Table, key: tuple[str, ...], columns: Iterable[str]) -> sa.Update:
    # A bound name may not be a column's own name in an UPDATE's WHERE: hence the prefixes.
    where = [table.c[name] == sa.bindparam(f"key_{name}") for name in key]
    return sa.update(table).where(*where).values(new(columns))


# What the undo is given has to outlive a runner that dies in the undo, and an undo that fails. TaskFlow
# itself drops the result then.
WITH_RESULT = (taskflow_states.SUCCESS, taskflow_states.REVERTING, taskflow_states.REVERT_FAILURE)

_TASK_KEY = ("job", "attempt", "round", "task")
_insert_task = insert(_tasks)
_update_task = Statement(
    _update(_tasks, _TASK_KEY, [column.name for column in _tasks.c if column.name not in _TASK_KEY])
)
_insert_logbook = insert(tables.logbooks)
_insert_flow = insert(_flows)
_insert_atom = insert(_atoms)
_update_atom = Statement(
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
_update_flow = Statement(_update(_flows, ("uuid",), ("updated_at", "state", "meta")))
_insert_log = insert(tables.job_logs)
_delete_old_logs = Statement(
    sa.delete(tables.job_logs).where(
        tables.job_logs.c.job == sa.bindparam("key_job"),
        tables.job_logs.c.number <= sa.bindparam("key_number"),
    )
)

_insert_chunks = insert(tables.job_chunks)
_delete_old_chunks = Statement(
    sa.delete(tables.job_chunks).where(
        tables.job_chunks.c.job == sa.bindparam("key_job"),
        tables.job_chunks.c.number <= sa.bindparam("key_number"),
    )
)

# The fence: the last statement of every commit, so that its lock on the row is short. No row:
# another holder has raised the epoch, and this run may store nothing any more.
_FENCED = ("write", "begun", "tasks_total", "tasks_done", "tasks_undone", "undoing", "logs", "interruptions")
_fence = Statement(_update(_jobs, ("id", "epoch", "state"), _FENCED).returning(_jobs.c.cancel_requested_at))


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
    chunks: list[dict[str, Any]] = field(default_factory=list)
    keep_chunks_after: int = 0  # as above
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
            or self.chunks
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


def write_fenced(connection: sa.Connection, batch: Batch) -> sa.Row[Any] | None:
    """Write all of the batch, the fence last.

    Returns:
        A row that tells whether a cancel was requested; None: the claim is lost, so roll back.
    """
    _write_delivered(connection, batch)
    key = {"id": batch.job_id, "epoch": batch.epoch, "state": JobState.RUNNING.value}
    return send(connection, [*_script_of(batch), (_fence, [batch.job | key])]).first()


def write_unfenced(connection: sa.Connection, batch: Batch) -> None:
    """Write all of the batch but the job's own row, which an edge is to prove and write after it."""
    _write_delivered(connection, batch)
    script = _script_of(batch)
    if script:
        send(connection, script)


def _script_of(batch: Batch) -> Script:
    now = timeutils.utcnow()
    made, changed = {"created_at": now, "updated_at": None}, {"updated_at": now}
    owner = {"job": batch.job_id, "attempt": batch.attempt}
    old_logs = {"job": batch.job_id, "number": batch.keep_logs_after}
    old_chunks = {"job": batch.job_id, "number": batch.keep_chunks_after}
    script: Script = [
        (_insert_logbook, [batch.logbook | made] if batch.logbook is not None else []),
        (_insert_flow, [batch.new_flow | made] if batch.new_flow is not None else []),
        (_update_flow, [batch.flow | changed] if batch.flow is not None else []),
        (_insert_atom, [row | made for row in batch.new_atoms]),
        (_update_atom, [row | changed for row in batch.atoms]),
        (_insert_task, [row | owner for row in batch.new_tasks]),
        (_update_task, [row | owner for row in batch.tasks]),
        (_insert_log, batch.logs),
        (_delete_old_logs, [old_logs] if batch.logs and batch.keep_logs_after > 0 else []),
        (_insert_chunks, batch.chunks),
        (_delete_old_chunks, [old_chunks] if batch.keep_chunks_after > 0 else []),
    ]
    return [(statement, rows) for statement, rows in script if rows]


def _write_delivered(connection: sa.Connection, batch: Batch) -> None:
    if batch.delivered is None:
        return
    task, at = batch.delivered
    cancels = tables.job_cancels
    # Found at a barrier, and handed over only after that: it had come to the run by then, as in `forwarded`.
    heard_after = cancels.c.forwarded_at > at
    # The job's row first, as everywhere: two who lock in two orders wait for one another.
    connection.execute(sa.select(_jobs.c.id).where(_jobs.c.id == batch.job_id).with_for_update())
    first = connection.execute(
        sa.update(cancels)
        .where(
            cancels.c.job == batch.job_id,
            cancels.c.attempt == batch.attempt,
            cancels.c.delivered_at.is_(None),
        )
        .values(delivered_at=at, forwarded_at=sa.case((heard_after, at), else_=cancels.c.forwarded_at))
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
    if atom.state in WITH_RESULT and result_text is not None:
        # As it was when the task returned: a later task may have changed the object since.
        row["results"] = result_text
    else:
        # As a dict: the results of a retry controller hold failures.
        row["results"] = None if atom.results is None else jsonutils.dumps(atom.to_dict()["results"])
    return row
