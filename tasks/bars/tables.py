"""The tables that bars are collected into.

NAME             one row for each symbol and day, and which batch has written it
NAME_batches     one row for each collection: its job, and the run that may write
NAME_replaced    the rows that a batch has overwritten, as they were
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Date, Double, Index, Integer, MetaData, String, Table

__all__ = ["VALUES", "Tables", "checked_table"]

VALUES = ("open", "high", "low", "close", "volume")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def checked_table(text: str) -> str:
    """`text` itself, if a table may be called so; ValueError if not."""
    if not _NAME.fullmatch(text):
        raise ValueError("should be a name of a table: a small letter, then up to 39 of a-z 0-9 _")
    return text


@dataclass(frozen=True)
class Tables:
    """The three tables of one name."""

    bars: Table
    batches: Table
    replaced: Table

    @classmethod
    def of(cls, name: str) -> Tables:
        metadata = MetaData()
        bars = Table(
            name,
            metadata,
            *_key(),
            *_values(),
            Column("batch", String(80)),
            Index(f"{name}_by_batch", "batch"),
        )
        batches = Table(
            f"{name}_batches",
            metadata,
            Column("batch", String(80), primary_key=True),
            Column("epoch", Integer, nullable=False),
        )
        replaced = Table(
            f"{name}_replaced",
            metadata,
            Column("batch", String(80), primary_key=True),
            *_key(),
            *_values(),
            Column("previous", String(80)),
            Index(f"{name}_replaced_by_previous", "previous"),
        )
        return cls(bars, batches, replaced)

    def all(self) -> tuple[Table, ...]:
        return self.bars, self.batches, self.replaced


def _key() -> tuple[Column[Any], ...]:
    return Column("symbol", String(32), primary_key=True), Column("day", Date, primary_key=True)


def _values() -> tuple[Column[Any], ...]:
    # Not decimals: SQLite has none, and a row that is restored has to be the same to the last bit.
    prices = tuple(Column(name, Double, nullable=False) for name in VALUES[:-1])
    return (*prices, Column("volume", BigInteger, nullable=False))
