"""Reading the ledger: the conductors of a store, and what runs there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.moments import Era, LeaseNow
from ebbtide.jobs.queue import is_live
from ebbtide.jobs.records import Record
from ebbtide.jobs.states import JobState, phase_of
from ebbtide.jobs.store import Store

__all__ = ["ALIVE", "ENDED", "EXPIRED", "ConductorRecord", "HeldJob", "read_conductors"]

ALIVE, EXPIRED, ENDED = "alive", "expired", "ended"

_jobs = tables.jobs
_conductors = tables.conductors


@dataclass(frozen=True)
class HeldJob(Record):
    """A job that a conductor has claimed."""

    id: str
    flow: str
    version: int
    attempt: int
    phase: str


@dataclass(frozen=True)
class ConductorRecord(Record):
    """A conductor as the store knows it. Times are unix seconds of its own host.

    `state`: ``alive``: its lease runs. ``expired``: it fell silent, and others may take its jobs. ``ended``:
    it gave its lease up. `lease_left_seconds` is None unless it is alive. `clock_ahead_seconds` is by how
    much the clock of its host was before the store's when it came; None where that was not recorded.
    """

    id: str
    name: str
    host: str
    pid: int
    state: str
    started_at: float
    lease_left_seconds: float | None
    version: str | None
    clock_ahead_seconds: float | None
    isolation: str
    runners: int
    flows: list[str] = field(default_factory=list)
    jobs: list[HeldJob] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | {"jobs": [job.as_dict() for job in self.jobs]}


def read_conductors(store: Store, jobs_of: str | None = None) -> list[ConductorRecord]:
    """The conductors that the store remembers, the newest first; a day after its end one may be forgotten.

    Args:
        jobs_of: whose jobs are told of; None: everybody's.
    """
    query = sa.select(
        _conductors,
        is_live().label("live"),
        # Seconds of another boot do not compare with these.
        sa.case((_conductors.c.boot_id == Era(), _conductors.c.lease_until - LeaseNow())).label("left"),
    ).order_by(_conductors.c.started_at.desc(), _conductors.c.id)
    held = (
        sa.select(_jobs)
        .where(_jobs.c.state == JobState.RUNNING.value, _jobs.c.owner.is_not(None))
        .order_by(_jobs.c.started_at, _jobs.c.id)
    )
    if jobs_of is not None:
        held = held.where(_jobs.c.posted_by == jobs_of)
    with store.read() as connection:
        rows = connection.execute(query).all()
        jobs: dict[str, list[HeldJob]] = {row.id: [] for row in rows}
        for job in connection.execute(held):
            if job.owner in jobs:
                jobs[job.owner].append(_held(job))
    return [_conductor(row, jobs[row.id]) for row in rows]


def _conductor(row: sa.Row[Any], jobs: list[HeldJob]) -> ConductorRecord:
    state = ALIVE if row.live else ENDED if row.released_at is not None else EXPIRED
    return ConductorRecord(
        id=row.id,
        name=row.name,
        host=row.host,
        pid=row.pid,
        state=state,
        started_at=row.started_at,
        lease_left_seconds=row.left if state == ALIVE else None,
        version=row.version,
        clock_ahead_seconds=row.clock_ahead_seconds,
        isolation=row.isolation,
        runners=row.runners,
        flows=list(json.loads(row.flows)),
        jobs=jobs,
    )


def _held(row: sa.Row[Any]) -> HeldJob:
    return HeldJob(
        id=row.id,
        flow=row.flow,
        version=row.version,
        attempt=row.attempt,
        phase=str(
            phase_of(
                JobState.RUNNING,
                cancel_requested=row.cancel_requested_at is not None,
                due=True,
                undoing=bool(row.undoing),
                overdue=row.overdue_at is not None,
            )
        ),
    )
