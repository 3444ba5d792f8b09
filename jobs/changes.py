"""A client's transaction on a job: repeated when another is in the way, read back when its answer is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
import tenacity
from sqlalchemy.exc import IntegrityError

from ebbtide.errors import CommitUnknown, EbbtideError, JobNotFound, StoreBusy, StoreUnavailable
from ebbtide.jobs import tables
from ebbtide.jobs.scripts import Statement, send
from ebbtide.jobs.store import Store

__all__ = ["Changes", "Marker", "locked", "unless_in_the_way"]

_T = TypeVar("_T")

_jobs = tables.jobs
_LOCK = Statement(sa.select(_jobs).where(_jobs.c.id == sa.bindparam("key_id")).with_for_update())
_TRIES = 5
# For how long the answer to a commit is looked for before the caller is told that it is not known.
_READ_BACK_SECONDS = 5.0


@dataclass(frozen=True)
class Marker:
    """The entry of the history by which a change is found again: no other has the same three.

    `or_name` is for a change that decides between two names as it sees the job, `or_gone` for one that may
    remove it.
    """

    name: str
    at: float
    actor: str
    or_name: str | None = None
    or_gone: bool = False


def locked(connection: sa.Connection, job_id: str) -> sa.Row[Any]:
    """The job's row, held against every other writer until the transaction ends.

    Raises:
        JobNotFound: there is none.
    """
    row = send(connection, [(_LOCK, [{"id": job_id}])]).first()
    if row is None:
        raise JobNotFound(job_id)
    return row


def unless_in_the_way(transaction: Callable[[], _T]) -> _T:
    """Run the transaction; again, a few times, when another one was in its way and it is rolled back.

    Raises:
        StoreBusy: there was one each time; nothing was stored.
    """
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(StoreBusy),
        wait=tenacity.wait_random_exponential(multiplier=0.02, max=0.5),
        stop=tenacity.stop_after_attempt(_TRIES),
        reraise=True,
    )
    return attempts(transaction)


class Changes:
    """Runs changes so that each is stored once or not at all, and the caller knows which."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def apply(self, change: Callable[[sa.Connection], _T], job_id: str, marker: Marker) -> _T:
        """Run `change` in a transaction of its own; returns what it returned, once that is stored.

        Args:
            marker: the entry that the change writes.

        Raises:
            StoreUnavailable: nothing was stored.
            CommitUnknown: the answer was lost, and the store could not be read afterwards either.
        """
        return self.apply_to_many(change, lambda answer: job_id, marker)

    def apply_to_many(
        self,
        change: Callable[[sa.Connection], _T],
        changed: Callable[[_T], str | None],
        marker: Marker,
    ) -> _T:
        """The same for a change of several jobs at once: all of it is stored, or nothing.

        Args:
            changed: tells, by what the change returned, one job that got the entry; None: none did.
        """
        return unless_in_the_way(lambda: self._apply(change, changed, marker))

    def insert(self, change: Callable[[sa.Connection], None], job_id: str) -> None:
        """The same for one that inserts a job, under an id that nobody else ever uses.

        Raises:
            IntegrityError: another row is in its way.
        """
        unless_in_the_way(lambda: self._insert(change, job_id))

    def _apply(
        self,
        change: Callable[[sa.Connection], _T],
        changed: Callable[[_T], str | None],
        marker: Marker,
    ) -> _T:
        answers: list[_T] = []
        try:
            with self._store.write() as connection:
                answers.append(change(connection))
        except CommitUnknown as error:
            job_id = changed(answers[0])
            if job_id is not None and not self._read_back(lambda: self._is_marked(job_id, marker), error):
                raise StoreUnavailable(f"connection lost before the commit: {error.detail}") from error
        return answers[0]

    def _insert(self, change: Callable[[sa.Connection], None], job_id: str) -> None:
        try:
            with self._store.write() as connection:
                change(connection)
        except CommitUnknown as error:
            # Done again: it waits for the first one, should that still be under way, and meets its rows.
            self._read_back(lambda: self._insert_again(change, job_id), error)

    def _insert_again(self, change: Callable[[sa.Connection], None], job_id: str) -> bool:
        try:
            with self._store.write() as connection:
                change(connection)
        except StoreUnavailable:
            raise
        except (IntegrityError, EbbtideError):
            # Refused, perhaps, for what the first one has stored: the key that it wants is its own. Or for
            # what has happened since, as the end of its parent.
            with self._store.read() as connection:
                query = sa.select(_jobs.c.id).where(_jobs.c.id == job_id)
                if connection.execute(query).first() is None:
                    raise
        return True

    def _is_marked(self, job_id: str, marker: Marker) -> bool:
        entries = tables.job_entries
        # Locked: the lost commit may still be under way, and is waited for by that.
        with self._store.write() as connection:
            try:
                locked(connection, job_id)
            except JobNotFound:
                return marker.or_gone
            query = sa.select(entries.c.number).where(
                entries.c.job == job_id,
                entries.c.name.in_([marker.name, marker.or_name or marker.name]),
                entries.c.at == marker.at,
                entries.c.actor == marker.actor,
            )
            return connection.execute(query).first() is not None

    def _read_back(self, look: Callable[[], bool], error: CommitUnknown) -> bool:
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(StoreUnavailable),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=1.0),
            stop=tenacity.stop_after_delay(_READ_BACK_SECONDS),
            reraise=True,
        )
        try:
            return attempts(look)
        except StoreUnavailable:
            raise error from None
