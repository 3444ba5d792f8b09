"""The signal `sqlite`: asks the file itself whether somebody has committed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from threading import Lock

from ebbtide.errors import StoreUnavailable
from ebbtide.jobs.filewatch import FileWatch
from ebbtide.jobs.signals.signal import Signal
from ebbtide.jobs.sqlite import Sqlite

__all__ = ["DataVersionSignal"]

# How long a commit may take from its first byte in SQLite's log on, usually; a longer one is seen late.
_RESTLESS_SECONDS = 0.25


class DataVersionSignal(Signal):
    """Asks SQLite whether another connection, of any process, has committed. Costs microseconds, and no lock.

    The number belongs to a connection and leaves its own commits out, so this one is used for nothing else
    and never has a transaction, which would freeze the number.

    Who only waits need not ask while nobody writes to the log: a commit begins with that, and the kernel
    tells of it. It is complete, and the number another one, only when the log is on disk; so after each
    writing this has to be asked again, for a while.
    """

    def __init__(self, dialect: Sqlite, *, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._dialect = dialect
        self._now = now
        self._watch: FileWatch | None = None
        self._watchable = True
        self._restless_until = 0.0
        self._guard = Lock()  # held for microseconds; `close` may come from another thread
        self._connection: sqlite3.Connection | None = None
        self._seen: int | None = None

    def ring(self, job_id: str) -> None:
        """Nothing to do: the commit itself rings."""

    @property
    def descriptor(self) -> int | None:
        """As promised by `Signal`; None while the log is, or was just, written to."""
        with self._guard:
            if self._watch is None:
                self._begin_to_watch()
            if self._watch is None or self._now() < self._restless_until:
                return None
            return self._watch.descriptor

    def changed(self) -> bool:
        """As promised by `Signal`; on a database that has become unusable it says True at each call."""
        with self._guard:
            self._listen()  # before it is asked: what is written after this is heard the next time
            try:
                version = self._version()
            except (sqlite3.Error, StoreUnavailable):
                self._drop()
                return True
            changed = version is None or version != self._seen
            self._seen = version
            return changed

    def close(self) -> None:
        """Close the connection."""
        super().close()
        with self._guard:
            self._drop()

    def _version(self) -> int | None:
        if self._closed.is_set():
            return None
        if self._connection is None:
            self._connection = self._dialect.connect()
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    def _begin_to_watch(self) -> None:
        # Only beside a connection of our own, which keeps the log from being removed.
        if self._connection is not None and self._watchable:
            try:
                self._watch = FileWatch(f"{self._dialect.path}-wal")
            except OSError:
                self._watchable = False  # asked as before
            self._restless_until = self._now() + _RESTLESS_SECONDS

    def _listen(self) -> None:
        if self._watch is not None:
            try:
                if self._watch.heard():
                    self._restless_until = self._now() + _RESTLESS_SECONDS
            except OSError:
                self._end_watch()

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _drop(self) -> None:
        self._end_watch()
        # The numbers of two connections do not compare.
        self._seen = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
