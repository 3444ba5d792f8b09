"""Transactions on the store, and the border at which a database's errors become ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ebbtide import faults
from ebbtide.errors import CommitUnknown, EbbtideError, StoreUnavailable
from ebbtide.jobs.postgresql import Postgresql
from ebbtide.jobs.sqlite import Sqlite
from ebbtide.jobs.urls import as_text, normalise


class Dialect(Protocol):
    """Everything that differs between kinds of database, but for the wording of statements.

    A dialect holds no connection, so it may be used in any process.
    """

    def open_engine(self) -> Engine:
        """An engine with its pool; touches nothing yet."""

    def begin(self, connection: Connection, *, writing: bool) -> None:
        """Open the transaction. Writing: wait for other writers here, not at the first change."""

    def commit(self, connection: Connection) -> None:
        """Make the transaction durable, or raise."""

    def translate(self, error: Exception) -> EbbtideError | None:
        """Our error for one of the driver; None where the caller has to see the original."""

    def exists(self) -> bool:
        """Whether there is something to connect to."""

    def create(self, *, named: bool = True) -> None:
        """Make an empty database where that is ours to do, unless there is one.

        Not `named`: no other than the default one; raises for one that somebody named.
        """

    def prepare(self) -> None:
        """Settings that a database keeps for good. Safe to repeat, and in several processes at once."""

    def lock_schema(self, connection: Connection) -> None:
        """In a transaction that makes or changes tables: keep every other such one waiting until its end."""

    def is_rolled_back(self, error: Exception) -> bool:
        """Whether a commit that raised this is surely not stored. False: only reading back tells."""


WAIT_SECONDS = 15.0


class Store:
    """One database, for the threads of one process.

    Safe to use from several threads. Never shared across a fork: the child would hold copies of the parent's
    locks and half-sent statements, so use in another process than its own raises RuntimeError, unless it has
    moved in there. Making a Store touches nothing; `ebbtide.jobs.schema.ensure_schema` makes the database
    usable.

    Args:
        url: as users write it.
        wait_seconds: for how long a lock, a statement or an answer is waited for before the store counts as
            unavailable. Whoever holds a lease chooses less than it may go without the store.
    """

    def __init__(self, url: str, *, wait_seconds: float = WAIT_SECONDS) -> None:
        normal = normalise(url)
        #: The normal form, with any password: what another process needs to open the same database.
        self.url = as_text(normal)
        self.dialect: Sqlite | Postgresql = _dialect_of(normal, wait_seconds)
        self._engine = self.dialect.open_engine()
        self._pid = os.getpid()

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine, for events and for TaskFlow. Transactions go through `read` and `write`:
        past them each statement is one by itself.
        """
        self._require_own_process()
        return self._engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database, that of its first statement; stores nothing."""
        self._require_own_process()
        with _Border(self.dialect), self._engine.connect() as connection:
            self.dialect.begin(connection, writing=False)
            try:
                yield connection
            finally:
                _roll_back(connection)

    @contextmanager
    def glance(self) -> Iterator[Connection]:
        """For one statement that reads: a transaction by itself, without a BEGIN. It waits for one answer of
        a server's, where `read` waits for two.
        """
        self._require_own_process()
        with _Border(self.dialect), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is stored when the block ends, and not at all when the block raises.

        On SQLite it holds the write lock from its first moment on: do nothing slow inside. IntegrityError and
        errors of ours pass unchanged; everything else that goes wrong in the database is a StoreUnavailable.
        When that is a CommitUnknown, only reading back tells what is stored.
        """
        self._require_own_process()
        with _Border(self.dialect), self._engine.connect() as connection:
            self.dialect.begin(connection, writing=True)
            try:
                yield connection
            except BaseException:
                _roll_back(connection)
                raise
            try:
                faults.point("store.committing")
                self.dialect.commit(connection)
                faults.point("store.committed")
            except BaseException as error:
                # Its transaction may still be open: nobody may get this connection again.
                connection.invalidate()
                if isinstance(error, SQLAlchemyError) and not self.dialect.is_rolled_back(error):
                    raise CommitUnknown(str(self.dialect.translate(error) or error)) from error
                raise

    def close(self) -> None:
        """Close all connections that are not in use. Safe to call twice; after a fork it closes nothing."""
        # To close an inherited SQLite handle could remove the log under the parent.
        self._engine.dispose(close=os.getpid() == self._pid)

    def move_in(self) -> None:
        """In a fork: make this store the fork's own, with all that it has compiled and no connection yet.

        Whoever forked had no connection open, and no thread: `close` was called there before.
        """
        self._engine.dispose(close=False)
        self._pid = os.getpid()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_own_process(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(f"store of process {self._pid} used in process {os.getpid()}: open a new one")


def _dialect_of(url: URL, wait_seconds: float) -> Sqlite | Postgresql:
    if url.get_backend_name() == "sqlite":
        return Sqlite(url, wait_seconds)
    return Postgresql(url, wait_seconds)


class _Border:
    """Turns the database's errors into ours; all others pass."""

    __slots__ = ("_dialect",)

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, PoolTimeout):
            raise StoreUnavailable("every connection of this process is in use") from error
        if isinstance(error, SQLAlchemyError):
            ours = self._dialect.translate(error)
            if ours is not None:
                raise ours from error


def _roll_back(connection: Connection) -> None:
    try:
        connection.rollback()
    except SQLAlchemyError:
        # What ended the block is the error to tell; a dropped connection is rolled back by the database.
        connection.invalidate()
