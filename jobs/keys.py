"""Exclusive keys: no more jobs than a key has slots hold it at once.

A job takes a slot when it is claimed, ``held_key`` in its row, and has it until all is undone or done:
through a crash, a takeover, a pause and a park. Two that want the same slot meet at the unique index,
whichever way they came there; the queries here only spare them the meeting.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ebbtide.errors import KeyBusy
from ebbtide.jobs import tables
from ebbtide.jobs.children import UNENDED

__all__ = ["KeyTaken", "has_room", "holders_of", "reserve", "take_slot"]

_jobs = tables.jobs
_holder = _jobs.alias("holder")


class KeyTaken(Exception):
    """Somebody else has taken the last slot of a key meanwhile."""


def has_room() -> sa.ColumnElement[bool]:
    """Whether a pending job may be claimed as far as its exclusive key goes."""
    held = (
        sa.select(sa.func.count())
        .select_from(_holder)
        .where(_holder.c.exclusive_key == _jobs.c.exclusive_key, _holder.c.held_key.is_not(None))
        .scalar_subquery()
    )
    return sa.or_(_jobs.c.exclusive_key.is_(None), _jobs.c.held_key.is_not(None), held < _jobs.c.key_limit)


def take_slot(connection: sa.Connection, job: sa.Row[Any]) -> None:
    """Give a job that was claimed just now the slot that it needs, if any and if it has none yet.

    Raises:
        KeyTaken, IntegrityError: another was quicker. Roll back.
    """
    if job.exclusive_key is None or job.held_key is not None:
        return
    slot = _free_slot(connection, job.exclusive_key, job.key_limit)
    if slot is None:
        raise KeyTaken
    connection.execute(sa.update(_jobs).where(_jobs.c.id == job.id).values(held_key=slot))


def reserve(connection: sa.Connection, key: str, limit: int) -> str:
    """The slot for a job that is posted only if there is one, and has it from then on.

    Jobs that wait for the key count as well: it is busy, whoever comes next.

    Raises:
        KeyBusy: there is none.
    """
    query = (
        sa.select(_jobs.c.id)
        .where(_jobs.c.exclusive_key == key, _jobs.c.state.in_(UNENDED))
        .order_by(_jobs.c.created_at, _jobs.c.id)
        .limit(limit)
    )
    wanting = list(connection.scalars(query))
    slot = _free_slot(connection, key, limit)
    if slot is None or len(wanting) >= limit:
        raise KeyBusy(key, wanting)
    return slot


def holders_of(connection: sa.Connection, keys: set[str]) -> dict[str, list[str]]:
    """The jobs that hold each of these keys."""
    query = (
        sa.select(_jobs.c.exclusive_key, _jobs.c.id)
        .where(_jobs.c.exclusive_key.in_(keys), _jobs.c.held_key.is_not(None))
        .order_by(_jobs.c.created_at, _jobs.c.id)
    )
    found: dict[str, list[str]] = {}
    for row in connection.execute(query) if keys else ():
        found.setdefault(row.exclusive_key, []).append(row.id)
    return found


def _free_slot(connection: sa.Connection, key: str, limit: int) -> str | None:
    """The first slot up to the limit, unless as many hold the key already, in whichever slots.

    Jobs of one key may have several limits, those of an older version of the flow say: each obeys its own.
    """
    query = sa.select(_jobs.c.held_key).where(_jobs.c.exclusive_key == key, _jobs.c.held_key.is_not(None))
    held = set(connection.scalars(query))
    if len(held) >= limit:
        return None
    return next(slot for number in range(1, limit + 1) if (slot := f"{key}#{number}") not in held)
