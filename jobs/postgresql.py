"""What is special about PostgreSQL: how it is connected to, its limits of time, and what its errors mean."""

import time
from typing import Any, cast

import psycopg2
from oslo_serialization import jsonutils
from psycopg2 import extensions
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError

from ebbtide.errors import EbbtideError, SchemaMismatch, StoreBusy, StoreUnavailable
from ebbtide.jobs.driver import DriverConnection
from ebbtide.jobs.tables import REVISION
from ebbtide.jobs.urls import as_text

CHANNEL = "ebbtide"

_CONNECTIONS = 4
_MORE_CONNECTIONS = 28
_CONNECT_SECONDS = 5
# A connection that was not used for so long is asked whether it still lives before it is used again.
_STALE_SECONDS = 1.0
# Whoever migrates holds it; the number is ours alone, derived from nothing.
_SCHEMA_LOCK = 7_318_022_914

# Another transaction was in the way, and ours is rolled back: serialization failure, deadlock. Not a lock
# that was waited for in vain: whoever holds it holds it still, and the caller's patience is over.
_IN_THE_WAY = frozenset({"40001", "40P01"})
# Undefined table, column and function: the tables are of another version, or none.
_MISSING_PARTS = frozenset({"42P01", "42703", "42883"})
# Connection, resources, limits, operator intervention, system and internal errors; and: not permitted,
# read-only, cut off after idling in a transaction, no such database, wrong role or password.
_UNUSABLE_CLASSES = frozenset({"08", "28", "3D", "40", "53", "54", "55", "57", "58", "XX"})
_UNUSABLE = frozenset({"42501", "25006", "25P02", "25P03"})
# What the server says while it ends a connection tells nothing of a commit that was under way.
_CUT_OFF_CLASSES = frozenset({"08", "57"})


class Postgresql:
    """The dialect of one PostgreSQL database. Holds no connection itself.

    Args:
        wait_seconds: after so long a statement, a lock, an idle transaction and an unanswered packet are
            given up, each by itself.
    """

    def __init__(self, url: URL, wait_seconds: float) -> None:
        self._url = url
        self._wait_seconds = wait_seconds
        self._shown = f"{url.host or 'the local server'}/{url.database or ''}"

    def open_engine(self) -> Engine:
        """An engine with its pool; nothing is connected yet."""
        engine = create_engine(
            "postgresql+psycopg2://",
            creator=lambda: self.connect(factory=DriverConnection),
            json_serializer=jsonutils.dumps,
            pool_size=_CONNECTIONS,
            max_overflow=_MORE_CONNECTIONS,
            pool_timeout=self._wait_seconds,
            # Whoever is alone keeps using one connection, so that the server and its caches are warm for it.
            pool_use_lifo=True,
        )
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", _refuse_dead)
        return engine

    def connect(
        self, *, waits: bool = True, factory: type[extensions.connection] | None = None
    ) -> extensions.connection:
        """A connection outside the pool.

        Args:
            waits: False: returns before it is connected; the caller goes on by `poll()`.
            factory: its class, if not the driver's own.
        """
        ours = {
            "connect_timeout": _CONNECT_SECONDS,
            "application_name": "ebbtide",
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": self._milliseconds,
        }
        # Given beside the URL they would win over what the user says in it.
        arguments = {name: value for name, value in ours.items() if name not in self._url.query}
        # The encoding is not the user's to choose, nor his environment's: statements are put together in it.
        arguments["client_encoding"] = "UTF8"
        arguments |= {"options": self._limits(), "async_": 0 if waits else 1}
        return psycopg2.connect(self._dsn(), **arguments, connection_factory=factory)

    def begin(self, connection: Connection, *, writing: bool) -> None:
        """Reading sees one state throughout. Writing locks what it touches, and sees what others commit."""
        _driver(connection).begin("READ COMMITTED" if writing else "REPEATABLE READ READ ONLY")

    def commit(self, connection: Connection) -> None:
        """Raises when an error was swallowed in the block: PostgreSQL takes such a COMMIT for a rollback."""
        if _driver(connection).failed:
            raise StoreUnavailable(f"database {self._shown} has rolled the transaction back")
        connection.commit()

    def exists(self) -> bool:
        """A database is there, or connecting tells why not."""
        return True

    def create(self, *, named: bool = True) -> None:
        """Nothing: a database on a server is its administrator's to make."""

    def prepare(self) -> None:
        """Nothing is to be set."""

    def lock_schema(self, connection: Connection) -> None:
        """Let one process at a time make or change tables; it may take its time."""
        for name in ("statement_timeout", "lock_timeout"):
            connection.execute(text(f"SET LOCAL {name} = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
        encoding = connection.execute(text("SHOW server_encoding")).scalar()
        if encoding != "UTF8":
            raise StoreUnavailable(
                f"database {self._shown} has the encoding {encoding}: make one with ENCODING 'UTF8'"
            )

    def translate(self, error: Exception) -> EbbtideError | None:
        """Ours for the driver's error; None for a broken constraint and for a statement that is wrong."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(error, IntegrityError) or not isinstance(cause, psycopg2.Error):
            return None
        detail = f"database {self._shown}: {cause}"
        code = cause.pgcode
        if code in _MISSING_PARTS:
            return SchemaMismatch(as_text(self._url), cause.diag.message_primary, REVISION)
        if code in _IN_THE_WAY:
            return StoreBusy(detail)
        if code is None:
            # Without a code it is not the server that speaks: the connection failed, or was used wrongly.
            failed = isinstance(cause, (psycopg2.OperationalError, psycopg2.InterfaceError))
            return StoreUnavailable(detail) if failed or _is_cut_off(error) else None
        if code in _UNUSABLE or code[:2] in _UNUSABLE_CLASSES:
            return StoreUnavailable(detail)
        return None

    def is_rolled_back(self, error: Exception) -> bool:
        """Whether a commit that raised this is surely not stored: the server itself has refused it."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, EbbtideError):
            return True
        code = getattr(cause, "pgcode", None)
        return code is not None and code[:2] not in _CUT_OFF_CLASSES

    @property
    def _milliseconds(self) -> int:
        return max(1, round(self._wait_seconds * 1000))

    def _dsn(self) -> str:
        # The URL as libpq reads it, with whatever options it carries.
        return self._url.set(drivername="postgresql").render_as_string(hide_password=False)

    def _limits(self) -> str:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        # No statement of ours takes so long that compiling it would pay. One that stops early looks as if.
        ours = " ".join(["-c jit=off", *(f"-c {name}={self._milliseconds}" for name in names)])
        theirs = self._url.query.get("options", "")
        # What the user's URL says comes last, and so wins.
        return f"{ours} {theirs if isinstance(theirs, str) else ' '.join(theirs)}".strip()


def _is_cut_off(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _driver(connection: Connection) -> DriverConnection:
    return cast(DriverConnection, connection.connection.driver_connection)


def _note_use(connection: Any, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _refuse_dead(connection: Any, record: Any, proxy: Any) -> None:
    """After a restart of the server every idle connection is dead: the pool is to open a new one then."""
    if time.monotonic() - record.info.get("used", time.monotonic()) < _STALE_SECONDS:
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except psycopg2.Error as error:
        raise DisconnectionError(str(error)) from error
