"""A verb: what may be asked of one job or of many, by the same statements.

What a job is answered depends on what is stored of it alone, so that it can be told before anything is
changed.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.changes import Marker
from ebbtide.jobs.states import JobState

__all__ = [
    "ACCEPTED",
    "ALREADY_REQUESTED",
    "DELETED",
    "DONE",
    "REFUSED",
    "TOO_LATE",
    "Verb",
    "in_state",
]

ACCEPTED = "accepted"
ALREADY_REQUESTED = "already requested"
TOO_LATE = "too late"
REFUSED = "refused"
DELETED = "deleted"
#: The answers by which something is stored.
DONE = frozenset({ACCEPTED, DELETED})

_jobs = tables.jobs

Rows = Sequence[sa.Row[Any]]


class Verb(abc.ABC):
    """Something that somebody asks of jobs.

    Args:
        who: who asks; each entry that is written names it.
    """

    #: The entry by which a change is found again in a job's history, or the other one, where what is written
    #: depends on the job; and whether it may have removed the job.
    entry: ClassVar[str]
    or_entry: ClassVar[str | None] = None
    removes: ClassVar[bool] = False
    #: Whether what is above a job is looked at, too: then it is locked before that.
    looks_above: ClassVar[bool] = False

    def __init__(self, who: str) -> None:
        self.who = who

    @abc.abstractmethod
    def answer(self, row: sa.Row[Any]) -> str:
        """What a job is answered, as far as its row tells."""

    def answers(self, connection: sa.Connection, rows: Rows) -> list[str]:
        """What each job is answered: as a rule by its row alone."""
        return [self.answer(row) for row in rows]

    @abc.abstractmethod
    def fits(self) -> sa.ColumnElement[bool]:
        """The jobs that are meant where no state is named, of those that fit a flow, a label or an age."""

    @abc.abstractmethod
    def apply(self, connection: sa.Connection, rows: Rows, *, at: float) -> None:
        """Do it to jobs that were answered `ACCEPTED` or `DELETED`; their rows are locked."""

    def marker(self, at: float) -> Marker:
        """By which a commit is found whose answer was lost."""
        return Marker(self.entry, at, self.who, or_name=self.or_entry, or_gone=self.removes)


def in_state(rows: Rows, *states: JobState) -> list[str]:
    """The ids of those that are in one of the states."""
    return [row.id for row in rows if row.state in states]
