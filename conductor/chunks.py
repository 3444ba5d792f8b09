"""What the tasks of one run stream, until a commit stores it; and how much of it is kept."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import clock, tables
from ebbtide.jobs.claims import Claim
from ebbtide.jobs.store import Store

__all__ = ["MAX_BYTES", "ChunkBuffer"]

MAX_BYTES = 4 * 1024 * 1024
"""Of a job, over all its attempts, so much JSON is kept: the newest."""

_FULL_BYTES = 256 * 1024  # so much is not to wait in memory
_ROW_BYTES = 64 * 1024


class ChunkBuffer:
    """The chunks of one run that are not stored yet. Safe to use from any thread.

    Chunks are numbered without gaps within a job; the numbers of dropped ones are not used again. A row holds
    those that one task has sent since the last commit, and is known by the number of its last one.
    """

    def __init__(self, store: Store, claim: Claim) -> None:
        self._store = store
        self._claim = claim
        self._lock = threading.Lock()  # guards what follows
        self._number: int | None = None  # of the last chunk; None: the store was not asked yet
        self._kept: deque[tuple[int, int]] = deque()  # the number and the bytes of each row, oldest first
        self._kept_bytes = 0
        self._sent: dict[str, int] = {}  # task -> how many chunks this attempt has of it
        self._waiting: list[tuple[str, str]] = []  # task, JSON
        self._waiting_bytes = 0

    def open(self, task: str) -> int:
        """Ask the store, if nobody did yet; returns how many chunks of the task this attempt has already."""
        with self._lock:
            if self._number is None:
                self._load()
            return self._sent.get(task, 0)

    def add(self, task: str, text: str) -> bool:
        """Take one more chunk, as JSON. True: so much waits to be stored that the task should wait for it."""
        with self._lock:
            assert self._number is not None, "a stream was not opened"
            self._waiting.append((task, text))
            self._waiting_bytes += len(text)
            self._sent[task] = self._sent.get(task, 0) + 1
            return self._waiting_bytes > _FULL_BYTES

    def take(self) -> tuple[list[dict[str, Any]], int]:
        """The rows since the last call, and the number of the last row that makes room for them; 0: none."""
        with self._lock:
            waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
            rows: list[dict[str, Any]] = []
            run: list[str] = []
            size = 0
            for index, (task, text) in enumerate(waiting):
                run.append(text)
                size += len(text) + 1
                last = index + 1 == len(waiting) or waiting[index + 1][0] != task
                if last or size > _ROW_BYTES:
                    rows.append(self._row(task, run))
                    run, size = [], 0
            dropped = 0
            while self._kept_bytes > MAX_BYTES and len(self._kept) > 1:
                dropped, size = self._kept.popleft()
                self._kept_bytes -= size
            return [row for row in rows if row["number"] > dropped], dropped

    def _row(self, task: str, texts: list[str]) -> dict[str, Any]:
        assert self._number is not None
        self._number += len(texts)
        chunks = f"[{','.join(texts)}]"
        self._kept.append((self._number, len(chunks)))
        self._kept_bytes += len(chunks)
        return {
            "job": self._claim.job_id,
            "number": self._number,
            "count": len(texts),
            "at": clock.wall(),
            "attempt": self._claim.attempt,
            "epoch": self._claim.epoch,
            "task": task,
            "chunks": chunks,
        }

    def _load(self) -> None:
        of = tables.job_chunks
        query = (
            sa.select(of.c.number, of.c.count, of.c.attempt, of.c.task, sa.func.length(of.c.chunks))
            .where(of.c.job == self._claim.job_id)
            .order_by(of.c.number)
        )
        with self._store.read() as connection:
            rows = connection.execute(query).all()
        for number, count, attempt, task, size in rows:
            self._kept.append((number, size))
            self._kept_bytes += size
            if attempt == self._claim.attempt:
                self._sent[task] = self._sent.get(task, 0) + count
        self._number = rows[-1][0] if rows else 0
