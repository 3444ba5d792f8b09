"""Asking: a verb for one job, in a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import clock
from ebbtide.jobs.changes import Changes, locked
from ebbtide.jobs.children import lock_families
from ebbtide.jobs.states import JobState
from ebbtide.jobs.verbs import DONE, Verb

__all__ = ["ask"]


def ask(
    changes: Changes,
    verb: Verb,
    job_id: str,
    answer: Callable[[sa.Connection, sa.Row[Any]], str] | None = None,
    ahead: Callable[[], None] | None = None,
) -> tuple[str, sa.Row[Any]]:
    """What one job is answered, and its row as it was then; done, where that is the answer.

    Args:
        answer: decides in place of the verb.
        ahead: called where it is done, as the last thing before the commit.

    Raises:
        JobNotFound: no such job; and what `Changes.apply` raises.
    """
    now = clock.wall()

    def change(connection: sa.Connection) -> tuple[str, sa.Row[Any]]:
        if verb.looks_above:
            lock_families(connection, [job_id])
        row = locked(connection, job_id)
        JobState(row.state)  # one that nobody knows is an error here, and the job is left as it is
        (word,) = verb.answers(connection, [row]) if answer is None else [answer(connection, row)]
        if word in DONE:
            verb.apply(connection, [row], at=now)
            if ahead is not None:
                ahead()
        return word, row

    def changed(told: tuple[str, sa.Row[Any]]) -> str | None:
        return job_id if told[0] in DONE else None

    return changes.apply_to_many(change, changed, verb.marker(now))
