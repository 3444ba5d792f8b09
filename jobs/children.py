"""Jobs that other jobs have posted: they are cancelled with their parent, and have ended before it is undone.

Whoever changes both locks the parent's row before those of its children. So a child is stored before the
request that stops its parent, and is stopped with it; or after it, and then it is refused.

The order of locks, for whoever locks several jobs: nobody waits for a job while he holds one that is below
it in its family. One job and those below it are locked from it downwards. Many are locked by generation, with
all that is above them: two who change much of one family meet at its root. Who claims or prunes waits for no
job at all. So nobody waits in a circle for jobs: of those who hold all that is above, one waits for another
at roots alone, which all lock by id; and who comes down from one job waits only for who holds one below it.

One circle is left, of a job and its tasks: a run's commit locks these first, and the job last. A run that has
lost its job may meet who takes it up so; the server rolls one of them back, and it begins again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from ebbtide.errors import ClaimLost, ParentEnding, StoreBusy
from ebbtide.jobs import tables
from ebbtide.jobs.changes import locked
from ebbtide.jobs.scripts import Among, Script, Statement, send
from ebbtide.jobs.states import FINAL_STATES, JobState

__all__ = [
    "children_ended",
    "children_of",
    "goes_back",
    "has_unended_children",
    "lock_families",
    "parents_going_back",
    "require_parent",
    "unended_children",
    "with_descendants",
]

_jobs = tables.jobs
UNENDED = tuple(state.value for state in JobState if state not in FINAL_STATES)
_child = _jobs.alias("child")
_CHILDREN = Statement(
    sa.select(_jobs)
    .where(Among(_jobs.c.parent), sa.or_(*(_jobs.c.state == state for state in UNENDED)))
    .order_by(_jobs.c.id)
    .with_for_update()
)


def goes_back() -> sa.ColumnElement[bool]:
    """Whether a job that has begun is to be undone, or is being undone."""
    return sa.or_(_jobs.c.cancel_requested_at.is_not(None), _jobs.c.undoing == 1)


def children_ended() -> sa.ColumnElement[bool]:
    """Whether a pending job may be claimed as far as its children go: one that is undone waits for them."""
    return sa.or_(sa.not_(goes_back()), sa.not_(has_unended_children()))


def has_unended_children() -> sa.ColumnElement[bool]:
    """Whether a job has posted one that has not ended."""
    # Not EXISTS: for that PostgreSQL may hash the parents of all jobs there are. And in the index's order:
    # where few jobs have very many children it would rather read all jobs, to meet one of them soon.
    unended = _child.c.parent == _jobs.c.id, _child.c.state.in_(UNENDED)
    first = sa.select(_child.c.state).where(*unended).order_by(_child.c.parent, _child.c.state).limit(1)
    return first.scalar_subquery().is_not(None)


def unended_children(connection: sa.Connection, parents: Collection[str]) -> dict[str, list[str]]:
    """The children of each of these jobs that have not ended, the oldest first."""
    query = (
        sa.select(_jobs.c.parent, _jobs.c.id)
        .where(_jobs.c.parent.in_(parents), _jobs.c.state.in_(UNENDED))
        .order_by(_jobs.c.created_at, _jobs.c.id)
    )
    found: dict[str, list[str]] = {}
    for row in connection.execute(query) if parents else ():
        found.setdefault(row.parent, []).append(row.id)
    return found


def children_of(parents: Sequence[str]) -> Script:
    """What finds the rows of their children that have not ended, and locks them."""
    return [(_CHILDREN, [{"ids": parents}])]


def with_descendants(connection: sa.Connection, children: Sequence[sa.Row[Any]]) -> list[sa.Row[Any]]:
    """These rows, those of their children that have not ended, of the children of those, and so on."""
    found = {row.id: row for row in children}
    level = list(found)
    while level:
        rows = [row for row in send(connection, children_of(level)) if row.id not in found]
        found |= {row.id: row for row in rows}
        level = [row.id for row in rows]
    return list(found.values())


def lock_families(connection: sa.Connection, job_ids: Collection[str]) -> None:
    """Lock these jobs and all above them, from their roots downwards.

    Raises:
        StoreBusy: one was removed meanwhile, and what was below it is a family of its own now: begin again.
    """
    for generation in _generations(connection, job_ids):
        query = sa.select(_jobs.c.id).where(Among(_jobs.c.id, generation))
        held = connection.scalars(query.order_by(_jobs.c.id).with_for_update()).all()
        if len(held) < len(generation):
            raise StoreBusy("a job was removed meanwhile")


def _generations(connection: sa.Connection, job_ids: Collection[str]) -> list[list[str]]:
    """These jobs and all above them, by how many are above each. Nothing is locked for it."""
    parents: dict[str, str | None] = {}
    unseen = set(job_ids)
    while unseen:
        rows = connection.execute(
            sa.select(_jobs.c.id, _jobs.c.parent).where(Among(_jobs.c.id, list(unseen)))
        )
        found = {row.id: row.parent for row in rows}
        parents |= found
        unseen = {parent for parent in found.values() if parent is not None} - parents.keys()
    by_depth: dict[int, list[str]] = defaultdict(list)
    for job_id, above in parents.items():
        depth = 0
        while above in parents:  # else there is none, or none any more
            depth, above = depth + 1, parents[above]
        by_depth[depth].append(job_id)
    return [by_depth[depth] for depth in sorted(by_depth)]


def require_parent(connection: sa.Connection, parent: str, *, epoch: int | None, detached: bool) -> None:
    """Lock the job that is to have a child.

    Args:
        epoch: of the claim under which its own task posts the child; None: somebody else does.

    Raises:
        JobNotFound: there is none.
        ClaimLost: it has another holder than that.
        ParentEnding: it has ended, or is being undone: a child of it, unless detached, would be stopped by
            nobody.
    """
    row = locked(connection, parent)
    if epoch is not None and (row.epoch, row.state) != (epoch, JobState.RUNNING):
        raise ClaimLost(parent, epoch)
    if not detached and (
        JobState(row.state) in FINAL_STATES or row.cancel_requested_at is not None or row.undoing
    ):
        raise ParentEnding(parent, row.state)


def parents_going_back(connection: sa.Connection, children: Collection[sa.Row[Any]]) -> set[str]:
    """The parents of these jobs that are being undone, or are to be. Whoever asks has locked them."""
    parents = {row.parent for row in children if row.parent is not None}
    if not parents:
        return set()
    query = sa.select(_jobs.c.id).where(_jobs.c.id.in_(parents), _jobs.c.state.in_(UNENDED), goes_back())
    return set(connection.scalars(query))
