"""How a run leaves its job: the edge, what was undone, the error, the result; and its writing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ebbtide.conductor.begun import BegunTasks
from ebbtide.jobs import clock, tables
from ebbtide.jobs.claims import Claim, park
from ebbtide.jobs.edges import apply_edge
from ebbtide.jobs.states import FINAL_STATES, edge

__all__ = ["Outcome"]

_jobs = tables.jobs
_requested = _jobs.c.cancel_requested_at

# Repeated in the statement that applies the edge: which commit came first decides the race.
_CONDITIONS: dict[str, tuple[sa.ColumnElement[bool], ...]] = {
    "completed": (_requested.is_(None),),
    "failed": (_requested.is_(None),),
    "cancelled": (_requested.is_not(None),),
}
_MAX_LISTED = 1000


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
    stuck_task: str | None = None  # whose undo failed

    @classmethod
    def of(
        cls, name: str, claim: Claim, actor: str, begun: BegunTasks, *, error: str | None, result: str | None
    ) -> Outcome:
        """The outcome that the begun tasks tell of.

        Args:
            name: the edge.
            error: why the engine turned round, when no task is to blame.
            result: JSON text, of a run that has finished.
        """
        undone = tuple(begun.undone())
        if name == "parked":
            stuck = begun.undo_failures()
            if not stuck:
                return cls(claim, actor, name, undone, f"the engine could not undo all: {error}")
            reason = f"the undo of {stuck[0].task} failed: {stuck[0].undo_error}"
            return cls(claim, actor, name, undone, reason, stuck_task=stuck[0].task)
        if name == "completed":
            return cls(claim, actor, name, result=result)
        failed = begun.first_failure()
        if failed is not None:
            return cls(claim, actor, name, undone, failed.error, failed.task)
        if name == "failed" and error is None:
            error = "the flow was reverted by its retry controller"
        return cls(claim, actor, name, undone, error)

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
        values = dict(columns) | {"owner": None}
        final = edge(self.edge).target in FINAL_STATES
        if final:
            values |= {"ended_at": now, "undo": self._undo, "undoing": 0}
        apply_edge(
            connection,
            self.edge,
            self.claim.job_id,
            at=now,
            epoch=self.claim.epoch,
            conditions=_CONDITIONS.get(self.edge, ()),
            values=values,
            actor=self.actor,
            detail=self._detail,
        )
        if final:
            self._insert(connection, now)
        if self.edge == "cancelled":
            self._close_request(connection, now)

    @property
    def _undo(self) -> str:
        return "complete" if self.undone else "none"

    @property
    def _detail(self) -> dict[str, Any]:
        detail: dict[str, Any] = {}
        if self.undone:
            detail["undone"] = list(self.undone[:_MAX_LISTED])
        if self.error is not None:
            detail |= {"error": self.error, "task": self.error_task}
        return detail

    def _park(self, connection: sa.Connection, columns: Mapping[str, Any], now: float) -> None:
        mine = (_jobs.c.id == self.claim.job_id, _jobs.c.epoch == self.claim.epoch)
        connection.execute(sa.update(_jobs).where(*mine).values(**columns))
        park(
            connection,
            self.claim.job_id,
            epoch=self.claim.epoch,
            at=now,
            reason=self.error or "",
            task=self.stuck_task,
            actor=self.actor,
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
