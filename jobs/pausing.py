"""What clients change between running and not: pause, resume, rewind; of jobs, and of whole flows.

Each is one transaction, committed before it returns.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ebbtide.errors import EdgeRefused, SavepointNotReached
from ebbtide.jobs import clock, tables
from ebbtide.jobs.changes import Changes, Marker, locked
from ebbtide.jobs.edges import apply_edge, record
from ebbtide.jobs.ledger import ACCEPTED, ALREADY_REQUESTED
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.rounds import reached_savepoints
from ebbtide.jobs.states import CANCELLING, REVERTING, JobState, edge
from ebbtide.jobs.store import Store
from ebbtide.tasks.savepoint import PREFIX

__all__ = ["EVERY_VERSION", "Pauses", "why_not_paused", "why_not_resumed", "why_not_rewound"]

EVERY_VERSION = 0

_jobs = tables.jobs
_flows = tables.paused_flows


class Pauses:
    """The client's side of it. Safe to use from several threads. Errors are as those of `Ledger`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changes = Changes(store)

    def pause(self, job_id: str, *, who: str) -> str:
        """Let a job rest: a waiting one at once, a running one between tasks; returns what was answered.

        Raises:
            EdgeRefused: it is parked, has ended, or is to be cancelled.
        """
        now = clock.wall()

        def ask(connection: sa.Connection) -> str:
            row = locked(connection, job_id)
            state = JobState(row.state)
            if state is JobState.PAUSED or row.pause_requested_at is not None:
                return ALREADY_REQUESTED
            refusal = why_not_paused(row)
            if refusal is not None:
                raise EdgeRefused(job_id, refusal, "paused")
            if state is JobState.PENDING:
                apply_edge(connection, "paused", job_id, at=now, source=state, actor=who)
            else:
                _set(connection, job_id, pause_requested_at=now)
                record(connection, "pause_requested", job_id, at=now, actor=who)
            return ACCEPTED

        return self._changes.apply(ask, job_id, Marker("pause_requested", now, who, or_name="paused"))

    def resume(self, job_id: str, *, who: str) -> None:
        """Let a paused job go on. One that is still to be paused is not paused.

        Raises:
            EdgeRefused: it is neither; or it is on its way back to a savepoint.
        """
        now = clock.wall()

        def let_go_on(connection: sa.Connection) -> None:
            row = locked(connection, job_id)
            if _is_to_rest(row):
                _set(connection, job_id, pause_requested_at=None)
                record(connection, "pause_withdrawn", job_id, at=now, actor=who)
            else:
                apply_edge(connection, "resumed", job_id, at=now, actor=who)

        self._changes.apply(let_go_on, job_id, Marker("resumed", now, who, or_name="pause_withdrawn"))

    def rewind(self, job_id: str, savepoint: str, *, who: str) -> str:
        """Have what came after a savepoint undone, and the job left paused; returns what was answered.

        Raises:
            SavepointNotReached: there is none of that name, or the job has not come there, or not any more.
            EdgeRefused: it is parked, has ended, is to be cancelled, or is being undone anyway.
        """
        now = clock.wall()

        def ask(connection: sa.Connection) -> str:
            row = locked(connection, job_id)
            state = JobState(row.state)
            if row.rewind_to == PREFIX + savepoint and state is not JobState.PARKED:
                return ALREADY_REQUESTED
            refusal = why_not_rewound(row)
            if refusal is not None:
                raise EdgeRefused(job_id, refusal, "rewound")
            reached = reached_savepoints(connection, row)
            if savepoint not in reached:
                raise SavepointNotReached(job_id, savepoint, reached)
            _set(
                connection,
                job_id,
                rewind_to=PREFIX + savepoint,
                pause_requested_at=now if state is JobState.RUNNING else None,
                due_at=WallNow() if state is JobState.PENDING else _jobs.c.due_at,
            )
            detail = {"savepoint": savepoint}
            record(connection, "rewind_requested", job_id, at=now, actor=who, detail=detail)
            if state is JobState.PAUSED:
                apply_edge(connection, "resumed", job_id, at=now, actor=who, values={"due_at": WallNow()})
            return ACCEPTED

        return self._changes.apply(ask, job_id, Marker("rewind_requested", now, who))

    def savepoints(self, job_id: str) -> list[str]:
        """The savepoints that a job has reached and not gone back behind, in order."""
        with self._store.read() as connection:
            row = connection.execute(sa.select(_jobs).where(_jobs.c.id == job_id)).one()
            return reached_savepoints(connection, row)

    def pause_flow(self, flow: str, version: int = EVERY_VERSION, *, who: str) -> bool:
        """Let nobody claim a job of a flow any more, unless it is to be cancelled; False: so it was.

        What runs goes on.
        """
        with self._store.write() as connection:
            if connection.execute(sa.select(_flows).where(*_is(flow, version))).first() is not None:
                return False
            connection.execute(
                sa.insert(_flows).values(flow=flow, version=version, who=who, paused_at=clock.wall())
            )
        return True

    def resume_flow(self, flow: str, version: int = EVERY_VERSION) -> bool:
        """Let its jobs be claimed again; False: it was not paused."""
        with self._store.write() as connection:
            gone = connection.execute(
                sa.delete(_flows).where(*_is(flow, version)).returning(_flows.c.flow)
            ).first()
        return gone is not None

    def paused_flows(self) -> list[str]:
        """The paused flows: names, or name@version where that version alone is."""
        with self._store.read() as connection:
            rows = connection.execute(sa.select(_flows).order_by(_flows.c.flow, _flows.c.version)).all()
        return [row.flow if row.version == EVERY_VERSION else f"{row.flow}@{row.version}" for row in rows]


def _is(flow: str, version: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (_flows.c.flow == flow, _flows.c.version == version)


def _set(connection: sa.Connection, job_id: str, **values: object) -> None:
    connection.execute(sa.update(_jobs).where(_jobs.c.id == job_id).values(**values))


def why_not_paused(row: sa.Row[Any]) -> str | None:
    """The word of the state that rules a pause out; None: none does."""
    if JobState(row.state) not in edge("paused").sources:
        return str(row.state)
    return CANCELLING if row.cancel_requested_at is not None else None


def why_not_resumed(row: sa.Row[Any]) -> str | None:
    """The same of a job that is to go on."""
    return None if JobState(row.state) in edge("resumed").sources or _is_to_rest(row) else str(row.state)


def why_not_rewound(row: sa.Row[Any]) -> str | None:
    """The same of one that is to go back: it rests or runs forwards, and nobody has asked for more."""
    if row.state not in (JobState.PENDING, JobState.PAUSED, JobState.RUNNING):
        return str(row.state)
    if row.cancel_requested_at is not None:
        return CANCELLING
    return REVERTING if row.rewind_to is not None or row.undoing else None


def _is_to_rest(row: sa.Row[Any]) -> bool:
    return bool(
        row.state == JobState.RUNNING and row.pause_requested_at is not None and row.rewind_to is None
    )
