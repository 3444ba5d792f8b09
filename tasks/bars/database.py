"""Database: a connection to where the bars go, whose waits have limits and whose errors are one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, inspect, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError

from ebbtide.tasks.bars.errors import DatabaseUnusable
from ebbtide.tasks.bars.tables import Tables
from ebbtide.tasks.base import CancelableTask

__all__ = ["Database", "checked_database"]

T = TypeVar("T")

# Below the grace of a task: a wait for the database cannot be ended from outside.
_WAIT_SECONDS: Final = 5
_PAUSES: Final = (1.0, 2.0, 4.0, 8.0)
_POSTGRESQL: Final = {
    "connect_timeout": _WAIT_SECONDS,
    "tcp_user_timeout": _WAIT_SECONDS * 1000,
    "keepalives_idle": _WAIT_SECONDS,
    "options": f"-c lock_timeout={_WAIT_SECONDS}s -c statement_timeout=30s",
}


def checked_database(text: str) -> str:
    """The URL of a database, if it may be stored and shown; that of an SQLite file with its full path.

    Raises:
        ValueError: it is none, has a password in it, or is a database in memory. `text` is not repeated.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("should be an SQLAlchemy URL, such as sqlite:////data/bars.db") from None
    if url.password is not None or "password" in url.query:
        raise ValueError("should be a URL without a password: give the whole as database_secret, env:NAME")
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:") or str(url.database).startswith("file:"):
            raise ValueError("should name a file: an SQLite database in memory is gone with the job")
        url = url.set(database=os.path.abspath(str(url.database)))
    return url.render_as_string(hide_password=False)


class Database:
    """The tables of bars of one name in one database. Use it with `with`, in one thread.

    Args:
        task: whose waits these are.
        url: an SQLAlchemy URL, with its password.
        name: of the tables; see `Tables`.

    Raises:
        DatabaseUnusable: the URL cannot be used.
    """

    def __init__(self, task: CancelableTask, url: str, name: str) -> None:
        self._task = task
        self.tables = Tables.of(name)
        try:
            self._url = _with_driver(make_url(url))
            self._engine = _engine(self._url)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
            # The text of the error may be the URL itself.
            problem = "its driver is not installed" if isinstance(error, ImportError) else "its URL is none"
            raise DatabaseUnusable("of the job", problem, "mend its URL or install it, then retry") from None

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.dispose()

    @property
    def shown(self) -> str:
        """Its URL without a password."""
        return self._url.render_as_string(hide_password=True)

    @property
    def file(self) -> str | None:
        """The path of its file, where it is one."""
        return str(self._url.database) if self._url.get_backend_name() == "sqlite" else None

    def transaction(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, done in one transaction; it is repeated where the database was busy or away.

        `work` has to bear that: its first time may have been committed, and only the answer been lost.

        Raises:
            Cancelled: a cancel was requested meanwhile.
            DatabaseUnusable: it cannot be done.
        """
        for pause in (*_PAUSES, None):
            self._task.checkpoint()
            try:
                with self._engine.begin() as connection:
                    return work(connection)
            except OperationalError as error:
                if pause is None:
                    raise self._unusable(error) from error
                self._task.sleep(pause)
            except SQLAlchemyError as error:
                raise self._unusable(error) from error
        raise AssertionError("unreachable: the last round returns or raises")

    def missing(self) -> list[str]:
        """Names of the tables that are not there."""

        def look(connection: Connection) -> list[str]:
            known = inspect(connection)
            return [table.name for table in self.tables.all() if not known.has_table(table.name)]

        return self.transaction(look)

    def refuse_foreign(self) -> None:
        """Raise `DatabaseUnusable` where a table of our name lacks a column of ours."""

        def look(connection: Connection) -> list[str]:
            known = inspect(connection)
            return [
                f"table {table.name} has no column {column.name}"
                for table in self.tables.all()
                if known.has_table(table.name)
                for column in table.columns
                if column.name not in {each["name"] for each in known.get_columns(table.name)}
            ]

        lacks = self.transaction(look)
        if lacks:
            raise DatabaseUnusable(self.shown, lacks[0], "name another table")

    def create(self, names: list[str]) -> None:
        """Make the tables of these names; those that are there already stay."""

        def make(connection: Connection) -> None:
            for table in self.tables.all():
                if table.name in names:
                    table.create(connection, checkfirst=True)

        self.transaction(make)

    def drop_empty(self, names: list[str]) -> None:
        """Remove the tables of these names, as far as nothing is in them."""

        def drop(connection: Connection) -> None:
            known = inspect(connection)
            for table in self.tables.all():
                if table.name not in names or not known.has_table(table.name):
                    continue
                if connection.execute(table.select().limit(1)).first() is None:
                    table.drop(connection)

        self.transaction(drop)

    def has_tables(self) -> bool:
        """Whether there is any table at all, somebody else's too."""
        return self.transaction(lambda connection: bool(inspect(connection).get_table_names()))

    def _unusable(self, error: SQLAlchemyError) -> DatabaseUnusable:
        told = str(getattr(error, "orig", None) or error).partition("\n")[0]
        return DatabaseUnusable(self.shown, told, "mend that, then retry")


def _with_driver(url: URL) -> URL:
    """`url` with the driver that comes with Ebbtide, where it names none."""
    return url.set(drivername="postgresql+psycopg2") if url.drivername == "postgresql" else url


def _engine(url: URL) -> Engine:
    arguments: dict[str, Any] = {}
    if url.get_backend_name() == "sqlite":
        arguments = {"timeout": _WAIT_SECONDS}
    elif url.get_backend_name() == "postgresql" and url.get_driver_name() == "psycopg2":
        arguments = dict(_POSTGRESQL)
    # No pool: a job that waits for its source for minutes holds no connection meanwhile.
    return create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
