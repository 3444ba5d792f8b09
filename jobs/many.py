"""Many at once: one verb for a selection of jobs, a thousand in each transaction, an answer for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ebbtide.errors import CommitUnknown, StoreUnavailable
from ebbtide.jobs import clock, tables
from ebbtide.jobs.changes import Changes
from ebbtide.jobs.children import lock_families
from ebbtide.jobs.scripts import Among
from ebbtide.jobs.selection import Selection
from ebbtide.jobs.store import Store
from ebbtide.jobs.verbs import DONE, Verb

__all__ = ["AT_ONCE", "CHANGED", "NOT_KNOWN", "NOT_STORED", "UNKNOWN", "Answer", "Many"]

UNKNOWN = "unknown"
CHANGED = "changed"
NOT_STORED = "not stored"
NOT_KNOWN = "not known"
#: How many jobs one transaction changes.
AT_ONCE = 1000

_jobs = tables.jobs


@dataclass(frozen=True)
class Answer:
    """What one job of many was answered.

    Attributes:
        answer: ``accepted``, ``deleted``, ``already requested``, ``too late``, ``refused`` (the verb is not
            for this state), ``unknown`` (no such job), ``changed`` (it no longer fits the filters that it was
            found by), ``not stored`` (the store went away before it), or ``not known`` (the store's answer
            was lost, and it could not be read afterwards).
        state: of the job when it was asked; None: it was not seen.
    """

    job_id: str
    answer: str
    state: str | None = None

    @property
    def done(self) -> bool:
        """Whether what was asked for is stored."""
        return self.answer in DONE

    def as_dict(self) -> dict[str, Any]:
        return {"id": self.job_id, "answer": self.answer, "state": self.state}


class Many:
    """Applies a verb to a selection. Safe to use from several threads.

    Each thousand is one transaction, and what is answered of it is stored by then. A crash of the caller in
    the middle leaves some thousands done and the others as they were: the same call again does the rest.
    """

    def __init__(self, store: Store, posted_by: str | None = None) -> None:
        self._store = store
        self._changes = Changes(store)
        # Whose jobs exist to whom asks; others are as unknown as those that never were.
        self._mine = () if posted_by is None else (_jobs.c.posted_by == posted_by,)

    def answers(
        self, verb: Verb, selection: Selection, *, stored: Callable[[str], None] = lambda job_id: None
    ) -> Iterator[Answer]:
        """Do it, and tell what each job was answered, in the order of the ids, else the oldest first.

        Args:
            stored: called with one job of each thousand of which something was stored.
        """
        lost: str | None = None
        for ids, conditions in self._chunks(verb, selection):
            if lost is None:
                try:
                    answers = self._apply(verb, ids, conditions)
                except CommitUnknown:
                    answers, lost = _all(ids, NOT_KNOWN), NOT_STORED
                except StoreUnavailable:
                    answers, lost = _all(ids, NOT_STORED), NOT_STORED
            else:
                answers = _all(ids, lost)
            changed = next((answer.job_id for answer in answers if answer.done), None)
            if changed is not None:
                stored(changed)
            yield from answers

    def foreseen(self, verb: Verb, selection: Selection) -> Iterator[Answer]:
        """What `answers` would say now. Changes nothing."""
        for ids, conditions in self._chunks(verb, selection):
            with self._store.read() as connection:
                rows = _rows(connection, ids, conditions, self._mine)
                yield from _answered(connection, verb, ids, rows)

    def _chunks(
        self, verb: Verb, selection: Selection
    ) -> Iterator[tuple[Sequence[str], list[sa.ColumnElement[bool]]]]:
        """The jobs that are meant, by the thousand, and what each has to fulfil when its turn comes."""
        conditions = selection.conditions()
        if selection.ids is not None:
            ids = list(dict.fromkeys(selection.ids))
        else:
            found = [*conditions, *([] if selection.state is not None else [verb.fits()])]
            query = sa.select(_jobs.c.id).where(*self._mine, *found).order_by(_jobs.c.created_at, _jobs.c.id)
            with self._store.read() as connection:
                ids = list(connection.scalars(query))
        for start in range(0, len(ids), AT_ONCE):
            yield ids[start : start + AT_ONCE], conditions

    def _apply(
        self, verb: Verb, ids: Sequence[str], conditions: list[sa.ColumnElement[bool]]
    ) -> list[Answer]:
        now = clock.wall()

        def change(connection: sa.Connection) -> list[Answer]:
            lock_families(connection, ids)
            rows = _rows(connection, ids, conditions, self._mine)
            answers = list(_answered(connection, verb, ids, rows))
            done = [rows[answer.job_id][0] for answer in answers if answer.done]
            if done:
                verb.apply(connection, done, at=now)
            return answers

        def changed(answers: list[Answer]) -> str | None:
            return next((answer.job_id for answer in answers if answer.done), None)

        return self._changes.apply_to_many(change, changed, verb.marker(now))


def _rows(
    connection: sa.Connection,
    ids: Sequence[str],
    conditions: list[sa.ColumnElement[bool]],
    mine: Sequence[sa.ColumnElement[bool]],
) -> dict[str, tuple[sa.Row[Any], bool]]:
    """The rows of these jobs, and whether each fulfils the conditions."""
    fits = sa.and_(sa.true(), *conditions).label("fits_selection")
    query = sa.select(_jobs, fits).where(Among(_jobs.c.id, ids), *mine)
    return {row.id: (row, bool(row.fits_selection)) for row in connection.execute(query)}


def _answered(
    connection: sa.Connection, verb: Verb, ids: Sequence[str], rows: dict[str, tuple[sa.Row[Any], bool]]
) -> Iterator[Answer]:
    known = [row for row, _ in rows.values()]
    words = dict(zip(rows, verb.answers(connection, known), strict=True))
    for job_id in ids:
        if job_id not in rows:
            yield Answer(job_id, UNKNOWN)
            continue
        row, fits = rows[job_id]
        yield Answer(job_id, words[job_id] if fits else CHANGED, row.state)


def _all(ids: Sequence[str], word: str) -> list[Answer]:
    return [Answer(job_id, word) for job_id in ids]
