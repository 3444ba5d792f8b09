"""The present moment, as an expression in SQL.

On PostgreSQL it is the server's clock, the one that all hosts share: wall clocks of two hosts are never
compared. An SQLite file is used on one machine. There a lease is counted in seconds since boot, sleep
included, which nobody can set, and which compare only within one boot.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from ebbtide.jobs import clock

__all__ = ["Era", "LeaseNow", "WallNow"]

# Not now(): that is when the transaction began, which may have waited for a lock since.
_SERVER_SECONDS = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"
# By the name of the class below; a test puts another clock there.
_ON_POSTGRESQL = {"LeaseNow": _SERVER_SECONDS, "WallNow": _SERVER_SECONDS, "Era": "''"}


# Without internals, which is to say that there are none, SQLAlchemy would compile every statement with one of
# these in it anew.


class LeaseNow(sa.ColumnElement[float]):
    """Seconds, by which leases are counted."""

    inherit_cache = True
    _traverse_internals: list[Any] = []  # noqa: RUF012  # declared so by SQLAlchemy
    type = sa.Float()


class Era(sa.ColumnElement[str]):
    """Within which the seconds of `LeaseNow` compare: the boot of this machine, or always."""

    inherit_cache = True
    _traverse_internals: list[Any] = []  # noqa: RUF012  # declared so by SQLAlchemy
    type = sa.Text()


class WallNow(sa.ColumnElement[float]):
    """Unix seconds, by which jobs are due."""

    inherit_cache = True
    _traverse_internals: list[Any] = []  # noqa: RUF012  # declared so by SQLAlchemy
    type = sa.Float()


@compiles(LeaseNow, "postgresql")
@compiles(WallNow, "postgresql")
@compiles(Era, "postgresql")
def _on_postgresql(element: Any, compiler: Any, **_: Any) -> str:
    return _ON_POSTGRESQL[type(element).__name__]


# What is bound below is called for each execution, since the compiled statement is kept.


@compiles(LeaseNow, "sqlite")
def _boot_clock(element: LeaseNow, compiler: Any, **kwargs: Any) -> str:
    return _bound(compiler, lambda: clock.boot_seconds(), sa.Float(), kwargs)


@compiles(WallNow, "sqlite")
def _wall_clock(element: WallNow, compiler: Any, **kwargs: Any) -> str:
    return _bound(compiler, lambda: clock.wall(), sa.Float(), kwargs)


@compiles(Era, "sqlite")
def _this_boot(element: Era, compiler: Any, **kwargs: Any) -> str:
    return _bound(compiler, lambda: clock.boot_id(), sa.Text(), kwargs)


def _bound(compiler: Any, value: Any, kind: sa.types.TypeEngine[Any], kwargs: dict[str, Any]) -> str:
    return str(compiler.process(sa.bindparam(None, callable_=value, type_=kind, unique=True), **kwargs))
