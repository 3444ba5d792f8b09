"""Retry: a job that has failed or was cancelled is run once more, under the same id, as its next attempt."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.attempts import next_attempt
from ebbtide.jobs.cancelling import PARENT, Cancel
from ebbtide.jobs.children import parents_going_back
from ebbtide.jobs.edges import apply_edge_to_all
from ebbtide.jobs.states import JobState
from ebbtide.jobs.verbs import ACCEPTED, REFUSED, Rows, Verb, in_state

__all__ = ["Retry"]

_jobs = tables.jobs
_RETRIED = (JobState.FAILED, JobState.CANCELLED)


class Retry(Verb):
    """Post failed and cancelled jobs once more.

    The old attempt stays in the history with its cancel request, tasks and outcome. A child whose parent is
    being undone is cancelled at once: its parent waits for its end.
    """

    entry = "retried"
    looks_above = True

    def answer(self, row: sa.Row[Any]) -> str:
        return ACCEPTED if row.state in _RETRIED else REFUSED

    def fits(self) -> sa.ColumnElement[bool]:
        return _jobs.c.state.in_([state.value for state in _RETRIED])

    def apply(self, connection: sa.Connection, rows: Rows, *, at: float) -> None:
        values = next_attempt() | {"retries": 0}
        for state in _RETRIED:
            ids = in_state(rows, state)
            apply_edge_to_all(connection, self.entry, ids, at=at, source=state, values=values, actor=self.who)
        stopped = parents_going_back(connection, rows)
        again = [row.id for row in rows if row.parent in stopped]
        if again:
            verb = Cancel(self.who, reason="its parent is being undone", source=PARENT)
            now = sa.select(_jobs).where(_jobs.c.id.in_(again))
            verb.apply(connection, connection.execute(now).all(), at=at)
