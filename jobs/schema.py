"""The schema of a store: made on an empty database, checked on every opening, upgraded only on demand."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Lock

from sqlalchemy import Connection, inspect, text

from ebbtide.errors import SchemaMismatch
from ebbtide.jobs.board.tables import metadata as board_metadata
from ebbtide.jobs.store import Store
from ebbtide.jobs.tables import REVISION, taskflow_indexes, taskflow_metadata
from ebbtide.wording import hide_password

VERSION_TABLE = "ebbtide_alembic_version"

_MIGRATIONS = Path(__file__).parent / "migrations"
_REVISION_QUERY = text(f"SELECT version_num FROM {VERSION_TABLE}")
_TASKFLOW_TABLES = {*taskflow_metadata.tables, "alembic_version"}
_BOARD_TABLES = set(board_metadata.tables)  # made by whoever opens such a board; of no schema's number
# Alembic's `context` is one for the whole process: two threads would migrate each other's database.
_alembic = Lock()


class SchemaState(StrEnum):
    """How the tables of a database relate to this program."""

    EMPTY = "empty"  # no tables: the first who opens it makes them
    CURRENT = "current"
    OLDER = "older"  # an upgrade makes it current; so does one where TaskFlow's tables stand alone
    NEWER = "newer"  # made by a newer program, which may rely on what this one does not know
    FOREIGN = "foreign"  # tables of some other program


@dataclass(frozen=True)
class SchemaReport:
    """What `check_schema` found. `url` is without its password; `found` is None without a number of ours."""

    url: str
    state: SchemaState
    found: str | None
    expected: str = REVISION


def ensure_schema(store: Store, *, create: bool = True) -> None:
    """Make the database usable: create what an empty one lacks, refuse any schema but this program's.

    Several processes may do so at once: the first creates everything in one transaction, so that nobody sees
    a part of it, not even after a crash. On a current database this is one SELECT. Raises SchemaMismatch for
    an older, newer or foreign schema, which it leaves as it is.

    Without `create`, a database that somebody named has to be there: else StoreUnavailable.
    """
    if store.dialect.exists() and _revision(store) == REVISION:
        return
    store.dialect.create(named=create)
    report = _report(store)
    if report.state is SchemaState.EMPTY:
        report = _migrate(store, {SchemaState.EMPTY})
    _require_current(report)


def check_schema(url: str) -> SchemaReport:
    """Compare the database with this program. Changes and creates nothing; no file counts as empty."""
    with Store(url) as store:
        return check_store(store)


def check_store(store: Store) -> SchemaReport:
    """The same of a store that is open."""
    if not store.dialect.exists():
        return _reported(store, SchemaState.EMPTY, None)
    return _report(store)


def upgrade_schema(url: str) -> SchemaReport:
    """Bring an empty or older database to this program's schema, in one transaction; returns what it is now.

    No conductor may run on it meanwhile. Raises SchemaMismatch for a newer or foreign schema.
    """
    with Store(url) as store:
        store.dialect.create()
        report = _report(store)
        if report.state in (SchemaState.EMPTY, SchemaState.OLDER):
            report = _migrate(store, {SchemaState.EMPTY, SchemaState.OLDER})
        _require_current(report)
        return report


def mismatch(report: SchemaReport) -> SchemaMismatch:
    """The error that a report of an unusable schema stands for."""
    return SchemaMismatch(report.url, report.found, report.expected, report.state)


def _revision(store: Store) -> str | None:
    """The number in our version table; None where there is no such table."""
    try:
        with store.read() as connection:
            return connection.execute(_REVISION_QUERY).scalar()
    except SchemaMismatch:  # it has no such table
        return None


def _report(store: Store) -> SchemaReport:
    with store.read() as connection:
        return _look(store, connection)


def _look(store: Store, connection: Connection) -> SchemaReport:
    names = set(inspect(connection).get_table_names()) - _BOARD_TABLES
    if VERSION_TABLE not in names:
        state = SchemaState.FOREIGN
        if names <= _TASKFLOW_TABLES:
            state = SchemaState.OLDER if names else SchemaState.EMPTY
        return _reported(store, state, None)
    found: str | None = connection.execute(_REVISION_QUERY).scalar()
    return _reported(store, _compared(found), found)


def _compared(found: str | None) -> SchemaState:
    """Revisions are numbers of four digits, so they compare as texts."""
    if found == REVISION:
        return SchemaState.CURRENT
    if found is None or not (found.isascii() and found.isdigit() and len(found) == len(REVISION)):
        return SchemaState.FOREIGN
    if found > REVISION:
        return SchemaState.NEWER
    # Only from a revision that it knows can this program go on to its own.
    known = any((_MIGRATIONS / "versions").glob(f"{found}_*.py"))
    return SchemaState.OLDER if known else SchemaState.FOREIGN


def _reported(store: Store, state: SchemaState, found: str | None) -> SchemaReport:
    return SchemaReport(url=hide_password(store.url), state=state, found=found)


def _require_current(report: SchemaReport) -> None:
    if report.state is not SchemaState.CURRENT:
        raise mismatch(report)


def _migrate(store: Store, allowed: set[SchemaState]) -> SchemaReport:
    """Run what is missing, unless somebody else did while this waited for the write lock."""
    store.dialect.prepare()
    with store.write() as connection:
        store.dialect.lock_schema(connection)
        report = _look(store, connection)
        if report.state in allowed:
            _run_alembic(connection)
            _add_taskflow(connection)
            report = _look(store, connection)
    return report


def _run_alembic(connection: Connection) -> None:
    # Imported here: 0.3 s that only the first opening of a database has to pay.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _alembic:
        command.upgrade(config, "head")


def _add_taskflow(connection: Connection) -> None:
    """TaskFlow's tables, and an index on each of its foreign keys.

    This is what TaskFlow's own `Connection.upgrade()` does on each kind of database, done in our transaction;
    called itself, it would commit in one of its own.
    """
    if connection.dialect.name == "sqlite":
        taskflow_metadata.create_all(connection)
    else:
        # Imported here as above: it imports alembic.
        from taskflow.persistence.backends.sqlalchemy.migration import db_sync

        with _alembic:
            db_sync(connection)
    for index in taskflow_indexes:
        index.create(connection, checkfirst=True)
