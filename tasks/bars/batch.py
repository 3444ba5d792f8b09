"""Batch: what one collection has written, told apart from all else, so that it can be taken back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, delete, exists, func, insert, select, union, update

from ebbtide.tasks.bars.bar import Bar
from ebbtide.tasks.bars.errors import BatchTaken
from ebbtide.tasks.bars.tables import VALUES, Tables

__all__ = ["Batch"]


class Batch:
    """The rows of one batch. Each method is the work of one transaction, and may be repeated.

    Each that writes begins with the row of the batch: that says which run may, and two never write at once.

    Args:
        name: of the batch; a job's attempt has one.
        epoch: the fence token of the run; a later run of the job has a higher one.
    """

    def __init__(self, tables: Tables, name: str, epoch: int) -> None:
        self._bars, self._batches, self._replaced = tables.bars, tables.batches, tables.replaced
        self.name, self._epoch = name, epoch

    def begin(self, connection: Connection) -> None:
        """Enter the batch; one that is there is taken over from an earlier run of the job."""
        found = self._batches.c.batch == self.name
        if connection.execute(select(exists().where(found))).scalar_one():
            self._fence(connection)
        else:
            connection.execute(insert(self._batches).values(batch=self.name, epoch=self._epoch))

    def known(self, connection: Connection) -> bool:
        """Whether it was entered and is not withdrawn."""
        found = self._batches.c.batch == self.name
        return bool(connection.execute(select(exists().where(found))).scalar_one())

    def symbols(self, connection: Connection) -> list[str]:
        """Of which symbols it has written or replaced a row."""
        bars, replaced = self._bars.c, self._replaced.c
        found = union(
            select(bars.symbol).where(bars.batch == self.name),
            select(replaced.symbol).where(replaced.batch == self.name),
        )
        return sorted(connection.execute(found).scalars())

    def counts(self, connection: Connection) -> dict[str, int]:
        """How many rows it has added, and how many it has changed."""
        written = select(func.count()).where(self._bars.c.batch == self.name)
        changed = select(func.count()).where(self._replaced.c.batch == self.name)
        rows, before = (connection.execute(each).scalar_one() for each in (written, changed))
        return {"rows_added": rows - before, "rows_changed": before}

    def store(self, connection: Connection, symbol: str, bars: list[Bar]) -> None:
        """Write what is new or other than before; a row that is the same stays whose it is."""
        self._fence(connection)
        if not bars:
            return
        days = [bar.day for bar in bars]
        table = self._bars.c
        span = and_(table.symbol == symbol, table.day.between(days[0], days[-1]))
        before = {row.day: row for row in connection.execute(select(self._bars).where(span))}
        new = [bar for bar in bars if bar.day not in before]
        other = [bar for bar in bars if bar.day in before and not _same(before[bar.day], bar)]
        # What the batch itself wrote, whose answer was lost, is the same and not among them.
        if other:
            kept = [self._kept(before[bar.day]) for bar in other]
            connection.execute(insert(self._replaced), kept)
            for bar in other:
                here = and_(table.symbol == symbol, table.day == bar.day)
                connection.execute(update(self._bars).where(here).values(**self._values(bar)))
        if new:
            rows = [{"symbol": symbol, "day": bar.day, **self._values(bar)} for bar in new]
            connection.execute(insert(self._bars), rows)

    def withdraw(self, connection: Connection, symbol: str) -> None:
        """Undo `store`: rows that it has added go, rows that it has changed are as they were.

        A row that somebody else has changed since stays; where that was another batch, it has from
        now on replaced what stood there before this one.
        """
        self._fence(connection)
        bars, replaced = self._bars.c, self._replaced.c
        mine = and_(replaced.batch == self.name, replaced.symbol == symbol)
        followed = and_(replaced.previous == self.name, replaced.symbol == symbol)
        followers = connection.execute(select(replaced.batch, replaced.day).where(followed)).all()
        connection.execute(delete(self._replaced).where(followed))
        for batch, day in followers:
            moved = update(self._replaced).where(mine, replaced.day == day)
            connection.execute(moved.values(batch=batch))
        connection.execute(delete(self._bars).where(bars.batch == self.name, bars.symbol == symbol))
        columns = ["symbol", "day", *VALUES, "batch"]
        taken = exists().where(bars.symbol == replaced.symbol, bars.day == replaced.day)
        before = select(*(replaced[name] for name in columns[:-1]), replaced.previous).where(mine, ~taken)
        connection.execute(insert(self._bars).from_select(columns, before))
        connection.execute(delete(self._replaced).where(mine))

    def end_undo(self, connection: Connection) -> None:
        """Forget the batch, of which nothing is there any more."""
        self._fence(connection)
        connection.execute(delete(self._batches).where(self._batches.c.batch == self.name))

    def _fence(self, connection: Connection) -> None:
        row = self._batches.c
        ours = update(self._batches).where(row.batch == self.name, row.epoch <= self._epoch)
        if connection.execute(ours.values(epoch=self._epoch)).rowcount != 1:
            raise BatchTaken(self.name)

    def _kept(self, row: Any) -> dict[str, Any]:
        values = {name: getattr(row, name) for name in ("symbol", "day", *VALUES)}
        return {"batch": self.name, **values, "previous": row.batch}

    def _values(self, bar: Bar) -> dict[str, Any]:
        return {**{name: getattr(bar, name) for name in VALUES}, "batch": self.name}


def _same(row: Any, bar: Bar) -> bool:
    return all(getattr(row, name) == getattr(bar, name) for name in VALUES)
