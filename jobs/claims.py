"""What a conductor changes: its lease, its claims, and what it forwards."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ebbtide import __version__
from ebbtide.errors import ClaimLost, CommitUnknown, EdgeRefused
from ebbtide.jobs import clock, tables
from ebbtide.jobs.attempts import clock_started
from ebbtide.jobs.cancelling import end_unbegun
from ebbtide.jobs.cancels import stopped_by_limit
from ebbtide.jobs.claim import Claim, Request
from ebbtide.jobs.edges import apply_edge, record
from ebbtide.jobs.interrupted import UNBUILT, mark_interrupted, record_hung, unended
from ebbtide.jobs.keys import KeyTaken, take_slot
from ebbtide.jobs.moments import Era, LeaseNow, WallNow
from ebbtide.jobs.parking import park
from ebbtide.jobs.queue import due_one, is_gone, is_live, long_gone, next_due, next_orphan
from ebbtide.jobs.scripts import Statement, send
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store

__all__ = ["MAX_INTERRUPTIONS", "Claim", "Claims", "Request", "new_owner_id"]

MAX_INTERRUPTIONS = 3

_jobs = tables.jobs
_conductors = tables.conductors
_cancels = tables.job_cancels
_REQUESTS = Statement(
    sa.select(_jobs.c.id, _jobs.c.attempt, _cancels.c.reason, _cancels.c.source)
    .join(_cancels, sa.and_(_cancels.c.job == _jobs.c.id, _cancels.c.attempt == _jobs.c.attempt))
    .where(
        _jobs.c.owner == sa.bindparam("key_owner"),
        _jobs.c.state == JobState.RUNNING.value,
        _jobs.c.cancel_requested_at.is_not(None),
        _cancels.c.forwarded_at.is_(None),
    )
)


def new_owner_id() -> str:
    """An id that no other conductor ever has: a name may be configured twice, a pid comes again."""
    return f"{socket.gethostname()}:{os.getpid()}:{clock.boot_id()[:8]}:{secrets.token_hex(6)}"


class Claims:
    """The conductor's side of the ledger, under one owner id. Safe to use from several threads."""

    def __init__(self, store: Store, owner: str, *, name: str, lease_seconds: float) -> None:
        self._store = store
        self._lease_seconds = lease_seconds
        self._name = name
        self.owner = owner

    def register(self, *, flows: Iterable[str], runners: int, isolation: str) -> None:
        """Say that this conductor is here, with its first lease; clear away others that are long gone.

        May be repeated when the answer to it was lost.
        """
        with self._store.write() as connection:
            connection.execute(sa.delete(_conductors).where(_conductors.c.id == self.owner))
            connection.execute(sa.delete(_conductors).where(long_gone()))
            connection.execute(
                sa.insert(_conductors).values(
                    id=self.owner,
                    name=self._name,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    boot_id=Era(),
                    started_at=clock.wall(),
                    lease_until=LeaseNow() + self._lease_seconds,
                    flows=json.dumps(sorted(flows)),
                    runners=runners,
                    isolation=isolation,
                    version=__version__,
                    clock_ahead_seconds=clock.wall() - WallNow(),
                )
            )

    def renew(self) -> bool:
        """Prolong the lease. False: it is over, for good; its jobs may be claimed by others already."""
        with self._store.write() as connection:
            row = connection.execute(
                sa.update(_conductors)
                .where(_conductors.c.id == self.owner, is_live())
                .values(lease_until=LeaseNow() + self._lease_seconds)
                .returning(_conductors.c.id)
            ).first()
        return row is not None

    def release(self) -> None:
        """Give the lease up, once no runner of ours is alive: what we still hold may be claimed at once."""
        with self._store.write() as connection:
            connection.execute(
                sa.update(_conductors)
                .where(_conductors.c.id == self.owner, _conductors.c.released_at.is_(None))
                .values(released_at=clock.wall())
            )

    def claim(self, keys: Iterable[str]) -> Claim | None:
        """Take up the next job of the flows `keys` (name@version): an orphan, else the best pending one.

        A job interrupted too often without progress is parked on the way and the next one tried.
        None when there is nothing to do, or when our own lease is over.
        """
        known = list(keys)
        while self._anything_to_claim(known):
            found, claim = self._stored(lambda connection: self._next(connection, known))
            if claim is not None or not found:
                return claim
        return None

    def claim_one(self, job_id: str, keys: Iterable[str]) -> Claim | None:
        """Take up that job, if it is pending, due and of the flows `keys` (name@version).

        None: it is not, or not any more; or our own lease is over.
        """
        known = frozenset(keys)

        def take(connection: sa.Connection) -> tuple[bool, Claim | None]:
            if not self._has_lease(connection):
                return False, None
            row = due_one(connection, job_id)
            if row is None or f"{row.flow}@{row.version}" not in known:
                return False, None
            return True, self._enter(connection, "claimed", job_id, epoch=None, values={})

        return self._stored(take)[1]

    def _next(self, connection: sa.Connection, keys: list[str]) -> tuple[bool, Claim | None]:
        """Whether a job was found, and the claim to it unless it was parked or taken meanwhile."""
        if not self._has_lease(connection):
            return False, None
        orphan = next_orphan(connection, keys, lock=True)
        if orphan is not None:
            if not is_gone(connection, orphan.owner):
                return False, None  # its renewal was on the way; this is looked at again soon
            return True, self._take_over(connection, orphan, "the conductor that ran it is gone")
        due = next_due(connection, keys, lock=True)
        if due is None:
            return False, None
        return True, self._enter(connection, "claimed", due, epoch=None, values={})

    def _stored(
        self, take: Callable[[sa.Connection], tuple[bool, Claim | None]]
    ) -> tuple[bool, Claim | None]:
        """What `take` returned, once that is stored.

        Raises:
            StoreUnavailable: it is not stored; or nobody can tell, and then `held` tells later.
        """
        taken: tuple[bool, Claim | None] = (False, None)
        try:
            with self._store.write() as connection:
                taken = take(connection)
        except CommitUnknown:
            # Nobody else ever writes our owner id: under this epoch the job is ours by this very claim.
            claim = taken[1]
            if claim is None or self.held().get(claim.job_id) != claim.epoch:
                raise
        except (KeyTaken, IntegrityError):
            return True, None  # two wanted one slot of a key; the other's claim is seen from now on
        return taken

    def _anything_to_claim(self, keys: list[str]) -> bool:
        # An idle conductor asks all the time: asked without the write lock, it holds nobody up.
        with self._store.read() as connection:
            due = next_due(connection, keys, lock=False)
            return due is not None or next_orphan(connection, keys, lock=False) is not None

    def reclaim(
        self,
        job_id: str,
        epoch: int,
        cause: str,
        *,
        ended_in: float | None = None,
        begun: bool = True,
        hung: Mapping[str, str] = MappingProxyType({}),
    ) -> Claim | None:
        """Take up again a job of ours that nothing here runs any more.

        Args:
            ended_in: the stop ladder had its runner ended, in so many seconds: no interruption.
            hung: undos for which it had to be ended; each has failed by that, and why is told with it. Where
                one is no task's, a retry controller's or `UNBUILT`, the job is not taken up.
            begun: False: no runner was ever given it, so that nothing was interrupted either.

        Returns:
            None: it has ended, was lost, or is parked; or our own lease is over, and somebody else will.
        """

        def take(connection: sa.Connection) -> tuple[bool, Claim | None]:
            if not self._has_lease(connection):
                return False, None
            # Locked: a commit of the dead runner may still be under way at the server, and is waited for.
            row = connection.execute(
                sa.select(_jobs)
                .where(
                    _jobs.c.id == job_id,
                    _jobs.c.state == JobState.RUNNING.value,
                    _jobs.c.owner == self.owner,
                    _jobs.c.epoch == epoch,
                )
                .with_for_update()
            ).first()
            if row is None:
                return True, None
            others = record_hung(connection, job_id, row.attempt, hung)
            if others:
                self._give_up(connection, row, _why_hung(others))
                return True, None
            return True, self._take_over(connection, row, cause, ended_in, begun)

        return self._stored(take)[1]

    def _give_up(self, connection: sa.Connection, row: sa.Row[Any], why: str) -> None:
        """Nobody counts how often that has hung: it would for good, and the job with it."""
        at = clock.wall()
        given: dict[str, Any] = {"epoch": row.epoch, "at": at, "actor": self.owner}
        cancelled = row.cancel_requested_at is not None and not stopped_by_limit(connection, row)
        if row.begun or not cancelled:
            mark_interrupted(connection, row.id, row.attempt)
            park(connection, row.id, reason=why, task=None, **given)
            return
        apply_edge(connection, "released", row.id, values={"owner": None}, detail={"reason": why}, **given)
        end_unbegun(connection, [row.id], at=at, who=self.owner)

    def _has_lease(self, connection: sa.Connection) -> bool:
        query = sa.select(_conductors.c.id).where(_conductors.c.id == self.owner, is_live())
        return connection.execute(query).first() is not None

    def hand_back(self, claim: Claim) -> None:
        """Let a job of ours go that was claimed and not begun here; that is no interruption."""
        with self._store.write() as connection, contextlib.suppress(ClaimLost, EdgeRefused):
            apply_edge(
                connection,
                "released",
                claim.job_id,
                at=clock.wall(),
                epoch=claim.epoch,
                values={"owner": None},
                actor=self.owner,
            )

    def held(self) -> dict[str, int]:
        """The running jobs that the ledger says are ours, with their epochs."""
        with self._store.read() as connection:
            return {row.id: row.epoch for row in connection.execute(self._held)}

    def requests(self) -> list[Request]:
        """The cancel requests of running jobs of ours that were not forwarded yet."""
        with self._store.glance() as connection:
            found = send(connection, [(_REQUESTS, [{"owner": self.owner}])])
            return [Request(row.id, row.reason, row.source, row.attempt) for row in found]

    def to_pause(self) -> list[tuple[str, int]]:
        """The running jobs of ours that are to stop between tasks, with their epochs."""
        query = self._held.where(_jobs.c.pause_requested_at.is_not(None))
        with self._store.read() as connection:
            return [(row.id, row.epoch) for row in connection.execute(query)]

    @property
    def _held(self) -> sa.Select[Any]:
        ours = (_jobs.c.owner == self.owner, _jobs.c.state == JobState.RUNNING.value)
        return sa.select(_jobs.c.id, _jobs.c.epoch).where(*ours)

    def forwarded(self, request: Request, at: float) -> None:
        """Record that the request was handed to the run, `at` unix seconds. Repeating changes nothing.

        The run may have ended meanwhile, and the job may be in another attempt: the time is kept
        with its own request; the history of an attempt that has ended is left alone. Handed over again,
        after a run has heard of it and the note of the first time was lost, it was so when it was heard.
        """
        cancels = tables.job_cancels
        heard = sa.func.coalesce(cancels.c.delivered_at, cancels.c.reverted_at)
        with self._store.write() as connection:
            # The job's row first, here as everywhere: two who lock in two orders wait for one another.
            running = connection.execute(
                sa.select(_jobs.c.id)
                .where(
                    _jobs.c.id == request.job_id,
                    _jobs.c.attempt == request.attempt,
                    _jobs.c.state == JobState.RUNNING.value,
                )
                .with_for_update()
            ).first()
            changed = connection.execute(
                sa.update(cancels)
                .where(
                    cancels.c.job == request.job_id,
                    cancels.c.attempt == request.attempt,
                    cancels.c.forwarded_at.is_(None),
                )
                .values(forwarded_at=sa.case((heard < at, heard), else_=at))
                .returning(cancels.c.forwarded_at)
            ).first()
            if changed is not None and running is not None and changed.forwarded_at == at:
                record(connection, "cancel_forwarded", request.job_id, at=at, actor=self.owner)

    def _take_over(
        self,
        connection: sa.Connection,
        row: sa.Row[Any],
        cause: str,
        ended_in: float | None = None,
        begun: bool = True,
    ) -> Claim | None:
        # What is overdue is ended on purpose, whoever comes to do it: it is undone now, and executes nothing.
        interrupted = begun and ended_in is None and row.overdue_at is None
        interruptions = row.interruptions + interrupted
        if interruptions >= MAX_INTERRUPTIONS and interrupted:
            tasks = unended(connection, row.id, row.attempt)
            mark_interrupted(connection, row.id, row.attempt)
            named = f" in {', '.join(tasks)}" if tasks else ""
            reason = f"interrupted {interruptions} times without progress{named}; last: {cause}"
            park(
                connection,
                row.id,
                epoch=row.epoch,
                at=clock.wall(),
                reason=reason,
                task=tasks[0] if tasks else None,
                actor=self.owner,
            )
            return None
        values = {"interruptions": interruptions}
        detail = {"cause": cause} | ({} if ended_in is None else {"ended_in_seconds": round(ended_in, 6)})
        return self._enter(connection, "reclaimed", row.id, epoch=row.epoch, values=values, detail=detail)

    def _enter(
        self,
        connection: sa.Connection,
        name: str,
        job_id: str,
        *,
        epoch: int | None,
        values: dict[str, Any],
        detail: dict[str, Any] | None = None,
    ) -> Claim | None:
        now = clock.wall()
        values |= {
            "owner": self.owner,
            "epoch": _jobs.c.epoch + 1,
            "write": _jobs.c.write + 1,
            "started_at": sa.func.coalesce(_jobs.c.started_at, now),
        }
        if name == "claimed":
            values |= clock_started()
        try:
            row = apply_edge(
                connection, name, job_id, at=now, epoch=epoch, values=values, actor=self.owner, detail=detail
            )
        except EdgeRefused:
            return None
        take_slot(connection, row)
        mark_interrupted(connection, job_id, row.attempt)
        return _claim_of(connection, row)


def _why_hung(others: Mapping[str, str]) -> str:
    """The reason to park for what has hung and is no task's."""
    what, told = next(iter(others.items()))
    return f"its flow could not be built: {told}" if what == UNBUILT else f"the undo of {what} failed: {told}"


def _claim_of(connection: sa.Connection, row: sa.Row[Any]) -> Claim:
    cancels = tables.job_cancels
    asked = connection.execute(
        sa.select(cancels.c.reason, cancels.c.source).where(
            cancels.c.job == row.id, cancels.c.attempt == row.attempt
        )
    ).first()
    return Claim(
        job_id=row.id,
        flow=row.flow,
        version=row.version,
        attempt=row.attempt,
        epoch=row.epoch,
        write=row.write,
        cancel=None if asked is None else Request(row.id, asked.reason, asked.source, row.attempt),
    )
