"""Which job comes next: among those that wait, and among those whose conductor is gone; which one cannot."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.children import children_ended
from ebbtide.jobs.keys import has_room
from ebbtide.jobs.moments import Era, LeaseNow, WallNow
from ebbtide.jobs.states import JobState

__all__ = ["is_live", "live_conductors", "next_due", "next_orphan"]

_jobs = tables.jobs
_conductors = tables.conductors

# Each is one look into an index: a conductor with nothing to do asks all the time, and jobs may wait here
# by the hundred thousand that it may not claim, or not yet.
_any_due = (
    sa.select(sa.literal(1))
    .where(_jobs.c.state == JobState.PENDING.value, _jobs.c.due_at <= WallNow())
    .limit(1)
)
_best_of_flow = (
    sa.select(_jobs.c.id, _jobs.c.priority, _jobs.c.due_at, _jobs.c.created_at)
    .where(
        _jobs.c.state == JobState.PENDING.value,
        _jobs.c.flow == sa.bindparam("flow"),
        _jobs.c.version == sa.bindparam("version"),
        # As a sum, so that no index on due_at is chosen, which would have to sort all that is due.
        _jobs.c.due_at + 0.0 <= WallNow(),
        has_room(),
        children_ended(),
    )
    .order_by(_jobs.c.priority.desc(), _jobs.c.due_at, _jobs.c.created_at)
    .limit(1)
)
# What another conductor is about to claim is passed over, not waited for. SQLite has one writer at a time.
_best_of_flow_locked = _best_of_flow.with_for_update(skip_locked=True, of=_jobs)


def is_live() -> sa.ColumnElement[bool]:
    """Whether a conductor's lease runs."""
    return sa.and_(
        _conductors.c.released_at.is_(None),
        _conductors.c.boot_id == Era(),
        _conductors.c.lease_until > LeaseNow(),
    )


# Built once, like those above.
_orphan = (
    sa.select(_jobs)
    .where(
        _jobs.c.state == JobState.RUNNING.value,
        ~sa.exists().where(_conductors.c.id == _jobs.c.owner, is_live()),
        (_jobs.c.flow + "@" + sa.cast(_jobs.c.version, sa.Text)).in_(sa.bindparam("keys", expanding=True)),
    )
    .limit(1)
)
_orphan_locked = _orphan.with_for_update(skip_locked=True, of=_jobs)


def next_due(connection: sa.Connection, keys: Iterable[str], *, lock: bool) -> str | None:
    """The id of the pending job that comes first, of the flows `keys` (name@version), of those due.

    Args:
        lock: hold it against others who ask, until the transaction ends.
    """
    if connection.execute(_any_due).first() is None:
        return None
    query = _best_of_flow_locked if lock else _best_of_flow
    found = []
    for key in keys:
        flow, _, version = key.rpartition("@")
        if not version.isdecimal():
            continue  # no key of ours
        row = connection.execute(query, {"flow": flow, "version": int(version)}).first()
        if row is not None:
            found.append(row)
    best = min(found, key=lambda row: (-row.priority, row.due_at, row.created_at), default=None)
    return None if best is None else str(best.id)


def next_orphan(connection: sa.Connection, keys: Iterable[str], *, lock: bool) -> sa.Row[Any] | None:
    """A running job of the flows `keys` whose holder has no lease any more.

    Args:
        lock: as for `next_due`.
    """
    return connection.execute(_orphan_locked if lock else _orphan, {"keys": list(keys)}).first()


def live_conductors(connection: sa.Connection) -> dict[str, frozenset[str]]:
    """The conductors whose lease runs, each with the flows that it knows (name@version)."""
    query = sa.select(_conductors.c.id, _conductors.c.flows).where(is_live())
    return {row.id: frozenset(json.loads(row.flows)) for row in connection.execute(query)}
