"""The signal `postgresql`: LISTEN hears what the tables' triggers say with each commit."""

from __future__ import annotations

import os
import time
from threading import Lock

import psycopg2
from psycopg2 import extensions

from ebbtide.jobs.postgresql import CHANNEL, Postgresql
from ebbtide.jobs.signals.signal import Signal, wait_for

__all__ = ["NotifySignal"]

_RECONNECT_SECONDS = 2.0


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
        self._pid = 0  # of the process that made the connection
        # LISTEN was sent by it. It has to live until the answer is there: the driver looks for it then.
        self._asked: extensions.cursor | None = None
        self._listening = False
        self._step = (-1, -1)  # how far the connection was at the last look
        self._next_try = 0.0  # or, while one is on its way: when that is given up
        self._first = True

    def ring(self, job_id: str) -> None:
        """Nothing to do: the commit itself rings."""

    @property
    def listening(self) -> bool:
        """As promised by `Signal`."""
        return self.descriptor is not None

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
        wait_for(descriptor, seconds)

    def close(self) -> None:
        """Close the connection; after a fork nothing is closed that is the parent's."""
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
            self._connection, self._pid = self._dialect.connect(waits=False), os.getpid()

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
            if self._pid == os.getpid():  # else the server would take it for the parent's goodbye
                self._connection.close()
            self._connection = None
