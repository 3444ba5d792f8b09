"""Cancel: a request is recorded, with those of the job's children; what has begun nothing ends at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.cancels import (
    entry_of,
    fulfilled,
    limit_stops,
    overruled,
    requested,
    stopped_by_limits,
)
from ebbtide.jobs.children import children_of, with_descendants
from ebbtide.jobs.edges import apply_edge_to_all, moved_together
from ebbtide.jobs.holding import holds, let_undo
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.removal import remove, remove_if_asked
from ebbtide.jobs.scripts import Among, Script, insert_from, send
from ebbtide.jobs.states import FINAL_STATES, JobState
from ebbtide.jobs.verbs import ACCEPTED, ALREADY_REQUESTED, TOO_LATE, Rows, Verb, in_state

__all__ = ["PARENT", "Cancel", "cancel_children", "end_unbegun"]

#: The source of a request that a job has by its parent's.
PARENT = "parent"

_jobs = tables.jobs
_cancels = tables.job_cancels
_final = [state.value for state in FINAL_STATES]
_WAITING = (JobState.PENDING, JobState.PAUSED)
_OUTCOME = {
    "job": _jobs.c.id,
    **{name: _jobs.c[name] for name in ("attempt", "state", "undo", "ended_at")},
    **{name: sa.null() for name in ("error", "error_task", "result")},
}
_INSERT_OUTCOMES = insert_from(tables.job_outcomes, _OUTCOME, Among(_jobs.c.id))


class Cancel(Verb):
    """Record a cancel request of each job.

    A job of which nothing has begun is cancelled at once. One that is running, or was released half-done, is
    undone by its conductor and then ends cancelled, or parks on its way there; also one that a limit stops,
    which would end failed. The children of a job, and theirs, are cancelled in the same transaction, unless
    they have ended.
    """

    entry = "cancel_requested"

    def __init__(self, who: str, *, reason: str, source: str = "user") -> None:
        super().__init__(who)
        self.reason = reason
        self.source = source

    def answer(self, row: sa.Row[Any]) -> str:
        # What has failed, having passed a limit, has a request as well; it is too late all the same.
        stopping = row.cancel_requested_at is not None and row.state not in FINAL_STATES
        if stopping or row.state == JobState.CANCELLED:
            return ALREADY_REQUESTED
        return TOO_LATE if row.state in FINAL_STATES else ACCEPTED

    def answers(self, connection: sa.Connection, rows: Rows) -> list[str]:
        """As told by `Verb`. What a limit stops nobody has cancelled yet: it may be tried again."""
        words = super().answers(connection, rows)
        stopping = [row for row, word in zip(rows, words, strict=True) if word == ALREADY_REQUESTED]
        unasked = stopped_by_limits(connection, [row for row in stopping if row.state not in FINAL_STATES])
        return [ACCEPTED if row.id in unasked else word for row, word in zip(rows, words, strict=True)]

    def fits(self) -> sa.ColumnElement[bool]:
        unasked = sa.or_(_jobs.c.cancel_requested_at.is_(None), limit_stops())
        return sa.and_(_jobs.c.state.not_in(_final), unasked)

    def apply(self, connection: sa.Connection, rows: Rows, *, at: float) -> None:
        stopped = [row for row in rows if row.cancel_requested_at is not None]
        fresh = [row for row in rows if row.cancel_requested_at is None]
        unbegun = [row for row in fresh if not row.begun]
        script = []
        for state in _WAITING:
            script += self._end(connection, in_state(unbegun, state), state, at)
        others = [row for row in fresh if row.begun or row.state not in _WAITING]
        held = [row for row in others if holds(connection, row)]
        if others:
            script += requested([row.id for row in others], at, self.reason, self.who, self.source)
        if stopped:
            script += overruled([row.id for row in stopped], at, self.reason, self.who, self.source)
        # Found once the rows of their parents are locked: nobody posts another.
        children = send(connection, [*script, *children_of([row.id for row in rows])]).all()
        remove(connection, [row.id for row in unbegun if row.state in _WAITING and row.delete_requested_at])
        for row in held:
            let_undo(connection, row, at=at, who=self.who)
        released = [*held, *(row for row in stopped if row.state == JobState.PENDING)]
        end_unbegun(connection, [row.id for row in released if not row.begun], at=at, who=self.who)
        begun = [row for row in rows if row.begun]
        # It is undone as soon as a conductor is free, whenever it was due.
        due = {"due_at": WallNow()}
        pending = in_state(begun, JobState.PENDING)
        if pending:
            connection.execute(sa.update(_jobs).where(_jobs.c.id.in_(pending)).values(due))
        paused = in_state(begun, JobState.PAUSED)
        apply_edge_to_all(
            connection, "resumed", paused, at=at, source=JobState.PAUSED, actor=self.who, values=due
        )
        _cancel_with_theirs(connection, children, at=at, who=self.who, reason=self.reason)

    def _end(self, connection: sa.Connection, ids: Sequence[str], state: JobState, at: float) -> Script:
        """End jobs that wait and have begun nothing: one write of the row for the request and the outcome.

        Returns what else is to be stored, in the same transaction.
        """
        if not ids:
            return []
        entries = moved_together(
            connection,
            "cancelled_unclaimed",
            ids,
            at=at,
            source=state,
            values={"cancel_requested_at": at, "ended_at": at, "undo": "none"},
            actor=self.who,
            noting=entry_of(self.reason, self.source),
        )
        record = fulfilled(ids, at, self.reason, self.who, self.source)
        return [*record, *entries, (_INSERT_OUTCOMES, [{"ids": ids}])]


def cancel_children(
    connection: sa.Connection, parents: Sequence[str], *, at: float, who: str, reason: str
) -> None:
    """Cancel what these jobs have posted, down to the last; `parents` are locked by the caller."""
    children = send(connection, children_of(parents)).all()
    _cancel_with_theirs(connection, children, at=at, who=who, reason=reason)


def _cancel_with_theirs(
    connection: sa.Connection, children: Rows, *, at: float, who: str, reason: str
) -> None:
    verb = Cancel(who, reason=reason, source=PARENT)
    found = with_descendants(connection, children)
    words = verb.answers(connection, found)
    rows = [row for row, word in zip(found, words, strict=True) if word == ACCEPTED]
    if rows:
        verb.apply(connection, rows, at=at)


def end_unbegun(connection: sa.Connection, job_ids: Sequence[str], *, at: float, who: str) -> None:
    """Of pending jobs that have begun nothing: there is nothing to undo, so their requests are fulfilled."""
    if not job_ids:
        return
    apply_edge_to_all(
        connection,
        "cancelled_unclaimed",
        job_ids,
        at=at,
        source=JobState.PENDING,
        values={"ended_at": at, "undo": "none"},
        actor=who,
    )
    send(connection, [(_INSERT_OUTCOMES, [{"ids": job_ids}])])
    attempt = sa.select(_jobs.c.attempt).where(_jobs.c.id == _cancels.c.job).scalar_subquery()
    connection.execute(
        sa.update(_cancels)
        .where(_cancels.c.job.in_(job_ids), _cancels.c.attempt == attempt)
        .values(reverted_at=at)
    )
    remove_if_asked(connection, job_ids)
