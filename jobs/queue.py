"""Which job comes next: among those that wait, and among those whose conductor is gone; which one cannot."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import clock, tables
from ebbtide.jobs.children import children_ended
from ebbtide.jobs.keys import has_room
from ebbtide.jobs.moments import Era, LeaseNow, WallNow
from ebbtide.jobs.states import JobState

__all__ = [
    "anything_due",
    "due_one",
    "first_due",
    "is_gone",
    "is_live",
    "live_conductors",
    "long_gone",
    "next_due",
    "next_orphan",
    "paused_flows",
]

_jobs = tables.jobs
_conductors = tables.conductors
_paused = tables.paused_flows

# One look into an index: a conductor with nothing to do asks all the time, and jobs may wait here by the
# hundred thousand that it may not claim, or not yet.
_any_due = (
    sa.select(sa.literal(1))
    .where(_jobs.c.state == JobState.PENDING.value, _jobs.c.due_at <= WallNow())
    .limit(1)
)
# As many flows in one statement: SQLite takes 500 parts of a UNION.
_MOST_KEYS = 200
_ORDER = ("priority", "due_at", "created_at")


def is_live() -> sa.ColumnElement[bool]:
    """Whether a conductor's lease runs."""
    return sa.and_(
        _conductors.c.released_at.is_(None),
        _conductors.c.boot_id == Era(),
        _conductors.c.lease_until > LeaseNow(),
    )


def is_gone(connection: sa.Connection, owner: str | None) -> bool:
    """Whether a holder that was seen without a lease has none: a renewal may have been on its way.

    Its row is locked: a renewal that has begun is waited for, and none begins before this transaction ends.
    """
    of = _conductors.c.id == owner
    connection.execute(sa.select(_conductors.c.id).where(of).with_for_update()).first()
    return connection.execute(sa.select(_conductors.c.id).where(of, is_live())).first() is None


def long_gone() -> sa.ColumnElement[bool]:
    """Conductors of yesterday and before that have no lease and, by the ledger, no job."""
    theirs = sa.exists().where(_jobs.c.owner == _conductors.c.id)
    return sa.and_(~is_live(), _conductors.c.started_at < clock.wall() - 86400, ~theirs)


# Built once, like those above.
_orphan = (
    sa.select(_jobs)
    .where(
        _jobs.c.state == JobState.RUNNING.value,
        ~sa.exists().where(_conductors.c.id == _jobs.c.owner, is_live()),
        (_jobs.c.flow + "@" + sa.cast(_jobs.c.version, sa.Text)).in_(sa.bindparam("keys", expanding=True)),
    )
    .order_by(_jobs.c.created_at)  # else it is the plan of the day that says which is found
    .limit(1)
)
_orphan_locked = _orphan.with_for_update(skip_locked=True, of=_jobs)


def next_due(connection: sa.Connection, keys: Iterable[str], *, lock: bool) -> str | None:
    """The id of the pending job that comes first, of the flows `keys` (name@version), of those due.

    Args:
        lock: hold it against others who ask, until the transaction ends. What another conductor is about
            to claim is passed over then, not waited for. SQLite has one writer at a time.
    """
    best = first_due(connection, keys, 1, lock=lock)
    return str(best[0].id) if best else None


def anything_due(connection: sa.Connection) -> bool:
    """Whether any job waits that is due, whoever may claim it."""
    return connection.execute(_any_due).first() is not None


def first_due(
    connection: sa.Connection, keys: Iterable[str], limit: int, *, lock: bool = False
) -> list[sa.Row[Any]]:
    """The first `limit` of the pending jobs of the flows `keys` that are due: id, flow, version, priority,
    due_at and created_at of each. However many flows there are, that is two statements, or one when
    nothing is due; on SQLite one more for each two hundred flows.

    Args:
        lock: as for `next_due`; of each flow so many are held.
    """
    if not anything_due(connection):
        return []
    named = (key.rpartition("@") for key in sorted(set(keys)))
    known = [(flow, int(version)) for flow, _, version in named if version.isdecimal()]
    if connection.dialect.name == "postgresql":
        flows, versions = [flow for flow, _ in known], [version for _, version in known]
        query = _first_locked if lock else _first
        return list(connection.execute(query, {"flows": flows, "versions": versions, "limit": limit}))
    found: list[sa.Row[Any]] = []
    for some in _batches(known):
        found += connection.execute(_first_of(some, limit))
    return sorted(found, key=lambda row: (-row.priority, row.due_at, row.created_at))[:limit]


@lru_cache(maxsize=16)
def _first_of(known: tuple[tuple[str, int], ...], limit: int) -> sa.Select[Any]:
    """One look into the index for each flow, in one statement: SQLite joins nothing laterally.

    Built once for the flows of a conductor, so that SQLAlchemy compiles it once.
    """
    looks = [sa.select(_first_of_flow(*each, limit).subquery()) for each in known]
    every = sa.union_all(*looks).subquery()
    return sa.select(every).order_by(*_ranked(every)).limit(limit)


def _ranked(jobs: sa.FromClause) -> tuple[sa.ColumnElement[Any], ...]:
    return (jobs.c.priority.desc(), jobs.c.due_at, jobs.c.created_at)


def _first_of_flow(flow: Any, version: Any, limit: Any) -> sa.Select[Any]:
    return (
        sa.select(_jobs.c.id, _jobs.c.flow, _jobs.c.version, *(_jobs.c[name] for name in _ORDER))
        .where(
            _jobs.c.state == JobState.PENDING.value,
            _jobs.c.flow == flow,
            _jobs.c.version == version,
            # As a sum, so that no index on due_at is chosen, which would have to sort all that is due.
            _jobs.c.due_at + 0.0 <= WallNow(),
            _wanted(flow, version),
            *_claimable(),
        )
        .order_by(*_ranked(_jobs))
        .limit(limit)
    )


def _claimable() -> tuple[sa.ColumnElement[bool], ...]:
    """What keeps a job that is due from being claimed: its exclusive key, and children that it waits for."""
    return has_room(), children_ended()


def _wanted(flow: Any, version: Any) -> sa.ColumnElement[bool]:
    """Whether a job may be claimed although its flow may be paused. Whatever is to be cancelled may."""
    stopped = sa.exists().where(_paused.c.flow == flow, _paused.c.version.in_((0, version)))
    return sa.or_(_jobs.c.cancel_requested_at.is_not(None), ~stopped.correlate_except(_paused))


def _batches(known: list[tuple[str, int]]) -> Iterator[tuple[tuple[str, int], ...]]:
    rest = iter(known)
    while some := tuple(islice(rest, _MOST_KEYS)):
        yield some


def _first_of_each(lock: bool) -> sa.Select[Any]:
    """The same look for each flow, as one part of a statement: PostgreSQL takes far longer to plan a look
    than to look, and would plan each part of a union.
    """
    arrays = (
        sa.bindparam("flows", type_=sa.ARRAY(sa.Text)),
        sa.bindparam("versions", type_=sa.ARRAY(sa.Integer)),
    )
    known = sa.func.unnest(*arrays).table_valued("flow", "version").render_derived()
    limit = sa.bindparam("limit", type_=sa.Integer)
    query = _first_of_flow(known.c.flow, known.c.version, limit)
    best = (query.with_for_update(skip_locked=True, of=_jobs) if lock else query).lateral()
    return sa.select(best).select_from(known.join(best, sa.true())).order_by(*_ranked(best)).limit(limit)


_first, _first_locked = _first_of_each(lock=False), _first_of_each(lock=True)


def due_one(connection: sa.Connection, job_id: str) -> sa.Row[Any] | None:
    """The job of that id if it is pending and due, and waits for no other, held until the transaction ends;
    None: it is not, or another conductor is about to claim it.
    """
    query: sa.Select[Any] = (
        sa.select(_jobs.c.id, _jobs.c.flow, _jobs.c.version)
        .where(
            _jobs.c.id == job_id,
            _jobs.c.state == JobState.PENDING.value,
            _jobs.c.due_at <= WallNow(),
            _wanted(_jobs.c.flow, _jobs.c.version),
            *_claimable(),
        )
        .with_for_update(skip_locked=True, of=_jobs)
    )
    return connection.execute(query).first()


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


def paused_flows(connection: sa.Connection) -> frozenset[tuple[str, int]]:
    """The flows of which nobody claims a job, with their versions; 0 stands for every version."""
    return frozenset((row.flow, row.version) for row in connection.execute(sa.select(_paused)))
