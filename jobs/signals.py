"""Signals: hints that something in the store may have changed. The rows are the truth; a signal never is."""

import select
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from threading import Event, Lock

import psycopg2
from psycopg2 import extensions

from ebbtide.errors import StoreUnavailable
from ebbtide.jobs.filewatch import FileWatch
from ebbtide.jobs.postgresql import CHANNEL, Postgresql
from ebbtide.jobs.sqlite import Sqlite
from ebbtide.jobs.store import Store

_RECONNECT_SECONDS = 2.0
# How long a commit may take from its first byte in SQLite's log on, usually; a longer one is seen late.
_RESTLESS_SECONDS = 0.25


class Signal(ABC):
    """Says "look now" to whoever waits for a change. May ring without reason; may be lost, doubled or late.

    Whoever relies on it must look by itself now and then as well: without any signal everything still
    happens, only later.
    """

    #: How often whoever watches a job looks at it by himself: what does not ring is not seen before.
    sweep_seconds = 1.0

    def __init__(self) -> None:
        self._closed = Event()

    @abstractmethod
    def ring(self, job_id: str) -> None:
        """Tell the others that this job has changed. Called after the commit; never raises, never waits."""

    @abstractmethod
    def changed(self) -> bool:
        """Whether something may have happened since the last call; True at the first one.

        Called often, by one thread: it neither waits nor raises. When the signal itself breaks it says
        True, so that the caller looks at the store and meets the trouble there.
        """

    @property
    def descriptor(self) -> int | None:
        """A file descriptor that can be read once the signal rings; None: it has to be asked by `changed`.

        Another one, or None for a while, after the signal was broken.
        """
        return None

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


class NotifySignal(Signal):
    """Hears what PostgreSQL's triggers say with each commit, over a connection of its own.

    The connection is made, and made again, without waiting: while there is none, nothing rings, and whoever
    listens looks by himself now and then.
    """

    # Progress, and what begins and ends inside a job, is no entry of its history and does not ring.
    sweep_seconds = 0.25

    def __init__(self, dialect: Postgresql) -> None:
        super().__init__()
        self._dialect = dialect
        self._guard = Lock()  # `close` may come from another thread
        self._connection: extensions.connection | None = None
        # LISTEN was sent by it. It has to live until the answer is there: the driver looks for it then.
        self._asked: extensions.cursor | None = None
        self._listening = False
        self._step = (-1, -1)  # how far the connection was at the last look
        self._next_try = 0.0  # or, while one is on its way: when that is given up
        self._first = True

    def ring(self, job_id: str) -> None:
        """Nothing to do: the commit itself rings."""

    @property
    def descriptor(self) -> int | None:
        """As promised by `Signal`; None until it listens."""
        with self._guard:
            if not self._listening or self._connection is None or self._connection.closed:
                return None
            return int(self._connection.fileno())

    def changed(self) -> bool:
        """As promised by `Signal`."""
        with self._guard:
            first, self._first = self._first, False
            try:
                return self._heard() or first
            except psycopg2.Error:
                self._drop()
                return True

    def pause(self, seconds: float) -> None:
        """Wait for the bell, at most this long; `close` ends the wait within that time."""
        descriptor = self.descriptor
        if descriptor is None or self._closed.is_set():
            super().pause(seconds)
            return
        bell = select.poll()  # not select(): that takes no descriptor above 1,023
        bell.register(descriptor, select.POLLIN)
        bell.poll(1000 * seconds)  # one that was closed meanwhile ends it at once: the next look tells

    def close(self) -> None:
        """Close the connection."""
        super().close()
        with self._guard:
            self._drop()

    def _heard(self) -> bool:
        if self._closed.is_set():
            return True
        if self._connection is None:
            self._connect()
        if self._connection is None or not self._is_ready(self._connection):
            return False
        if self._asked is None:
            self._asked = self._connection.cursor()
            self._asked.execute(f"LISTEN {CHANNEL}")
            return False
        rang = bool(self._connection.notifies) or not self._listening
        self._listening = True  # what was said before it listened is looked for once, now
        self._connection.notifies.clear()
        return rang

    def _connect(self) -> None:
        now = time.monotonic()
        if now >= self._next_try:
            self._next_try = now + _RECONNECT_SECONDS
            self._connection = self._dialect.connect(waits=False)

    def _is_ready(self, connection: extensions.connection) -> bool:
        """Whether it waits for nothing. One on whose way nothing has happened for too long is given up."""
        step = (connection.poll(), connection.info.status)
        if self._listening:
            return bool(step[0] == extensions.POLL_OK)
        now = time.monotonic()
        if step != self._step:
            # However seldom it is looked at: it is on its way.
            self._step, self._next_try = step, now + _RECONNECT_SECONDS
        elif now >= self._next_try:
            self._drop()
            return False
        return bool(step[0] == extensions.POLL_OK)

    def _drop(self) -> None:
        self._asked, self._listening, self._step = None, False, (-1, -1)
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def open_signal(store: Store) -> Signal:
    """The signal that fits the store. Opens nothing before its first use; belongs to this process."""
    dialect = store.dialect
    return NotifySignal(dialect) if isinstance(dialect, Postgresql) else DataVersionSignal(dialect)
