"""How a run leaves its job: the edge, what was undone, the error, the result; and its writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ebbtide.conductor.begun import BegunTasks, Row
from ebbtide.jobs import clock, tables
from ebbtide.jobs.attempts import next_attempt
from ebbtide.jobs.cancels import limit_stops
from ebbtide.jobs.changes import locked
from ebbtide.jobs.claims import Claim
from ebbtide.jobs.edges import apply_edge
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.parking import park
from ebbtide.jobs.removal import remove_if_asked
from ebbtide.jobs.states import FINAL_STATES, JobState, edge
from ebbtide.tasks.savepoint import PREFIX

__all__ = ["Outcome"]

_jobs = tables.jobs
_requested = _jobs.c.cancel_requested_at

# Repeated in the statement that applies the edge: which commit came first decides the race.
_CONDITIONS: dict[str, tuple[sa.ColumnElement[bool], ...]] = {
    "completed": (_requested.is_(None), _jobs.c.rewind_to.is_(None)),
    "failed": (_requested.is_(None),),
    "retry_scheduled": (_requested.is_(None),),
    "cancelled": (_requested.is_not(None),),
    "paused": (_requested.is_(None), _jobs.c.pause_requested_at.is_not(None), _jobs.c.rewind_to.is_(None)),
}
# A run that stops for being rewound is released: the next one rewinds, and is not to stop before.
_STOPPED_TO_REWIND = {
    "pause_requested_at": sa.case((_jobs.c.rewind_to.is_(None), _jobs.c.pause_requested_at), else_=None)
}
# Where a limit was passed that is the request, unless somebody has cancelled the job since.
_AFTER_LIMIT = (_requested.is_not(None), limit_stops())
_MAX_LISTED = 1000
_MAX_NAMED = 5


@dataclass(frozen=True)
class Outcome:
    """The edge by which a run ends, and all that is told of it."""

    claim: Claim
    actor: str
    edge: str
    undone: tuple[str, ...] = ()  # in order of their undo
    error: str | None = None
    error_task: str | None = None
    result: str | None = None  # JSON text
    reason: str = ""  # why it parks
    stuck_task: str | None = None  # whose undo failed
    savepoint: str | None = None  # to which the job was rewound
    left_out: bool = False  # a person has left an undo out
    limit: str | None = None  # that was passed, in words
    held: bool = False  # it parks, and nothing of it was undone
    pause_seconds: float = 0.0  # before the next attempt

    @classmethod
    def of(
        cls,
        name: str,
        claim: Claim,
        actor: str,
        begun: BegunTasks,
        *,
        error: str | None,
        stopped_by: str | None,
        result: str | None,
        limit: str | None = None,
        held: bool = False,
    ) -> Outcome:
        """The outcome that the begun tasks tell of.

        Args:
            name: the edge.
            error: why the engine turned round, when no task is to blame.
            stopped_by: what the engine raised when it came to rest, if anything.
            result: JSON text, of a run that has finished.
            limit: the limit for which the run was stopped, in words; it is the error then.
            held: a task has failed, and nothing was undone.
        """
        if name == "completed":
            return cls(claim, actor, name, result=result)
        failed = begun.first_failure()
        task = None
        if limit is not None:
            error = f"OutOfTime: {limit}"
        elif failed is not None:
            error, task = failed.error, failed.task
        elif name == "failed" and error is None:
            error = "the flow was reverted by its retry controller"
        undone = tuple(begun.undone())
        if name != "parked":
            return cls(claim, actor, name, undone, error, task, limit=limit, left_out=begun.left_out)
        if held:
            reason = f"{task or 'a task'} failed, and the job holds: {error or 'it did not begin'}"
            return cls(claim, actor, name, (), error, task, reason=reason, stuck_task=task, held=True)
        stuck = begun.undo_failures()
        reason = _incidents(stuck) or _why_not_undone(stopped_by)
        first = stuck[0].task if stuck else None
        return cls(claim, actor, name, undone, error, task, reason=reason, stuck_task=first)

    @classmethod
    def paused(cls, claim: Claim, actor: str) -> Outcome:
        """It was asked to pause, and rests between tasks."""
        return cls(claim, actor, "paused")

    @classmethod
    def rewound(cls, claim: Claim, actor: str, savepoint: str, begun: BegunTasks) -> Outcome:
        """It rests at a savepoint; what was behind that is undone."""
        return cls(claim, actor, "paused", tuple(begun.undone()), savepoint=savepoint)

    def write(self, connection: sa.Connection, columns: Mapping[str, Any]) -> None:
        """Apply the edge, with the holder's other `columns` of the job's row, in the caller's transaction.

        Raises:
            EdgeRefused: a cancel request came first.
            ClaimLost: the job has another holder.
        """
        now = clock.wall()
        if self.edge == "parked":
            self._park(connection, columns, now)
            return
        values = dict(columns) | {"owner": None} | self._stop_columns
        final = edge(self.edge).target in FINAL_STATES
        if final:
            values |= {"ended_at": now, "undo": self._undo, "undoing": 0}
        elif self.edge == "retry_scheduled":
            again = {"due_at": WallNow() + self.pause_seconds, "retries": _jobs.c.retries + 1}
            values |= next_attempt() | again
        stopped = self.limit is not None and self.edge in ("failed", "retry_scheduled")
        if stopped:
            # A cancel may be under way at the server: its request is no part of the row, and so would not be
            # looked at again once the row is had.
            locked(connection, self.claim.job_id)
        apply_edge(
            connection,
            self.edge,
            self.claim.job_id,
            at=now,
            source=JobState.RUNNING,
            epoch=self.claim.epoch,
            conditions=_AFTER_LIMIT if stopped else self._conditions,
            values=values,
            actor=self.actor,
            detail=self._detail,
        )
        if final:
            self._insert(connection, now)
        if self.edge == "cancelled" or stopped:
            self._close_request(connection, now)
        if final:
            remove_if_asked(connection, [self.claim.job_id])

    @property
    def _conditions(self) -> tuple[sa.ColumnElement[bool], ...]:
        if self.savepoint is not None:
            return (_requested.is_(None), _jobs.c.rewind_to == self.savepoint)
        return _CONDITIONS.get(self.edge, ())

    @property
    def _stop_columns(self) -> dict[str, Any]:
        """What becomes of the wishes for which a run stops between tasks."""
        if self.savepoint is not None:
            return {"rewind_to": None, "pause_requested_at": None, "undoing": 0}
        if self.edge == "paused":
            return {"pause_requested_at": None}
        return _STOPPED_TO_REWIND if self.edge == "released" else {}

    @property
    def _undo(self) -> str:
        if self.left_out:
            return "accepted"
        return "complete" if self.undone else "none"

    @property
    def _detail(self) -> dict[str, Any]:
        detail: dict[str, Any] = {}
        if self.undone:
            detail["undone"] = list(self.undone[:_MAX_LISTED])
        if self.savepoint is not None:
            detail["savepoint"] = self.savepoint.removeprefix(PREFIX)
        if self.error is not None:
            detail |= {"error": self.error, "task": self.error_task}
        if self.edge == "retry_scheduled":
            detail["pause_seconds"] = round(self.pause_seconds, 3)
        return detail

    def _park(self, connection: sa.Connection, columns: Mapping[str, Any], now: float) -> None:
        mine = (_jobs.c.id == self.claim.job_id, _jobs.c.epoch == self.claim.epoch)
        connection.execute(sa.update(_jobs).where(*mine).values(**columns))
        park(
            connection,
            self.claim.job_id,
            epoch=self.claim.epoch,
            at=now,
            reason=self.reason,
            task=self.stuck_task,
            error=self.error,
            error_task=self.error_task,
            actor=self.actor,
            held=self.held,
        )

    def _insert(self, connection: sa.Connection, now: float) -> None:
        connection.execute(
            sa.insert(tables.job_outcomes).values(
                job=self.claim.job_id,
                attempt=self.claim.attempt,
                state=edge(self.edge).target.value,
                undo=self._undo,
                error=self.error,
                error_task=self.error_task,
                result=self.result,
                ended_at=now,
            )
        )

    def _close_request(self, connection: sa.Connection, now: float) -> None:
        cancels = tables.job_cancels
        connection.execute(
            sa.update(cancels)
            .where(cancels.c.job == self.claim.job_id, cancels.c.attempt == self.claim.attempt)
            .values(reverted_at=now)
        )


def _incidents(stuck: Sequence[Row]) -> str:
    """The undos that failed for good, with their errors and tries."""
    told = []
    for row in stuck[:_MAX_NAMED]:
        tries = f" ({row.undo_tries} tries)" if row.undo_tries > 1 else ""
        told.append(f"the undo of {row.task} failed{tries}: {row.undo_error or 'it was interrupted'}")
    more = len(stuck) - _MAX_NAMED
    return "; ".join([*told, f"and {more} more"] if more > 0 else told)


def _why_not_undone(stopped_by: str | None) -> str:
    return f"the engine could not undo all: {stopped_by or 'it stopped without a reason'}"
