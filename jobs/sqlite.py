"""What is special about SQLite: how its file is made, opened and locked, and what its errors mean.

Python's driver is kept from opening transactions by itself (`isolation_level=None`): it would send its own
BEGIN late, before the first change only, and a transaction that has read before it writes cannot wait for
another writer. Every transaction here says BEGIN (reading) or BEGIN IMMEDIATE (writing) as its first word.
"""

import os
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryFile
from threading import Event
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from ebbtide.config import load_settings
from ebbtide.errors import ConfigError, EbbtideError, NotADatabase, SchemaMismatch, StoreUnavailable
from ebbtide.jobs.tables import REVISION
from ebbtide.jobs.urls import as_text, normalise

_CONNECTIONS = 4
_MORE_CONNECTIONS = 28
_OTHER_CONTENT = "it holds something else"
_MISSING_PARTS = ("no such table", "no such column", " has no column named ")


class Sqlite:
    """The dialect of one SQLite file. Holds no connection itself.

    Args:
        wait_seconds: how long another writer is waited for.
    """

    def __init__(self, url: URL, wait_seconds: float) -> None:
        self._url = as_text(url)
        self._wait_seconds = wait_seconds
        self.path = url.database or ""

    def open_engine(self) -> Engine:
        """An engine with its pool; nothing is opened yet."""
        return create_engine(
            "sqlite://",
            creator=self.connect,
            poolclass=QueuePool,
            pool_size=_CONNECTIONS,
            max_overflow=_MORE_CONNECTIONS,
            pool_timeout=self._wait_seconds,
        )

    def connect(self) -> sqlite3.Connection:
        """A connection outside the pool, in autocommit. Never makes a file: a deleted one stays an error."""
        self._require_file()
        connection = sqlite3.connect(
            f"file:{quote(self.path)}?mode=rw",
            uri=True,
            timeout=self._wait_seconds,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            # FULL: with NORMAL the last commits go with the power, and an answered post is a promise.
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def begin(self, connection: Connection, *, writing: bool) -> None:
        """Writing takes the write lock now: nothing in the transaction can fail for a lock later."""
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    def commit(self, connection: Connection) -> None:
        """Raises when there is nothing left to commit: a full disk makes SQLite roll back by itself.

        A block that swallowed that error would reach a COMMIT that does nothing, and be told "stored".
        """
        driver = connection.connection.driver_connection
        if driver is None or not driver.in_transaction:
            raise StoreUnavailable(f"database {self.path} has rolled the transaction back")
        connection.commit()

    def exists(self) -> bool:
        """Whether there is anything at the path, or could be: raises when nothing can be made there."""
        if os.path.lexists(self.path):
            return True
        folder = os.path.dirname(self.path)
        if not os.path.isdir(folder) and not self._is_default():
            raise self._unusable(FileNotFoundError())
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        try:
            # Tried out, with a file without a name: permissions tell nothing to root, and nothing of /proc.
            with TemporaryFile(dir=folder):
                return False
        except OSError as error:
            raise self._unusable(error) from error

    def create(self, *, named: bool = True) -> None:
        """Make an empty file, for its owner alone, unless there is one. Safe in many processes at once.

        The folder of the default database is made too; one that a user named has to exist. Not `named`: so
        has a file that a user named.
        """
        try:
            if self._is_default():
                _make_private(Path(self.path).parent)
            elif not named and not os.path.lexists(self.path):
                raise StoreUnavailable(
                    f"database {self.path} does not exist: name another, or make it with `ebbtide post`"
                )
            # Not opened: to close any descriptor of the file would drop the locks that other connections of
            # this process hold on it.
            os.mknod(self.path, stat.S_IFREG | 0o600)
        except FileExistsError:
            return
        except OSError as error:
            raise self._unusable(error) from error

    def prepare(self) -> None:
        """Turn the write-ahead log on, for good: readers and the writer then never wait for one another.

        Safe in many processes at once. Here alone SQLite does not wait for others to let go of the file, so
        this asks again until the usual patience is over.
        """
        give_up = time.monotonic() + self._wait_seconds
        with closing(self.connect()) as connection:
            while (mode := self._ask_for_log(connection, give_up)) is None:
                Event().wait(0.005)
        if mode != "wal":
            raise StoreUnavailable(f"database {self.path}: this file system cannot hold a write-ahead log")

    def _ask_for_log(self, connection: sqlite3.Connection, give_up: float) -> str | None:
        try:
            return str(connection.execute("PRAGMA journal_mode=WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if _family(error) == sqlite3.SQLITE_BUSY and time.monotonic() < give_up:
                return None
            ours = self.translate(error)
            if ours is None:
                raise
            raise ours from error

    def lock_schema(self, connection: Connection) -> None:
        """Nothing more than the write lock, which a transaction has from its first word on."""

    def is_rolled_back(self, error: Exception) -> bool:
        """Only an error of the disk may come when the commit is in the log already."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        return isinstance(cause, EbbtideError) or (
            isinstance(cause, sqlite3.Error) and _family(cause) != sqlite3.SQLITE_IOERR
        )

    def translate(self, error: Exception) -> EbbtideError | None:
        """Ours for the driver's error; None for a broken constraint and for a statement that is wrong."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(error, IntegrityError) or not isinstance(cause, sqlite3.Error):
            return None
        detail = str(cause)
        match _family(cause):
            case sqlite3.SQLITE_NOTADB:
                return NotADatabase(self.path, _OTHER_CONTENT)
            case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY:
                return self._closed_to_us(detail)
            case sqlite3.SQLITE_BUSY:
                return StoreUnavailable(f"database {self.path} is held by another process ({detail})")
            case sqlite3.SQLITE_CORRUPT:
                return StoreUnavailable(f"database {self.path} is damaged ({detail}): restore a backup of it")
            case sqlite3.SQLITE_ERROR if any(part in detail for part in _MISSING_PARTS):
                return SchemaMismatch(self._url, detail, REVISION)
            case sqlite3.SQLITE_ERROR | None:
                return None
        return StoreUnavailable(f"database {self.path}: {detail}")

    def _require_file(self) -> None:
        """Refuse what SQLite would hang on (pipe), lose everything in (device) or write over (one byte)."""
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise self._unusable(error) from error
        if stat.S_ISDIR(found.st_mode):
            raise NotADatabase(self.path, "it is a folder")
        if not stat.S_ISREG(found.st_mode):
            raise NotADatabase(self.path, "it is no regular file")
        if found.st_size == 1:
            raise NotADatabase(self.path, _OTHER_CONTENT)

    def _closed_to_us(self, detail: str) -> EbbtideError:
        folder = os.path.dirname(self.path)
        if not os.access(self.path, os.R_OK):
            return StoreUnavailable(f"database {self.path} cannot be read: permission denied")
        if not os.access(folder, os.W_OK):
            # SQLite keeps two more files beside the database while it is in use.
            return StoreUnavailable(f"folder {folder} of the database cannot be written")
        return StoreUnavailable(f"database {self.path} cannot be written ({detail})")

    def _unusable(self, error: OSError) -> EbbtideError:
        folder = os.path.dirname(self.path)
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) and not os.path.isdir(folder):
            problem = "is no folder" if os.path.lexists(folder) else "does not exist: create it first"
            return StoreUnavailable(f"folder {folder} of the database {problem}")
        if isinstance(error, FileNotFoundError):
            return StoreUnavailable(f"database {self.path} does not exist")
        reason = (error.strerror or str(error)).lower()
        return StoreUnavailable(f"database {self.path} cannot be opened: {reason}")

    def _is_default(self) -> bool:
        """Whether this is where the jobs are when nobody says where."""
        places = {name: os.environ[name] for name in ("HOME", "XDG_DATA_HOME") if name in os.environ}
        try:
            return normalise(load_settings(environ=places).database).database == self.path
        except ConfigError:
            return False


def _family(error: sqlite3.Error) -> int | None:
    """The primary result code. None: the error is of Python's driver and says that it was used wrongly."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _make_private(folder: Path) -> None:
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
