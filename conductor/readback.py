"""What a run reads back of what it, or a client, has stored."""

from __future__ import annotations

import sqlalchemy as sa

from ebbtide.errors import StoreUnavailable
from ebbtide.jobs import tables
from ebbtide.jobs.claims import Claim
from ebbtide.jobs.store import Store

__all__ = ["is_stored", "request_of"]


def is_stored(store: Store, claim: Claim, number: int, *, or_gone: bool = False) -> bool:
    """Whether the commit of that number was stored under the claim, as far as the store can be asked.

    Args:
        or_gone: take it for stored, too, when there is no such job any more.
    """
    jobs = tables.jobs
    try:
        with store.read() as connection:
            row = connection.execute(
                sa.select(jobs.c.write, jobs.c.epoch).where(jobs.c.id == claim.job_id)
            ).first()
    except StoreUnavailable:
        return False
    if row is None:
        return or_gone
    return bool(row.epoch == claim.epoch and row.write >= number)


def request_of(connection: sa.Connection, claim: Claim) -> tuple[str, str]:
    """Reason and source of the cancel request of the claim's attempt, which there is."""
    cancels = tables.job_cancels
    row = connection.execute(
        sa.select(cancels.c.reason, cancels.c.source).where(
            cancels.c.job == claim.job_id, cancels.c.attempt == claim.attempt
        )
    ).one()
    return (row.reason, row.source)
