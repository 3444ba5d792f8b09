"""What clients change between running and not: pause, resume, rewind; of jobs, and of whole flows.

Each is one transaction, committed before it returns.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ebbtide.errors import EdgeRefused, SavepointNotReached
from ebbtide.jobs import clock, tables
from ebbtide.jobs.asking import ask
from ebbtide.jobs.changes import Changes, Marker, locked
from ebbtide.jobs.edges import apply_edge, apply_edge_to_all, noted, record
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.rounds import reached_savepoints
from ebbtide.jobs.scripts import send
from ebbtide.jobs.states import CANCELLING, REVERTING, JobState, edge
from ebbtide.jobs.store import Store
from ebbtide.jobs.verbs import ACCEPTED, ALREADY_REQUESTED, REFUSED, Rows, Verb, in_state
from ebbtide.tasks.savepoint import PREFIX

__all__ = ["EVERY_VERSION", "Pause", "Pauses", "Resume", "why_not_rewound"]

EVERY_VERSION = 0

_jobs = tables.jobs
_flows = tables.paused_flows
# What a conductor works at, or will.
_ACTIVE = [JobState.PENDING.value, JobState.RUNNING.value]


class Pause(Verb):
    """Let jobs rest: a waiting one at once, a running one between tasks, once its conductor hears of it."""

    entry = "pause_requested"
    or_entry = "paused"

    def answer(self, row: sa.Row[Any]) -> str:
        if row.state not in _ACTIVE and row.state != JobState.PAUSED:
            return REFUSED
        # Back at its savepoint it is paused as well; paused before, it would never come there.
        asked = row.pause_requested_at is not None or row.rewind_to is not None
        if row.state == JobState.PAUSED or asked:
            return ALREADY_REQUESTED
        return ACCEPTED if _why_not_paused(row) is None else REFUSED

    def fits(self) -> sa.ColumnElement[bool]:
        return sa.and_(
            _jobs.c.state.in_(_ACTIVE),
            _jobs.c.cancel_requested_at.is_(None),
            _jobs.c.pause_requested_at.is_(None),
            _jobs.c.rewind_to.is_(None),
        )

    def apply(self, connection: sa.Connection, rows: Rows, *, at: float) -> None:
        waiting = in_state(rows, JobState.PENDING)
        apply_edge_to_all(connection, "paused", waiting, at=at, source=JobState.PENDING, actor=self.who)
        at_work = in_state(rows, JobState.RUNNING)
        if at_work:
            wish = noted(self.entry, at_work, at=at, actor=self.who, when="pause_requested_at")
            send(connection, wish)


class Resume(Verb):
    """Let paused jobs go on. One that is still to be paused is not paused.

    Refused to one that is to be cancelled, or on its way back to a savepoint.
    """

    entry = "resumed"
    or_entry = "pause_withdrawn"

    def answer(self, row: sa.Row[Any]) -> str:
        return ACCEPTED if row.state == JobState.PAUSED or _is_to_rest(row) else REFUSED

    def fits(self) -> sa.ColumnElement[bool]:
        to_pause = sa.and_(
            _jobs.c.state.in_(_ACTIVE),
            _jobs.c.pause_requested_at.is_not(None),
            _jobs.c.cancel_requested_at.is_(None),
            _jobs.c.rewind_to.is_(None),
        )
        return sa.or_(_jobs.c.state == JobState.PAUSED.value, to_pause)

    def apply(self, connection: sa.Connection, rows: Rows, *, at: float) -> None:
        for row in rows:
            if _is_to_rest(row):
                _set(connection, row.id, pause_requested_at=None)
                record(connection, "pause_withdrawn", row.id, at=at, actor=self.who)
        paused = in_state(rows, JobState.PAUSED)
        apply_edge_to_all(connection, "resumed", paused, at=at, source=JobState.PAUSED, actor=self.who)


class Pauses:
    """The client's side of it. Safe to use from several threads. Errors are as those of `Ledger`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changes = Changes(store)

    def pause(self, job_id: str, *, who: str) -> str:
        """Let a job rest; returns what was answered. See `Pause`.

        Raises:
            EdgeRefused: it is parked, has ended, or is to be cancelled.
        """
        word, row = ask(self._changes, Pause(who), job_id)
        if word == REFUSED:
            raise EdgeRefused(job_id, _why_not_paused(row) or row.state, "paused")
        return word

    def resume(self, job_id: str, *, who: str) -> None:
        """Let a paused job go on. See `Resume`.

        Raises:
            EdgeRefused: it is neither paused nor to be paused, or to be cancelled, or on its way back to a
                savepoint.
        """
        word, row = ask(self._changes, Resume(who), job_id)
        if word == REFUSED:
            to_be_cancelled = row.state in _ACTIVE and row.cancel_requested_at is not None
            raise EdgeRefused(job_id, CANCELLING if to_be_cancelled else row.state, "resumed")

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


def _why_not_paused(row: sa.Row[Any]) -> str | None:
    """The word of the state that rules a pause out; None: none does."""
    if JobState(row.state) not in edge("paused").sources:
        return str(row.state)
    return CANCELLING if row.cancel_requested_at is not None else None


def why_not_rewound(row: sa.Row[Any]) -> str | None:
    """The same of a way back; None: it rests or runs forwards, and nobody has asked for more."""
    if row.state not in (JobState.PENDING, JobState.PAUSED, JobState.RUNNING):
        return str(row.state)
    if row.cancel_requested_at is not None:
        return CANCELLING
    return REVERTING if row.rewind_to is not None or row.undoing else None


def _is_to_rest(row: sa.Row[Any]) -> bool:
    if row.cancel_requested_at is not None or row.rewind_to is not None:
        return False
    return row.state in _ACTIVE and row.pause_requested_at is not None
