"""The one place where a job's state is written, and where its history grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ebbtide.errors import ClaimLost, EdgeRefused, JobNotFound
from ebbtide.jobs import tables
from ebbtide.jobs.attempts import clock_stopped
from ebbtide.jobs.states import JobState, edge
from ebbtide.tasks import payload

__all__ = ["apply_edge", "insert_first_entry", "record"]

_jobs = tables.jobs


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
    changed = {"state": way.target.value, "entries": _jobs.c.entries + 1, "overdue_at": None}
    changed |= clock_stopped(source, way.target) | dict(values or {})
    row = connection.execute(sa.update(_jobs).where(*where).values(changed).returning(_jobs)).first()
    if row is None:
        raise _refusal(connection, name, job_id, epoch)
    _insert_entry(connection, row, name, at, actor, detail, source.value, way.target.value)
    return row


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


def insert_first_entry(connection: sa.Connection, row: sa.Row[Any], at: float, actor: str | None) -> None:
    """The entry of a job that was inserted just now, with ``entries = 1``."""
    _insert_entry(connection, row, "posted", at, actor, None, None, JobState.PENDING.value)


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
    connection.execute(
        sa.insert(tables.job_entries).values(
            job=row.id,
            number=row.entries,
            at=at,
            name=name,
            from_state=from_state,
            to_state=to_state,
            attempt=row.attempt,
            epoch=row.epoch,
            actor=actor,
            detail=payload.encode(dict(detail or {}), f"the detail of {name}"),
        )
    )
