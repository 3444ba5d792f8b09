"""Delete: what has ended, or never began, is removed; all else is cancelled and undone before that."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.cancelling import Cancel, cancel_children
from ebbtide.jobs.edges import noted
from ebbtide.jobs.removal import remove
from ebbtide.jobs.scripts import send
from ebbtide.jobs.states import FINAL_STATES, JobState
from ebbtide.jobs.verbs import ACCEPTED, ALREADY_REQUESTED, DELETED, Rows, Verb

__all__ = ["Delete"]

_jobs = tables.jobs
_final = [state.value for state in FINAL_STATES]
_REASON = "to be deleted"


class Delete(Verb):
    """Remove jobs with all that is stored of them.

    `DELETED`: it is gone. `ACCEPTED`: it is at work, or half-done; its cancel is requested, and who stores
    its outcome removes it. One that parks on its way there stays until it is unparked or accepted as it is.
    """

    entry = "delete_requested"
    removes = True

    def answer(self, row: sa.Row[Any]) -> str:
        idle = row.state in (JobState.PENDING, JobState.PAUSED) and not row.begun
        if row.state in FINAL_STATES or idle:
            return DELETED
        return ALREADY_REQUESTED if row.delete_requested_at is not None else ACCEPTED

    def fits(self) -> sa.ColumnElement[bool]:
        return _jobs.c.state.in_(_final)

    def apply(self, connection: sa.Connection, rows: Rows, *, at: float) -> None:
        at_work = [row for row in rows if self.answer(row) == ACCEPTED]
        if at_work:
            self._stop(connection, at_work, at=at)
        # After that: with these the children of what never began are cancelled, which are at work, perhaps.
        gone = [row for row in rows if self.answer(row) == DELETED]
        unbegun = [row.id for row in gone if row.state not in FINAL_STATES]
        cancel_children(connection, unbegun, at=at, who=self.who, reason=_REASON)
        remove(connection, [row.id for row in gone])

    def _stop(self, connection: sa.Connection, at_work: Rows, *, at: float) -> None:
        ids = [row.id for row in at_work]
        send(connection, noted(self.entry, ids, at=at, actor=self.who, when="delete_requested_at"))
        cancel = Cancel(self.who, reason=_REASON)
        words = cancel.answers(connection, at_work)
        asked = [row for row, word in zip(at_work, words, strict=True) if word == ACCEPTED]
        if asked:
            cancel.apply(connection, asked, at=at)
