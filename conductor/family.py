"""The children of the job of one run: what its tasks post, and what has to end before it is undone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from ebbtide.config import Settings
from ebbtide.errors import ClaimLost
from ebbtide.flows import Registry
from ebbtide.jobs import clock, tables
from ebbtide.jobs.cancelling import cancel_children
from ebbtide.jobs.children import unended_children
from ebbtide.jobs.claims import Claim
from ebbtide.jobs.ledger import Ledger, NewJob
from ebbtide.jobs.posting import Wishes, checked_post
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store

__all__ = ["Family"]

_jobs = tables.jobs


class Family:
    """Posts children under the claim of the run. Every method may be called from any thread.

    Args:
        who: the owner of the claim; who is named where a child is cancelled.
        settings: decide of a child what neither its post nor its flow says.
    """

    def __init__(self, store: Store, registry: Registry, claim: Claim, who: str, settings: Settings) -> None:
        self._store = store
        self._registry = registry
        self._claim = claim
        self._who = who
        self._settings = settings
        self._lock = threading.Lock()
        self._posted: Counter[str] = Counter()  # by each task, since its body began

    def begins(self, task: str) -> None:
        """The task's body begins: it posts its first child next."""
        with self._lock:
            del self._posted[task]

    def prepare(self, task: str, flow: str, params: Mapping[str, Any] | None, wishes: Wishes) -> NewJob:
        """The next child that the task posts, checked. Its key is the same when the task is run again.

        Raises:
            FlowNotFound, ParameterError, FlowRefused, PayloadTooLarge, UsageError.
        """
        claim = self._claim
        with self._lock:
            self._posted[task] += 1
            key = wishes.key or f"{claim.attempt}/{task}/{self._posted[task]}"
        wished = replace(wishes, key=key, parent=claim.job_id)
        new = checked_post(self._registry.get(flow), flow, params, wished, settings=self._settings)
        return replace(new, parent_epoch=claim.epoch)

    def post(self, new: NewJob) -> str:
        """Store a child; returns its id, which is that of an earlier one where the same was posted before.

        Raises:
            ParentEnding: the job is being undone.
            ClaimLost: another holder has it.
            KeyReused, KeyBusy: see `Poster.post`.
        """
        return Ledger(self._store).post(new, who=f"job {self._claim.job_id}")

    def request(self) -> tuple[str, str] | None:
        """Reason and source of the cancel request of this attempt, if there is one."""
        cancels = tables.job_cancels
        query = sa.select(cancels.c.reason, cancels.c.source).where(
            cancels.c.job == self._claim.job_id, cancels.c.attempt == self._claim.attempt
        )
        with self._store.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else (row.reason, row.source)

    def stop(self) -> list[str]:
        """Cancel the children that have not ended; returns those that have to end before an undo begins.

        Once it has returned none, none is posted any more.

        Raises:
            ClaimLost: another holder has the job.
        """
        job_id = self._claim.job_id
        with self._store.read() as connection:
            row = connection.execute(self._mine()).first()
            children = unended_children(connection, [job_id]).get(job_id, [])
        if row is None:
            raise ClaimLost(job_id, self._claim.epoch)
        if row.cancel_requested_at is not None or (row.undoing and not children):
            return children  # they were cancelled with it, or before; no other is posted since
        with self._store.write() as connection:
            if connection.execute(self._mine().with_for_update()).first() is None:
                raise ClaimLost(job_id, self._claim.epoch)
            # From here on no child is posted to it.
            connection.execute(sa.update(_jobs).where(_jobs.c.id == job_id).values(undoing=1))
            reason = "its parent has failed"
            cancel_children(connection, [job_id], at=clock.wall(), who=self._who, reason=reason)
            return unended_children(connection, [job_id]).get(job_id, [])

    def _mine(self) -> sa.Select[Any]:
        return sa.select(_jobs).where(
            _jobs.c.id == self._claim.job_id,
            _jobs.c.epoch == self._claim.epoch,
            _jobs.c.state == JobState.RUNNING.value,
        )
