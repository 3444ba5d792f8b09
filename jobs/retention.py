"""Retention: jobs that have ended are removed after a time, each with all that is stored of it."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping

import sqlalchemy as sa

from ebbtide.config import Settings
from ebbtide.errors import UsageError
from ebbtide.jobs import tables
from ebbtide.jobs.changes import unless_in_the_way
from ebbtide.jobs.children import has_unended_children
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.removal import remove
from ebbtide.jobs.states import FINAL_STATES, JobState
from ebbtide.jobs.store import Store

__all__ = ["Retention", "kept_days", "take_turn"]

_jobs = tables.jobs
_chores = tables.chores

_DAY_SECONDS = 86400.0
_MOST_DAYS = 36500.0
# In one transaction: so few that nobody waits long for it.
_BATCH = 100


def kept_days(settings: Settings) -> dict[str, float]:
    """By state, what the options say; a state that is kept for ever is not in it."""
    days = {state.value: float(getattr(settings, f"keep_{state}_days")) for state in FINAL_STATES}
    return {state: kept for state, kept in days.items() if kept}


class Retention:
    """Removes what has ended longer ago than it is kept. A job that has not ended is never
    touched, nor is one with such a child.

    Args:
        days: how long jobs of a final state are kept, from their end; a state that is not named is kept.

    Raises:
        UsageError: of a state that is not final, or no number of days.
    """

    def __init__(self, store: Store, days: Mapping[str, float]) -> None:
        for state, kept in days.items():
            if state not in list(FINAL_STATES):
                raise UsageError(f"only jobs that have ended are removed, not those that are {state}")
            if isinstance(kept, bool) or not isinstance(kept, (int, float)) or not 0 <= kept <= _MOST_DAYS:
                raise UsageError(f"{state} jobs are kept for a number of days, from 0 to {_MOST_DAYS:g}")
        self._store = store
        self._days = dict(sorted(days.items()))

    def count(self) -> dict[str, int]:
        """By state, how many jobs `prune` would remove now."""
        with self._store.read() as connection:
            return {
                state: connection.execute(
                    sa.select(sa.func.count()).select_from(_jobs).where(*self._outlived(state))
                ).scalar_one()
                for state in self._days
            }

    def prune(self) -> dict[str, int]:
        """Remove them all, a hundred to a transaction; returns how many, by state."""
        removed = dict.fromkeys(self._days, 0)
        for state, number in self._batches():
            removed[state] += number
        return removed

    def prune_some(self) -> int:
        """Remove at most a hundred; returns how many. 0: none is left that could be removed now."""
        return next((number for _, number in self._batches()), 0)

    def _batches(self) -> Iterator[tuple[str, int]]:
        for state in self._days:
            # A run that has lost its claim locks the row of its job last, and may be in the way.
            while number := unless_in_the_way(functools.partial(self._remove_batch, state)):
                yield state, number

    def _remove_batch(self, state: str) -> int:
        oldest = sa.select(_jobs.c.id).where(*self._outlived(state)).order_by(_jobs.c.ended_at).limit(_BATCH)
        with self._store.write() as connection:
            # Locked: one that is retried meanwhile is passed over, and not removed after that.
            ids = set(connection.scalars(oldest.with_for_update(skip_locked=True)))
            ids -= _with_busy_children(connection, ids)
            remove(connection, list(ids))
        return len(ids)

    def _outlived(self, state: str) -> tuple[sa.ColumnElement[bool], ...]:
        before = WallNow() - self._days[state] * _DAY_SECONDS
        # A parent is told of as long as a child of it lives.
        childless = sa.not_(has_unended_children())
        return (_jobs.c.state == JobState(state).value, _jobs.c.ended_at <= before, childless)


def _with_busy_children(connection: sa.Connection, parents: Collection[str]) -> set[str]:
    """Those of these jobs of which a child is somebody else's now; all other children are locked.

    A child is changed when its parent is removed. Who waited for it would hold what its holder may want next.
    """
    children = sa.select(_jobs.c.id, _jobs.c.parent).where(_jobs.c.parent.in_(parents))
    ours = {row.id for row in connection.execute(children.with_for_update(skip_locked=True))}
    return {row.parent for row in connection.execute(children) if row.id not in ours}


def take_turn(store: Store, chore: str, owner: str, *, seconds: float) -> bool:
    """Whether it is `owner`'s turn at what one conductor does for all; if so, nobody's for so many seconds.

    Whoever dies in it leaves the rest to the next turn.
    """
    with store.write() as connection:
        taken = connection.execute(
            sa.update(_chores)
            .where(_chores.c.name == chore, _chores.c.free_at <= WallNow())
            .values(free_at=WallNow() + seconds, owner=owner)
            .returning(_chores.c.name)
        ).first()
    return taken is not None
