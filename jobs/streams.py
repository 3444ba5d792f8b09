"""The part of a Poster that reads what tasks stream."""

from __future__ import annotations

import abc
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.records import Chunk, Job
from ebbtide.jobs.states import FINAL_STATES, JobState
from ebbtide.jobs.store import Store
from ebbtide.jobs.views import Views

__all__ = ["STREAM_SECONDS", "Streams", "rests"]

STREAM_SECONDS = 0.1
"""How soon a reader looks by itself: a commit that brings chunks alone rings nowhere on a server."""

_jobs = tables.jobs
# How many jobs one statement may name, and how many rows one may bring.
_AT_ONCE = 500


def rests(job: Job) -> bool:
    """Whether nothing happens to it by itself any more."""
    return JobState(job.state) in FINAL_STATES or job.state == JobState.PARKED


class Streams(abc.ABC):
    """Part of `Poster`, which says what holds of every method."""

    _store: Store
    _views: Views

    def chunks(self, job_id: str, after: int = 0) -> list[Chunk]:
        """What its tasks have streamed beyond chunk `after`, as far as it is kept; not all at once, perhaps:
        there is no more when nothing comes.
        """
        return _read(self._store, self._views.resolve(job_id), after)

    def stream(self, job_id: str, after: int = 0, timeout: float | None = None) -> Iterator[Chunk]:
        """What its tasks stream, from the chunk after `after` on, as it comes; ends when the job is final or
        parked. After a cancel that is the partial result.

        Raises:
            TimeoutError: `timeout` seconds have passed. The job goes on.
        """
        full = self._views.resolve(job_id)
        for _ in self._changes(timeout, STREAM_SECONDS):
            # The job is read first: what it has sent by then is surely among what is read after it.
            job = self._views.job(full)
            while chunks := _read(self._store, full, after):
                after = chunks[-1].number
                yield from chunks
            if rests(job):
                return
        raise TimeoutError(f"job {full} is still {job.phase} after {timeout} seconds")

    def marks(self, job_ids: Iterable[str]) -> dict[str, object]:
        """By full id, for each job that there is, something that is another after each change of it."""
        wanted = list(job_ids)
        found: dict[str, object] = {}
        with self._store.read() as connection:
            for start in range(0, len(wanted), _AT_ONCE):
                some = wanted[start : start + _AT_ONCE]
                query = sa.select(_jobs.c.id, _jobs.c.write, _jobs.c.entries).where(_jobs.c.id.in_(some))
                found |= {row.id: (row.write, row.entries) for row in connection.execute(query)}
        return found

    @abc.abstractmethod
    def _changes(self, timeout: float | None, sweep_seconds: float = math.inf) -> Iterator[None]:
        """Yields at once, then whenever the store may have changed, until `timeout` seconds have passed."""


def _read(store: Store, job_id: str, after: int) -> list[Chunk]:
    """The chunks beyond number `after`, in order: what the next rows hold of them."""
    of = tables.job_chunks
    query = sa.select(of).where(of.c.job == job_id, of.c.number > after).order_by(of.c.number)
    with store.read() as connection:
        rows = connection.execute(query.limit(_AT_ONCE)).all()
    return [chunk for row in rows for chunk in _chunks_of(row) if chunk.number > after]


def _chunks_of(row: sa.Row[Any]) -> Iterator[Chunk]:
    for number, value in enumerate(json.loads(row.chunks), row.number - row.count + 1):
        yield Chunk(number, row.at, row.attempt, row.epoch, row.task, value)
