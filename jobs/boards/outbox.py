"""The outbox: keeps a board as the ledger says. One conductor at a time does it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.boards.board import Board, Notice, Pinned
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.queue import anything_due, first_due, is_live, live_conductors
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store

__all__ = ["Outbox"]

LOG = logging.getLogger(__name__)

_leaders = tables.leaders
_conductors = tables.conductors
_jobs = tables.jobs

_NAME = "outbox"
_NOBODY = ""
# What has become due just now is about to be posted by whoever made it so.
_YOUNG_SECONDS = 1.0
_MOST_IDS = 500


class Outbox:
    """The work of whoever leads: what is due and missing is posted, the best first, as far as the window
    goes; what has ended, is unknown, stands there twice or cannot be read is taken down.

    Who leads stands in the ledger, and holds for as long as his lease as a conductor does: there is no other
    clock in it. For a moment two may lead, which posts a notice twice, and no harm is done by that.

    Args:
        owner: the id of this conductor.
        window: how many notices there are to be at most.
    """

    def __init__(self, store: Store, owner: str, window: int) -> None:
        self._store = store
        self._owner = owner
        self._window = window
        self._missed: set[str] = set()  # too young at the last look

    def lead(self) -> bool:
        """Whether this conductor leads, from now on at the latest: it takes the lead where nobody has it."""
        query = sa.select(_leaders.c.owner, sa.exists().where(_is(_leaders.c.owner)).label("lives")).where(
            _leaders.c.name == _NAME
        )
        with self._store.read() as connection:
            leader = connection.execute(query).one()
        if leader.lives:
            return bool(leader.owner == self._owner)
        with self._store.write() as connection:
            taken = connection.execute(
                sa.update(_leaders)
                .where(
                    _leaders.c.name == _NAME,
                    _leaders.c.owner == leader.owner,  # unless another one was quicker
                    sa.exists().where(_is(sa.literal(self._owner))),
                )
                .values(owner=self._owner)
                .returning(_leaders.c.owner)
            ).first()
        if taken is not None:
            LOG.info("board.led %s", self._owner)
        return taken is not None

    def resign(self) -> None:
        """Lead no more: whoever asks first does. Nothing, where somebody else leads."""
        with self._store.write() as connection:
            ours = (_leaders.c.name == _NAME, _leaders.c.owner == self._owner)
            connection.execute(sa.update(_leaders).where(*ours).values(owner=_NOBODY))

    def tend(self, board: Board) -> bool:
        """Look once, and set right what is not. True: more is due than fits, so look again soon.

        Raises:
            LinkBroken: the board broke; what was begun may be done in part.
            StoreUnavailable: nothing was done.
        """
        # The board first: what conductors have claimed since is not due any more when the ledger is read.
        there = board.pinned()
        best, due = self._read(there)
        standing: dict[str, Pinned] = {}
        gone = []
        for pinned in there:
            notice = pinned.notice
            if notice is None or notice.job_id not in due or notice.job_id in standing:
                gone.append(pinned)
            else:
                standing[notice.job_id] = pinned
        missing = self._missing(best, standing)
        # Those that are not among the best make room for those that are; the worst are last.
        others = [pinned for job_id, pinned in standing.items() if job_id not in best]
        surplus = len(standing) + len(missing) - self._window
        gone += others[max(0, len(others) - surplus) :] if surplus > 0 else []
        if gone:
            board.remove(gone)
        for notice in missing:
            board.post(notice)
        return len(best) >= self._window

    def _read(self, there: Sequence[Pinned]) -> tuple[dict[str, tuple[Notice, bool]], set[str]]:
        """The best jobs, each with whether it is young; and which are due, of these and of those there."""
        with self._store.read() as connection:
            best = self._best(connection)
            due = set(best)
            ids = {pinned.notice.job_id for pinned in there if pinned.notice is not None}
            for some in _batches(sorted(ids - due)):
                due.update(connection.scalars(_due_of, {"ids": some}))
        return best, due

    def _best(self, connection: sa.Connection) -> dict[str, tuple[Notice, bool]]:
        if not anything_due(connection):
            return {}
        # What nobody here can run would stand in the way of the others.
        flows = frozenset().union(*live_conductors(connection).values())
        now = connection.scalar(sa.select(WallNow()))
        assert now is not None
        rows: list[sa.Row[Any]] = first_due(connection, flows, self._window)
        return {
            row.id: (
                Notice(row.id, f"{row.flow}@{row.version}", row.priority, row.due_at),
                row.due_at > now - _YOUNG_SECONDS,
            )
            for row in rows
        }

    def _missing(self, best: dict[str, tuple[Notice, bool]], standing: dict[str, Pinned]) -> list[Notice]:
        """What is to be posted now, the best first. What is young is left for the next look."""
        missing = {job_id: of for job_id, of in best.items() if job_id not in standing}
        before, self._missed = self._missed, {job_id for job_id, (_, young) in missing.items() if young}
        return [notice for job_id, (notice, young) in missing.items() if not young or job_id in before]


_due_of = sa.select(_jobs.c.id).where(
    _jobs.c.id.in_(sa.bindparam("ids", expanding=True)),
    _jobs.c.state == JobState.PENDING.value,
    _jobs.c.due_at <= WallNow(),
)


def _is(owner: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether a conductor is that one, and lives."""
    return sa.and_(_conductors.c.id == owner, is_live())


def _batches(ids: list[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while some := list(islice(rest, _MOST_IDS)):
        yield some
