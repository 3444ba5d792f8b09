"""The part of a Poster that reads what tasks stream."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable, Iterator

from ebbtide.jobs.records import Chunk, Job
from ebbtide.jobs.states import FINAL_STATES, JobState
from ebbtide.jobs.views import Views

__all__ = ["STREAM_SECONDS", "Streams", "rests"]

STREAM_SECONDS = 0.1
"""How soon a reader looks by itself: a commit that brings chunks alone rings nowhere on a server."""


def rests(job: Job) -> bool:
    """Whether nothing happens to it by itself any more."""
    return JobState(job.state) in FINAL_STATES or job.state == JobState.PARKED


class Streams(abc.ABC):
    """Part of `Poster`, which says what holds of every method."""

    _views: Views

    def chunks(self, job_id: str, after: int = 0) -> list[Chunk]:
        """What its tasks have streamed beyond chunk `after`, as far as it is kept; not all at once, perhaps:
        there is no more when nothing comes.
        """
        return self._views.chunks(self._views.resolve(job_id), after)

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
            while chunks := self._views.chunks(full, after):
                after = chunks[-1].number
                yield from chunks
            if rests(job):
                return
        raise TimeoutError(f"job {full} is still {job.phase} after {timeout} seconds")

    def marks(self, job_ids: Iterable[str]) -> dict[str, object]:
        """By full id, for each job that there is, something that is another after each change of it."""
        return self._views.marks(job_ids)

    @abc.abstractmethod
    def _changes(self, timeout: float | None, sweep_seconds: float = math.inf) -> Iterator[None]:
        """Yields at once, then whenever the store may have changed, until `timeout` seconds have passed."""
