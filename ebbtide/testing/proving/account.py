"""What the ledger says of a job, as the checks read it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.store import Store
from ebbtide.jobs.views import Views

__all__ = ["Account", "read_account"]


@dataclass(frozen=True)
class Account:
    """Plain JSON values: the fields of `Job`, `TaskRecord` and `Entry`, and the rows of outcomes."""

    job: dict[str, Any]
    tasks: list[dict[str, Any]]
    entries: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]

    @property
    def state(self) -> str:
        return str(self.job["state"])

    @property
    def requested_at(self) -> float | None:
        """When the cancel was requested, in unix seconds."""
        cancel = self.job["cancel"]
        return None if cancel is None else float(cancel["requested_at"])


def read_account(store: Store, job_id: str) -> Account:
    """All that is stored of a job."""
    views = Views(store)
    of = tables.job_outcomes
    with store.read() as connection:
        rows = connection.execute(sa.select(of.c.attempt, of.c.state, of.c.undo).where(of.c.job == job_id))
        outcomes = [dict(row._mapping) for row in rows]
    return Account(
        job=dataclasses.asdict(views.job(job_id)),
        tasks=[dataclasses.asdict(record) for record in views.tasks(job_id)],
        entries=[dataclasses.asdict(entry) for entry in views.entries(job_id)],
        outcomes=outcomes,
    )
