"""Watches: what is looked at again and again for all who want to see the same, and what is new in it."""

from __future__ import annotations

import functools
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ebbtide.api.answers import job_dict, row_dict
from ebbtide.errors import JobNotFound
from ebbtide.jobs import Job, Poster
from ebbtide.jobs.streams import rests

__all__ = ["JobWatch", "ListWatch", "Message", "Watch", "message"]


@dataclass(frozen=True)
class Message:
    """One event. `number` is that of an entry of the job's history, by which a stream is resumed."""

    event: str
    data: str  # JSON
    number: int | None = None
    last: bool = False  # nothing comes after it
    rests: bool = False  # the job is final or parked: whoever waited for that may go

    @functools.cached_property
    def sent(self) -> bytes:
        """As a server-sent event: made once for all who watch. JSON has its line breaks escaped."""
        number = "" if self.number is None else f"id: {self.number}\n"
        return f"{number}event: {self.event}\ndata: {self.data}\n\n".encode()


def message(event: str, value: Any, **more: Any) -> Message:
    """An event of a value that JSON can hold."""
    return Message(event, json.dumps(value, separators=(",", ":")), **more)


class Watch(ABC):
    """Looked at by one thread. `desk` sees what those may see who watch."""

    def __init__(self, desk: Poster) -> None:
        self.desk = desk

    @abstractmethod
    def first(self, after: int | None, asked_at: float) -> list[Message]:
        """What somebody is told who begins to watch, and has seen entries up to `after`.

        Args:
            asked_at: by `time.monotonic()`. What was read from then on will do.
        """

    @abstractmethod
    def news(self) -> list[Message]:
        """What is new since the last look."""

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to look at."""
        return False


@dataclass(frozen=True)
class _Reading:
    """A page as it was read, for all who had asked for it when that began."""

    began_at: float
    rows: dict[str, dict[str, Any]]
    counts: dict[str, int]

    @functools.cached_property
    def snapshot(self) -> Message:
        return message(
            "snapshot", {"jobs": list(self.rows.values()), "ids": list(self.rows), "counts": self.counts}
        )


_NOTHING = _Reading(0.0, {}, {})


class ListWatch(Watch):
    """A page of jobs, with how many there are of each phase: first as it is, then what changes in it.

    ``snapshot``: jobs, ids in order, counts. ``changes``: the jobs that are new or other than before, `ids`
    when the order or the set is another, `counts` when one is.
    """

    def __init__(self, desk: Poster, query: dict[str, Any]) -> None:
        super().__init__(desk)
        self._query = query
        self._read: _Reading | None = None  # None: nothing was looked at yet
        self._told: _Reading | None = None  # what all know who watch; `_read` may be later

    def first(self, after: int | None, asked_at: float) -> list[Message]:
        if self._read is None or self._read.began_at < asked_at:
            self._read = self._look()
        self._told = self._told or self._read
        return [self._read.snapshot]

    def news(self) -> list[Message]:
        before, now = self._told or _NOTHING, self._look()
        told: dict[str, Any] = {"jobs": [row for job, row in now.rows.items() if before.rows.get(job) != row]}
        if list(now.rows) != list(before.rows):
            told["ids"] = list(now.rows)
        if now.counts != before.counts:
            told["counts"] = now.counts
        self._read = self._told = now
        return [message("changes", told)] if len(told) > 1 or told["jobs"] else []

    def _look(self) -> _Reading:
        began_at = time.monotonic()
        page = self.desk.page(**self._query)
        return _Reading(began_at, {job.id: self.row(job) for job in page.jobs}, self.desk.counts())

    def row(self, job: Job) -> dict[str, Any]:
        """What is told of a job."""
        return row_dict(job)


class JobWatch(Watch):
    """One job: ``job`` as it stands whenever it is another, ``entry`` for each new line of its history.

    ``deleted`` ends the stream.
    """

    def __init__(self, desk: Poster, job_id: str) -> None:
        super().__init__(desk)
        self._job_id = job_id
        self._job: Job | None = None
        self._seen: int | None = None  # None: nothing was looked at yet
        self._deleted = False

    def first(self, after: int | None, asked_at: float) -> list[Message]:
        # The job is read first: what it has come to then is surely among the entries read after it.
        job = self.desk.show(self._job_id)
        entries = self.desk.entries(self._job_id, after or 0)
        if self._seen is None:
            self._job = job
            # Not what this one says that it has seen: others may have seen less.
            known = entries or self.desk.entries(self._job_id)
            self._seen = known[-1].number if known else 0
        return [*_told(entries), _standing(job)]

    def news(self) -> list[Message]:
        try:
            job = self.desk.show(self._job_id)
            entries = self.desk.entries(self._job_id, self._seen or 0)
        except JobNotFound:
            self._deleted = True
            return [message("deleted", {"id": self._job_id}, last=True)]
        self._seen = max([self._seen or 0, *(entry.number for entry in entries)])
        before, self._job = self._job, job
        return [*_told(entries), *([_standing(job)] if job != before else [])]

    @property
    def ended(self) -> bool:
        return self._deleted


def _told(entries: Any) -> Iterator[Message]:
    for entry in entries:
        yield message("entry", entry.as_dict(), number=entry.number)


def _standing(job: Job) -> Message:
    return message("job", job_dict(job), rests=rests(job))
