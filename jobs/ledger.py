"""What clients change: post, cancel, retry, unpark, accept, delete.

Each is one transaction, committed before it returns.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ebbtide.errors import EdgeRefused, TooLate
from ebbtide.jobs import clock, holding, parking, tables
from ebbtide.jobs.asking import ask
from ebbtide.jobs.cancelling import Cancel, end_unbegun
from ebbtide.jobs.cancels import recorded_since, stopped_by_limit
from ebbtide.jobs.changes import Changes, Marker, locked
from ebbtide.jobs.deletion import Delete
from ebbtide.jobs.edges import apply_edge
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.posting import NewJob, insert_job
from ebbtide.jobs.retrying import Retry
from ebbtide.jobs.store import Store
from ebbtide.jobs.verbs import ACCEPTED, ALREADY_REQUESTED, REFUSED, TOO_LATE

__all__ = ["ACCEPTED", "ALREADY_REQUESTED", "Ledger", "NewJob", "flow_detail_id", "logbook_of"]

_jobs = tables.jobs
_NAMESPACE = uuid.UUID("5c1f7f3e-4b8e-4b57-9d7f-3a1d2c0e9b11")


def logbook_of(job_id: str) -> str:
    """The uuid of the TaskFlow logbook of a job: the job's own id, so that any TaskFlow tool finds it."""
    return job_id


def flow_detail_id(job_id: str, attempt: int) -> str:
    """The uuid of TaskFlow's flow detail of an attempt: one each, so a reverted flow is never run again."""
    return str(uuid.uuid5(_NAMESPACE, f"{job_id}/{attempt}"))


class Ledger:
    """The client's side of the jobs table. Safe to use from several threads.

    A method that raises has changed nothing, unless it is a `CommitUnknown`. `StoreUnavailable` says that the
    store was away; a transaction that another one was in the way of has been repeated before.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changes = Changes(store)

    def post(self, new: NewJob, *, who: str) -> str:
        """Store a job; returns its id. It may be claimed before this returns.

        With an idempotency key it may be the id of a job that was posted before.

        Raises:
            KeyReused, KeyBusy, JobNotFound, ParentEnding: see `insert_job`.
        """
        job_id = str(uuid.uuid4())
        now = clock.wall()
        answered = [job_id]

        def insert(connection: sa.Connection) -> None:
            answered[0] = insert_job(connection, new, job_id, at=now, who=who)

        while True:
            try:
                self._changes.insert(insert, job_id)
                return answered[0]
            except IntegrityError:
                # Two reserved one slot at once. The other's is stored, and seen the next time.
                if not new.refuse_busy:
                    raise

    def knows(self, job_id: str) -> bool:
        """Whether there is such a job."""
        with self._store.read() as connection:
            return connection.execute(sa.select(_jobs.c.id).where(_jobs.c.id == job_id)).first() is not None

    def cancel(
        self,
        job_id: str,
        *,
        reason: str,
        who: str,
        source: str = "user",
        asked_at: float | None = None,
        ahead: Callable[[], None] | None = None,
    ) -> str:
        """Record a cancel request; returns `ACCEPTED` or `ALREADY_REQUESTED`, true once returned.

        A job of which nothing has begun is cancelled at once. One that is running, holds, or was
        released half-done, is undone by its conductor and then ends cancelled, or parks on its
        way there.

        Args:
            asked_at: for a request that may come a second time, by way of what a dead process left: when it
                was made, in unix seconds. One that was recorded since, in whichever attempt, is not recorded
                again.
            ahead: called right before a request is committed, as `Signal.ring_ahead` wants it; maybe more
                than once, and in vain where the commit fails.

        Raises:
            TooLate: it has completed or failed already.
            JobNotFound: no such job.
        """
        verb = Cancel(who, reason=reason, source=source)

        def answer(connection: sa.Connection, row: sa.Row[Any]) -> str:
            known = asked_at is not None and recorded_since(connection, job_id, reason, who, source, asked_at)
            return ALREADY_REQUESTED if known else verb.answers(connection, [row])[0]

        word, row = ask(self._changes, verb, job_id, answer, ahead)
        if word == TOO_LATE:
            raise TooLate(job_id, row.state)
        return word

    def retry(self, job_id: str, *, who: str) -> int:
        """Post a failed or cancelled job once more under the same id; returns the new attempt's number.

        The old attempt stays in the history with its cancel request, tasks and outcome.

        Raises:
            EdgeRefused: it is neither failed nor cancelled.
        """
        word, row = ask(self._changes, Retry(who), job_id)
        if word == REFUSED:
            raise EdgeRefused(job_id, row.state, "retried")
        return int(row.attempt) + 1

    def retry_from_failure(self, job_id: str, *, who: str) -> None:
        """Let a job that holds go on at the task that failed, in the same attempt: nothing was undone.

        Raises:
            EdgeRefused: it does not hold.
        """
        now = clock.wall()
        self._changes.apply(
            lambda connection: holding.go_on(connection, locked(connection, job_id), at=now, who=who),
            job_id,
            Marker("unparked", now, who),
        )

    def unpark(self, job_id: str, *, who: str, skip: str | None = None, reason: str = "") -> None:
        """Let a parked job go on where it was: backwards if it was being undone, or is to be cancelled.

        One that holds goes on at what failed. A job that is to be cancelled and of which nothing has begun is
        cancelled at once. `skip` is a task whose undo is left out, for that `reason`.

        Raises:
            EdgeRefused: it is not parked.
            UsageError: no undo of `skip` has failed.
        """
        now = clock.wall()

        def let_go_on(connection: sa.Connection) -> None:
            parked = locked(connection, job_id)
            if holding.holds(connection, parked):
                if skip is not None:
                    parking.skip_undo(connection, parked, skip, reason)
                holding.go_on(connection, parked, at=now, who=who)
                return
            values = {"due_at": WallNow(), "interruptions": 0, "owner": None}
            detail = None if skip is None else {"skipped": skip, "reason": reason}
            row = apply_edge(connection, "unparked", job_id, at=now, values=values, actor=who, detail=detail)
            if skip is not None:
                parking.skip_undo(connection, row, skip, reason)
            parking.let_try_again(connection, row)
            asked = row.cancel_requested_at is not None and not stopped_by_limit(connection, row)
            if asked and not row.begun:
                end_unbegun(connection, [job_id], at=now, who=who)

        self._changes.apply(let_go_on, job_id, Marker("unparked", now, who, or_gone=True))

    def accept(self, job_id: str, *, reason: str, who: str) -> None:
        """End a parked job as it is: cancelled if that was requested, else failed; its undo is `accepted`.

        Raises:
            EdgeRefused: it is not parked.
        """
        now = clock.wall()
        self._changes.apply(
            lambda connection: parking.accept(
                connection, locked(connection, job_id), at=now, reason=reason, who=who
            ),
            job_id,
            Marker("accepted_as_failed", now, who, or_name="accepted_as_cancelled", or_gone=True),
        )

    def delete(self, job_id: str, *, who: str) -> str:
        """Remove a job with all that is stored of it; returns `DELETED`, `ACCEPTED` or `ALREADY_REQUESTED`.

        One that is at work, or half-done, is cancelled and undone first: see `Delete`.
        """
        return ask(self._changes, Delete(who), job_id)[0]
