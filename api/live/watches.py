"""Watches: what is looked at again and again for all who want to see the same, and what is new in it."""

from __future__ import annotations

import functools
import json
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
    def first(self, after: int | None) -> list[Message]:
        """What somebody is told who begins to watch, and has seen entries up to `after`."""

    @abstractmethod
    def news(self) -> list[Message]:
        """What is new since the last look."""

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to look at."""
        return False


class ListWatch(Watch):
    """A page of jobs, with how many there are of each phase: first as it is, then what changes in it.

    ``snapshot``: jobs, ids in order, counts. ``changes``: the jobs that are new or other than before, `ids`
    when the order or the set is another, `counts` when one is.
    """

    def __init__(self, desk: Poster, query: dict[str, Any]) -> None:
        super().__init__(desk)
        self._query = query
        self._rows: dict[str, dict[str, Any]] | None = None  # None: nothing was looked at yet
        self._counts: dict[str, int] = {}

    def first(self, after: int | None) -> list[Message]:
        rows, counts = self._read()
        if self._rows is None:
            self._rows, self._counts = rows, counts
        return [message("snapshot", {"jobs": list(rows.values()), "ids": list(rows), "counts": counts})]

    def news(self) -> list[Message]:
        rows, counts = self._read()
        before = self._rows or {}
        told: dict[str, Any] = {"jobs": [row for job, row in rows.items() if before.get(job) != row]}
        if list(rows) != list(before):
            told["ids"] = list(rows)
        if counts != self._counts:
            told["counts"] = counts
        self._rows, self._counts = rows, counts
        return [message("changes", told)] if len(told) > 1 or told["jobs"] else []

    def _read(self) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
        page = self.desk.page(**self._query)
        return {job.id: self.row(job) for job in page.jobs}, self.desk.counts()

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

    def first(self, after: int | None) -> list[Message]:
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
