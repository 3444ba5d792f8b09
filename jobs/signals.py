"""Signals: hints that something in the store may have changed. The rows are the truth; a signal never is."""

import sqlite3
from abc import ABC, abstractmethod
from threading import Event, Lock

from ebbtide.errors import StoreUnavailable
from ebbtide.jobs.sqlite import Sqlite
from ebbtide.jobs.store import Store


class Signal(ABC):
    """Says "look now" to whoever waits for a change. May ring without reason; may be lost, doubled or late.

    Whoever relies on it must look by itself now and then as well: without any signal everything still
    happens, only later.
    """

    def __init__(self) -> None:
        self._closed = Event()

    @abstractmethod
    def ring(self, job_id: str) -> None:
        """Tell the others that this job has changed. Called after the commit; never raises, never waits."""

    @abstractmethod
    def changed(self) -> bool:
        """Whether something may have happened since the last call; True at the first one.

        Called often, by one thread: it neither waits nor raises. When the signal itself is broken it says
        True, so that the caller looks at the store and meets the trouble there.
        """

    def pause(self, seconds: float) -> None:
        """Wait between two looks, at most this long; `close` ends the wait."""
        self._closed.wait(seconds)

    def close(self) -> None:
        """Let go of what the signal holds. Safe to call twice and from any thread; `changed` is True then."""
        self._closed.set()


class DataVersionSignal(Signal):
    """Asks SQLite whether another connection, of any process, has committed. Costs microseconds, and no lock.

    The number belongs to a connection and leaves its own commits out, so this one is used for nothing else
    and never has a transaction, which would freeze the number.
    """

    def __init__(self, dialect: Sqlite) -> None:
        super().__init__()
        self._dialect = dialect
        self._guard = Lock()  # held for microseconds; `close` may come from another thread
        self._connection: sqlite3.Connection | None = None
        self._seen: int | None = None

    def ring(self, job_id: str) -> None:
        """Nothing to do: the commit itself rings."""

    def changed(self) -> bool:
        """As promised by `Signal`; on a database that has become unusable it says True at each call."""
        with self._guard:
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

    def _drop(self) -> None:
        # The numbers of two connections do not compare.
        self._seen = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def open_signal(store: Store) -> Signal:
    """The signal that fits the store. Opens nothing before its first use; belongs to this process."""
    return DataVersionSignal(store.dialect)
