"""The one place where a job's state is written, and where its history grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ebbtide.errors import ClaimLost, EdgeRefused, JobNotFound
from ebbtide.jobs import tables
from ebbtide.jobs.attempts import clock_stopped
from ebbtide.jobs.scripts import Among, Script, Statement, insert, insert_from, new, send
from ebbtide.jobs.states import FINAL_STATES, Edge, JobState, edge
from ebbtide.tasks import payload

__all__ = ["apply_edge", "apply_edge_to_all", "insert_first_entry", "moved_together", "noted", "record"]

_jobs = tables.jobs
_entries = tables.job_entries
_INSERT_ENTRY = insert(_entries)
_FROM_JOB = {"job": _jobs.c.id, "number": _jobs.c.entries, "attempt": _jobs.c.attempt, "epoch": _jobs.c.epoch}
_INSERT_ENTRIES = insert_from(_entries, _FROM_JOB, Among(_jobs.c.id))
_INSERT_LAST_BUT_ONE = insert_from(_entries, _FROM_JOB | {"number": _jobs.c.entries - 1}, Among(_jobs.c.id))
# By the column that takes the time of what is noted.
_NOTE = {
    when: Statement(
        sa.update(_jobs).where(Among(_jobs.c.id)).values({"entries": _jobs.c.entries + 1, **new([when])})
    )
    for when in ("cancel_requested_at", "delete_requested_at", "pause_requested_at")
}


def apply_edge(
    connection: sa.Connection,
    name: str,
    job_id: str,
    *,
    at: float,
    source: JobState | None = None,
    epoch: int | None = None,
    conditions: tuple[sa.ColumnElement[bool], ...] = (),
    values: Mapping[str, Any] | None = None,
    actor: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> sa.Row[Any]:
    """Move a job along the edge `name` and write the entry of its history, in the caller's transaction.

    One conditional UPDATE decides: the job is in `source` (default: the edge's only source), under
    `epoch` when the holder writes, and fulfils `conditions`. `values` are further columns of the
    row, as constants or expressions. Whatever the edge, the run that was overdue is over.

    Returns:
        The row as it is afterwards.

    Raises:
        EdgeRefused, JobNotFound, ClaimLost: see `_refusal`. Nothing was written; roll back.
    """
    way = edge(name)
    if source is None:
        (source,) = way.sources
    elif source not in way.sources:
        raise _refusal(connection, name, job_id, epoch)
    where = [_jobs.c.id == job_id, _jobs.c.state == source.value, *conditions]
    if epoch is not None:
        where.append(_jobs.c.epoch == epoch)
    row = connection.execute(
        sa.update(_jobs).where(*where).values(_moved(way, source) | dict(values or {})).returning(_jobs)
    ).first()
    if row is None:
        raise _refusal(connection, name, job_id, epoch)
    _insert_entry(connection, row, name, at, actor, detail, source.value, way.target.value)
    return row


def apply_edge_to_all(
    connection: sa.Connection,
    name: str,
    job_ids: Sequence[str],
    *,
    at: float,
    source: JobState,
    values: Mapping[str, Any] | None = None,
    actor: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """`apply_edge` for many jobs, in two statements. The caller has locked them and found them in `source`.

    Raises:
        RuntimeError: one of them is not there: the caller did not look, or does not hold the lock.
    """
    if job_ids:
        script = moved_together(
            connection, name, job_ids, at=at, source=source, values=values, actor=actor, detail=detail
        )
        send(connection, script)


def moved_together(
    connection: sa.Connection,
    name: str,
    job_ids: Sequence[str],
    *,
    at: float,
    source: JobState,
    values: Mapping[str, Any] | None = None,
    actor: str | None = None,
    detail: Mapping[str, Any] | None = None,
    noting: tuple[str, Mapping[str, Any]] | None = None,
) -> Script:
    """Move many jobs, as `apply_edge_to_all` does; returns what writes their entries, for the caller to send.

    Args:
        noting: name and detail of an entry that changes no state and comes before that of the edge.
    """
    way = edge(name)
    if source not in way.sources:
        raise RuntimeError(f"{name} does not begin at {source}")
    more = {} if noting is None else {"entries": _jobs.c.entries + 2}
    moved = connection.execute(
        sa.update(_jobs)
        .where(Among(_jobs.c.id, job_ids), _jobs.c.state == source.value)
        .values(_moved(way, source) | more | dict(values or {}))
    )
    if moved.rowcount != len(job_ids):
        raise RuntimeError(f"{name}: {moved.rowcount} of {len(job_ids)} jobs are {source}")
    script = _entries_of(job_ids, name, at, actor, detail, source.value, way.target.value)
    if noting is None:
        return script
    ((_, rows),) = _entries_of(job_ids, noting[0], at, actor, noting[1], None, None)
    return [(_INSERT_LAST_BUT_ONE, rows), *script]


def _moved(way: Edge, source: JobState) -> dict[str, Any]:
    """What every edge changes in the row.

    An exclusive key is held from the claim until all is undone: through a crash, a pause and a park. Where
    nothing has begun there is nothing that it would protect, so that nobody waits for a job that waits.
    """
    values: dict[str, Any] = {
        "state": way.target.value,
        "entries": _jobs.c.entries + 1,
        "overdue_at": None,
    }
    values |= clock_stopped(source, way.target)
    if way.target in FINAL_STATES or way.name == "retry_scheduled":
        values["held_key"] = None
    elif source is JobState.RUNNING and way.target is not JobState.RUNNING:
        values["held_key"] = sa.case((_jobs.c.begun == 0, None), else_=_jobs.c.held_key)
    return values


def _refusal(connection: sa.Connection, name: str, job_id: str, epoch: int | None) -> Exception:
    """Why a conditional update met no row: the job is unknown, has another holder, or is in another state."""
    row = connection.execute(sa.select(_jobs.c.state, _jobs.c.epoch).where(_jobs.c.id == job_id)).first()
    if row is None:
        return JobNotFound(job_id)
    if epoch is not None and row.epoch != epoch:
        return ClaimLost(job_id, epoch)
    return EdgeRefused(job_id, row.state, name)


def record(
    connection: sa.Connection,
    name: str,
    job_id: str,
    *,
    at: float,
    actor: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write an entry that changes no state, such as ``cancel_requested``."""
    row = connection.execute(
        sa.update(_jobs).where(_jobs.c.id == job_id).values(entries=_jobs.c.entries + 1).returning(_jobs)
    ).first()
    if row is None:
        raise JobNotFound(job_id)
    _insert_entry(connection, row, name, at, actor, detail, None, None)


def noted(
    name: str,
    job_ids: Sequence[str],
    *,
    at: float,
    actor: str | None = None,
    detail: Mapping[str, Any] | None = None,
    when: str,
) -> Script:
    """What writes an entry that changes no state for each of these jobs, whose rows the sender has locked.

    Args:
        when: the column of their rows that takes the time.
    """
    row = {"ids": job_ids, when: at}
    return [(_NOTE[when], [row]), *_entries_of(job_ids, name, at, actor, detail, None, None)]


def insert_first_entry(
    connection: sa.Connection,
    row: sa.Row[Any],
    at: float,
    actor: str | None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """The entry of a job that was inserted just now, with ``entries = 1``."""
    _insert_entry(connection, row, "posted", at, actor, detail, None, JobState.PENDING.value)


def _entries_of(
    job_ids: Sequence[str],
    name: str,
    at: float,
    actor: str | None,
    detail: Mapping[str, Any] | None,
    from_state: str | None,
    to_state: str | None,
) -> Script:
    """One entry for each of the jobs, as their rows are then."""
    row = {
        "ids": job_ids,
        "at": at,
        "name": name,
        "from_state": from_state,
        "to_state": to_state,
        "actor": actor,
        "detail": payload.encode(dict(detail or {}), f"the detail of {name}"),
    }
    return [(_INSERT_ENTRIES, [row])]


def _insert_entry(
    connection: sa.Connection,
    row: sa.Row[Any],
    name: str,
    at: float,
    actor: str | None,
    detail: Mapping[str, Any] | None,
    from_state: str | None,
    to_state: str | None,
) -> None:
    entry = {
        "job": row.id,
        "number": row.entries,
        "at": at,
        "name": name,
        "from_state": from_state,
        "to_state": to_state,
        "attempt": row.attempt,
        "epoch": row.epoch,
        "actor": actor,
        "detail": payload.encode(dict(detail or {}), f"the detail of {name}"),
    }
    send(connection, [(_INSERT_ENTRY, [entry])])
