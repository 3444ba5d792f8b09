"""The rows of one board: each change is one conditional statement, so that of two callers one wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ebbtide.jobs.board.tables import board_entities, board_jobs, metadata
from ebbtide.jobs.moments import Era, LeaseNow, WallNow
from ebbtide.jobs.store import Store

__all__ = ["Rows"]

_jobs = board_jobs.c
_entities = board_entities.c
_PAGE = 100

Row = sa.RowMapping


def _is_held() -> sa.ColumnElement[bool]:
    return sa.and_(_jobs.owner.is_not(None), _jobs.era == Era(), _jobs.lease_until > LeaseNow())


# What a reader is told of a job; `held` is None where nobody has ever claimed it.
_TOLD = (*board_jobs.columns, _is_held().label("held"))


class Rows:
    """What is stored of the board `namespace`. Safe to use from several threads.

    Args:
        holder: names whoever uses these rows; no other ever has the same.
    """

    def __init__(self, store: Store, namespace: str, holder: str, expiry_seconds: float) -> None:
        self._store = store
        self._namespace = namespace
        self._holder = holder
        self._expiry_seconds = expiry_seconds

    def ensure_tables(self) -> None:
        """Make the tables unless they are there. Safe in several processes at once."""
        self._store.dialect.create()
        if self._store.dialect.exists() and self._has_tables():
            return
        self._store.dialect.prepare()
        with self._store.write() as connection:
            self._store.dialect.lock_schema(connection)
            metadata.create_all(connection)

    def _has_tables(self) -> bool:
        with self._store.read() as connection:
            names = set(sa.inspect(connection).get_table_names())
        return names >= set(metadata.tables)

    # Reading.

    def page(self, after: tuple[int, int] | None, *, only_unclaimed: bool) -> Sequence[Row]:
        """The jobs on the board that come next, the best first.

        Args:
            after: rank and sequence of the last one that was seen.
        """
        asked = sa.select(*_TOLD).where(self._on_board())
        if after is not None:
            asked = asked.where(sa.tuple_(_jobs.rank, _jobs.sequence) > sa.tuple_(*after))
        if only_unclaimed:
            asked = asked.where(sa.not_(sa.func.coalesce(_is_held(), sa.false())))
        with self._store.read() as connection:
            return (
                connection.execute(asked.order_by(_jobs.rank, _jobs.sequence).limit(_PAGE)).mappings().all()
            )

    def find(self, uuid: str) -> Row | None:
        """The job, if it is on the board."""
        with self._store.read() as connection:
            return connection.execute(sa.select(*_TOLD).where(self._is(uuid))).mappings().first()

    def count(self) -> int:
        with self._store.read() as connection:
            asked = sa.select(sa.func.count()).select_from(board_jobs).where(self._on_board())
            return connection.execute(asked).scalar_one()

    def uuids(self) -> set[str]:
        """The jobs that are on the board."""
        with self._store.read() as connection:
            return set(connection.execute(sa.select(_jobs.uuid).where(self._on_board())).scalars())

    # Changing.

    def post(self, posting: Mapping[str, Any]) -> Row:
        with self._store.write() as connection:
            connection.execute(
                sa.insert(board_jobs).values(**posting, board=self._namespace, posted_at=WallNow())
            )
            return connection.execute(sa.select(*_TOLD).where(self._is(posting["uuid"]))).mappings().one()

    def claim(self, uuid: str, who: str) -> int | None:
        """Claim a job that is free; returns its epoch. None: it is gone, or somebody has it."""
        with self._store.write() as connection:
            return connection.execute(
                sa.update(board_jobs)
                .where(self._is(uuid), sa.not_(sa.func.coalesce(_is_held(), sa.false())))
                .values(
                    owner=who,
                    holder=self._holder,
                    epoch=_jobs.epoch + 1,
                    era=Era(),
                    lease_until=LeaseNow() + self._expiry_seconds,
                    modified_at=WallNow(),
                )
                .returning(_jobs.epoch)
            ).scalar()

    def our_epoch(self, uuid: str) -> int | None:
        """The epoch of our own claim of the job, if it is ours."""
        row = self.find(uuid)
        return int(row["epoch"]) if row is not None and row["holder"] == self._holder else None

    def consume(self, uuid: str, who: str, epoch: int | None) -> bool:
        """Remove a job. False: it is gone, or another's.

        Args:
            epoch: of our claim; None: the name alone has to fit.
        """
        with self._store.write() as connection:
            gone = sa.delete(board_jobs).where(self._is_of(uuid, who, epoch)).returning(_jobs.uuid)
            return connection.execute(gone).scalar() is not None

    def abandon(self, uuid: str, who: str, epoch: int | None) -> bool:
        """Give a claim up. As `consume`."""
        return self._change(uuid, who, epoch)

    def trash(self, uuid: str, who: str, epoch: int | None) -> bool:
        """Take a job off the board and keep its row. As `consume`."""
        return self._change(uuid, who, epoch, trashed_at=WallNow())

    def _change(self, uuid: str, who: str, epoch: int | None, **values: Any) -> bool:
        values |= {"owner": None, "holder": None, "era": None, "lease_until": None}
        with self._store.write() as connection:
            changed = (
                sa.update(board_jobs)
                .where(self._is_of(uuid, who, epoch))
                .values(**values, modified_at=WallNow())
                .returning(_jobs.uuid)
            )
            return connection.execute(changed).scalar() is not None

    # Leases.

    def renew(self, uuids: Sequence[str]) -> set[str]:
        """Prolong our claims of these jobs; returns those that are ours still."""
        with self._store.write() as connection:
            until = LeaseNow() + self._expiry_seconds
            connection.execute(
                sa.update(board_entities)
                .where(_entities.holder == self._holder)
                .values(era=Era(), lease_until=until)
            )
            return set(
                connection.execute(
                    sa.update(board_jobs)
                    # One whose lease is over and that nobody has claimed since is ours still.
                    .where(_jobs.uuid.in_(uuids), _jobs.holder == self._holder)
                    .values(era=Era(), lease_until=until)
                    .returning(_jobs.uuid)
                ).scalars()
            )

    def register(self, kind: str, name: str, details: str) -> None:
        """Say that an entity is here, for as long as its lease is renewed."""
        keys = {"board": self._namespace, "kind": kind, "name": name}
        values = {"details": details, "holder": self._holder, "era": Era()}
        values["lease_until"] = LeaseNow() + self._expiry_seconds
        with self._store.write() as connection:
            insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            connection.execute(
                insert(board_entities)
                .values(**keys, **values)
                .on_conflict_do_update(index_elements=list(keys), set_=values)
            )

    def entities(self) -> Sequence[Row]:
        """Kind, name and details of whoever is registered and alive."""
        with self._store.read() as connection:
            return (
                connection.execute(
                    sa.select(_entities.kind, _entities.name, _entities.details)
                    .where(
                        _entities.board == self._namespace,
                        _entities.era == Era(),
                        _entities.lease_until > LeaseNow(),
                    )
                    .order_by(_entities.kind, _entities.name)
                )
                .mappings()
                .all()
            )

    def unregister(self) -> None:
        """Whoever we have registered is here no more."""
        with self._store.write() as connection:
            connection.execute(sa.delete(board_entities).where(_entities.holder == self._holder))

    def _on_board(self) -> sa.ColumnElement[bool]:
        return sa.and_(_jobs.board == self._namespace, _jobs.trashed_at.is_(None))

    def _is(self, uuid: str) -> sa.ColumnElement[bool]:
        return sa.and_(_jobs.uuid == uuid, self._on_board())

    def _is_of(self, uuid: str, who: str, epoch: int | None) -> sa.ColumnElement[bool]:
        ours = sa.and_(self._is(uuid), _jobs.owner == who)
        if epoch is None:
            return ours
        return sa.and_(ours, _jobs.holder == self._holder, _jobs.epoch == epoch)
