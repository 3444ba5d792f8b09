"""What a job waits for that no conductor can take up now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs.children import unended_children
from ebbtide.jobs.keys import holders_of
from ebbtide.jobs.states import JobState

__all__ = ["A_CONDUCTOR", "A_RESUMER", "waits_for", "waits_of"]

# How the words begin of what is no matter of other jobs.
A_CONDUCTOR = "a conductor"
A_RESUMER = "somebody to resume flow"

_SHOWN = 3
_Live = Mapping[str, frozenset[str]]


def waits_of(
    connection: sa.Connection,
    rows: Sequence[sa.Row[Any]],
    live: _Live,
    paused: Collection[tuple[str, int]] = (),
    *,
    names_holders: bool = True,
) -> dict[str, str]:
    """By job, in words; without those that can be taken up, or need not be.

    Args:
        rows: with a column `is_due`.
        paused: the flows of which nobody claims a job, with their versions.
        live: the conductors whose lease runs, each with the flows that it knows.
        names_holders: whether the jobs that hold an exclusive key are named: they may be anybody's.
    """
    due = [row for row in rows if row.state == JobState.PENDING and row.is_due]
    keyed = {row.id: row.exclusive_key for row in due if row.exclusive_key and row.held_key is None}
    holders = holders_of(connection, set(keyed.values()))
    back = [row.id for row in due if row.cancel_requested_at is not None or row.undoing]
    children = unended_children(connection, back)
    found = {}
    for row in rows:
        words = waits_for(row, due=bool(row.is_due), live=live, paused=paused)
        holding = holders.get(keyed.get(row.id, ""), [])
        if words is None and row.id in children:
            words = f"the end of its children: {_named(children[row.id])}"
        told = _named(holding) if names_holders else "others"
        if words is None and holding and len(holding) >= row.key_limit:
            words = f"exclusive key {row.exclusive_key}, which is held by {told}"
        if words is not None:
            found[row.id] = words
    return found


def waits_for(
    job: sa.Row[Any], *, due: bool, live: _Live, paused: Collection[tuple[str, int]] = ()
) -> str | None:
    """Which conductor would have to come for a job; None when one is there, or need not be."""
    pending = job.state == JobState.PENDING.value and due
    orphaned = job.state == JobState.RUNNING.value and job.owner not in live
    if not pending and not orphaned:
        return None
    stopped = {(job.flow, 0), (job.flow, job.version)} & set(paused)
    if pending and stopped and job.cancel_requested_at is None:
        return f"{A_RESUMER} {job.flow}, which is paused"
    if not live:
        return f"{A_CONDUCTOR}: none is running"
    key = f"{job.flow}@{job.version}"
    if any(key in flows for flows in live.values()):
        return None
    return f"{A_CONDUCTOR} that knows {key}: none of those running does"


def _named(job_ids: Sequence[str]) -> str:
    more = len(job_ids) - _SHOWN
    told = ", ".join(job_ids[:_SHOWN])
    return f"{told} and {more} more" if more > 0 else told
