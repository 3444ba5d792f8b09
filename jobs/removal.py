"""Removal: all that is stored of a job goes, in one transaction, once it has ended.

That a job is to be removed stands in its row. Whoever stores its outcome removes it in the same transaction,
so that no crash comes between the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.states import FINAL_STATES

__all__ = ["remove", "remove_if_asked"]

_jobs = tables.jobs
_final = [state.value for state in FINAL_STATES]


def remove(connection: sa.Connection, job_ids: Sequence[str]) -> None:
    """Remove every row of these jobs, TaskFlow's too. Jobs that they have posted have no parent any
    more; the history of each still tells who it was.
    """
    if not job_ids:
        return
    connection.execute(sa.update(_jobs).where(_jobs.c.parent.in_(job_ids)).values(parent=None))
    for table in _tables_by_job():
        connection.execute(sa.delete(table).where(table.c.job.in_(job_ids)))
    _delete_logbooks(connection, job_ids)
    connection.execute(sa.delete(_jobs).where(_jobs.c.id.in_(job_ids)))


def remove_if_asked(connection: sa.Connection, job_ids: Sequence[str]) -> None:
    """Remove those of these jobs that have ended and were to be removed then."""
    asked = sa.select(_jobs.c.id).where(
        _jobs.c.id.in_(job_ids), _jobs.c.delete_requested_at.is_not(None), _jobs.c.state.in_(_final)
    )
    remove(connection, list(connection.scalars(asked)))


def _tables_by_job() -> list[sa.Table]:
    return [table for table in tables.metadata.sorted_tables if "job" in table.c]


def _delete_logbooks(connection: sa.Connection, books: Sequence[str]) -> None:
    # A logbook has its job's id. SQLite does not cascade TaskFlow's foreign keys: the children go first.
    flows = sa.select(tables.flowdetails.c.uuid).where(tables.flowdetails.c.parent_uuid.in_(books))
    connection.execute(sa.delete(tables.atomdetails).where(tables.atomdetails.c.parent_uuid.in_(flows)))
    connection.execute(sa.delete(tables.flowdetails).where(tables.flowdetails.c.parent_uuid.in_(books)))
    connection.execute(sa.delete(tables.logbooks).where(tables.logbooks.c.uuid.in_(books)))
