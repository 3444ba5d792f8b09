"""What clients change: post, cancel, retry, unpark, accept, delete.

Each is one transaction, committed before it returns.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from ebbtide.errors import EdgeRefused, TooLate
from ebbtide.flows.policies import Policies
from ebbtide.jobs import clock, holding, parking, tables
from ebbtide.jobs.attempts import next_attempt
from ebbtide.jobs.cancels import recorded_since, stopped_by_limit, store_request
from ebbtide.jobs.changes import Changes, Marker, locked
from ebbtide.jobs.edges import apply_edge, insert_first_entry
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.removal import remove
from ebbtide.jobs.states import FINAL_STATES, JobState
from ebbtide.jobs.store import Store
from ebbtide.tasks import payload

__all__ = ["ACCEPTED", "ALREADY_REQUESTED", "Ledger", "NewJob", "logbook_of"]

ACCEPTED = "accepted"
ALREADY_REQUESTED = "already requested"

_jobs = tables.jobs


@dataclass(frozen=True)
class NewJob:
    """A job to be posted. `parameters` and `labels_text` are JSON texts, checked by the caller."""

    flow: str
    version: int
    parameters: str
    labels_text: str
    labels: Mapping[str, str]
    priority: int = 0
    delay_seconds: float = 0.0
    policies: Policies = field(default_factory=Policies)


def logbook_of(job_id: str) -> str:
    """The uuid of the TaskFlow logbook of a job: the job's own id, so that any TaskFlow tool finds it."""
    return job_id


class Ledger:
    """The client's side of the jobs table. Safe to use from several threads.

    A method that raises has changed nothing, unless it is a `CommitUnknown`. `StoreUnavailable` says that the
    store was away; a transaction that another one was in the way of has been repeated before.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changes = Changes(store)

    def post(self, new: NewJob, *, who: str) -> str:
        """Store a job; returns its id. It may be claimed before this returns."""
        job_id = str(uuid.uuid4())
        now = clock.wall()

        def insert(connection: sa.Connection) -> None:
            row = connection.execute(
                sa.insert(_jobs)
                .values(
                    id=job_id,
                    flow=new.flow,
                    version=new.version,
                    state=JobState.PENDING.value,
                    priority=new.priority,
                    created_at=now,
                    due_at=WallNow() + new.delay_seconds,
                    limit_seconds=new.policies.limits.job_seconds,
                    stall_seconds=new.policies.limits.no_progress_seconds,
                    entries=1,
                )
                .returning(_jobs)
            ).one()
            connection.execute(
                sa.insert(tables.job_parameters).values(
                    job=job_id, parameters=new.parameters, labels=new.labels_text
                )
            )
            if new.policies != Policies():
                text = payload.encode(new.policies.as_dict(), "the policies")
                connection.execute(sa.insert(tables.job_policies).values(job=job_id, policies=text))
            if new.labels:
                connection.execute(
                    sa.insert(tables.job_labels),
                    [{"job": job_id, "key": key, "value": value} for key, value in new.labels.items()],
                )
            insert_first_entry(connection, row, now, who)

        self._changes.insert(insert)
        return job_id

    def knows(self, job_id: str) -> bool:
        """Whether there is such a job."""
        with self._store.read() as connection:
            return connection.execute(sa.select(_jobs.c.id).where(_jobs.c.id == job_id)).first() is not None

    def cancel(
        self, job_id: str, *, reason: str, who: str, source: str = "user", asked_at: float | None = None
    ) -> str:
        """Record a cancel request; returns `ACCEPTED` or `ALREADY_REQUESTED`, true once returned.

        A job of which nothing has begun is cancelled at once. One that is running, holds, or was
        released half-done, is undone by its conductor and then ends cancelled, or parks on its
        way there.

        Args:
            asked_at: for a request that may come a second time, by way of what a dead process left: when it
                was made, in unix seconds. One that was recorded since, in whichever attempt, is not recorded
                again.

        Raises:
            TooLate: it has completed or failed already.
            JobNotFound: no such job.
        """
        now = clock.wall()

        def request(connection: sa.Connection) -> str:
            row = locked(connection, job_id)
            state = JobState(row.state)
            # What has failed, having passed a limit, has a request as well; it is too late all the same.
            stopping = row.cancel_requested_at is not None and state not in FINAL_STATES
            if stopping or state is JobState.CANCELLED:
                return ALREADY_REQUESTED
            if asked_at is not None and recorded_since(connection, job_id, reason, who, source, asked_at):
                return ALREADY_REQUESTED
            if state in FINAL_STATES:
                raise TooLate(job_id, state)
            held = holding.holds(connection, row)
            store_request(connection, row, now, reason, who, source)
            if held:
                holding.let_undo(connection, row, at=now, who=who)
                state = JobState.PENDING
            if state in (JobState.PENDING, JobState.PAUSED) and not row.begun:
                self._cancel_unclaimed(connection, job_id, state, row.attempt, now, who)
            elif state is JobState.PENDING:
                # It is undone as soon as a conductor is free, whenever it was due.
                connection.execute(sa.update(_jobs).where(_jobs.c.id == job_id).values(due_at=WallNow()))
            elif state is JobState.PAUSED:
                apply_edge(connection, "resumed", job_id, at=now, actor=who, values={"due_at": WallNow()})
            return ACCEPTED

        return self._changes.apply(request, job_id, Marker("cancel_requested", now, who))

    def _cancel_unclaimed(
        self, connection: sa.Connection, job_id: str, state: JobState, attempt: int, now: float, who: str
    ) -> None:
        """Of a job that has begun nothing: there is nothing to undo, so its request is fulfilled."""
        apply_edge(
            connection,
            "cancelled_unclaimed",
            job_id,
            at=now,
            source=state,
            conditions=(_jobs.c.begun == 0,),
            values={"ended_at": now, "undo": "none"},
            actor=who,
        )
        connection.execute(
            sa.insert(tables.job_outcomes).values(
                job=job_id, attempt=attempt, state=JobState.CANCELLED.value, undo="none", ended_at=now
            )
        )
        cancels = tables.job_cancels
        mine = (cancels.c.job == job_id, cancels.c.attempt == attempt)
        connection.execute(sa.update(cancels).where(*mine).values(reverted_at=now))

    def retry(self, job_id: str, *, who: str) -> int:
        """Post a failed or cancelled job once more under the same id; returns the new attempt's number.

        The old attempt stays in the history with its cancel request, tasks and outcome.

        Raises:
            EdgeRefused: it is neither failed nor cancelled.
        """
        now = clock.wall()

        def post_again(connection: sa.Connection) -> int:
            row = locked(connection, job_id)
            new = apply_edge(
                connection,
                "retried",
                job_id,
                at=now,
                source=JobState(row.state),
                values=next_attempt() | {"retries": 0},
                actor=who,
            )
            return int(new.attempt)

        return self._changes.apply(post_again, job_id, Marker("retried", now, who))

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
                self._cancel_unclaimed(connection, job_id, JobState.PENDING, row.attempt, now, who)

        self._changes.apply(let_go_on, job_id, Marker("unparked", now, who))

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
            Marker("accepted_as_failed", now, who, or_name="accepted_as_cancelled"),
        )

    def delete(self, job_id: str) -> None:
        """Remove a job that has ended, or of which nothing has begun, with all that is stored of it.

        Raises:
            EdgeRefused: it is running, parked, or half-done; cancel it first.
        """

        def remove_it(connection: sa.Connection) -> None:
            row = locked(connection, job_id)
            state = JobState(row.state)
            idle = state in (JobState.PENDING, JobState.PAUSED) and not row.begun
            if state not in FINAL_STATES and not idle:
                raise EdgeRefused(job_id, state, "delete")
            remove(connection, [job_id])

        self._changes.apply(remove_it, job_id, None)
