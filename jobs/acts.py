"""Acts: what may be asked of a job now, by the conditions that decide what it would be answered."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import sqlalchemy as sa

from ebbtide.errors import JobNotFound
from ebbtide.jobs import tables
from ebbtide.jobs.cancelling import Cancel
from ebbtide.jobs.deletion import Delete
from ebbtide.jobs.holding import holds
from ebbtide.jobs.parking import undos_that_failed
from ebbtide.jobs.pausing import Pause, Resume, why_not_rewound
from ebbtide.jobs.records import Record
from ebbtide.jobs.retrying import Retry
from ebbtide.jobs.rounds import reached_savepoints
from ebbtide.jobs.states import JobState, edge
from ebbtide.jobs.store import Store
from ebbtide.jobs.verbs import ACCEPTED, DONE
from ebbtide.tasks.savepoint import PREFIX

__all__ = ["Act", "Choices", "choices"]


class Act(enum.StrEnum):
    """Something that is asked of one job; each is a method of `Poster`."""

    CANCEL = "cancel"
    RETRY = "retry"
    GO_ON = "go_on"  # retry, from the failure: of a job that holds
    PAUSE = "pause"
    RESUME = "resume"
    REWIND = "rewind"
    UNPARK = "unpark"
    SKIP = "skip"  # unpark, with an undo left out
    ACCEPT = "accept"
    DELETE = "delete"


@dataclass(frozen=True)
class Choices(Record):
    """What may be asked of a job now, and what it was asked already that has not come to pass.

    Attributes:
        acts: those that would be accepted.
        savepoints: to which it can be rewound, in the order in which it came to them.
        skips: the tasks whose undo can be left out.
        pause_requested: it is to rest once the running tasks have ended.
        rewind_to: the savepoint to which it is on its way back.
        delete_requested: it is to be removed with its end.
    """

    acts: tuple[Act, ...]
    savepoints: tuple[str, ...]
    skips: tuple[str, ...]
    pause_requested: bool
    rewind_to: str | None
    delete_requested: bool


def choices(store: Store, job_id: str) -> Choices:
    """Of one state of the store; the next moment it may be another. Raises JobNotFound."""
    with store.read() as connection:
        row = connection.execute(sa.select(tables.jobs).where(tables.jobs.c.id == job_id)).first()
        if row is None:
            raise JobNotFound(job_id)
        held = holds(connection, row)
        savepoints = tuple(reached_savepoints(connection, row))
        parked = JobState(row.state) in edge("unparked").sources
        skips = tuple(undos_that_failed(connection, row)) if parked else ()
        (cancelled,) = Cancel("", reason="").answers(connection, [row])
    allowed = {
        Act.CANCEL: cancelled == ACCEPTED,
        Act.RETRY: Retry("").answer(row) == ACCEPTED,
        Act.GO_ON: held,
        Act.PAUSE: Pause("").answer(row) == ACCEPTED,
        Act.RESUME: Resume("").answer(row) == ACCEPTED,
        Act.REWIND: bool(savepoints) and why_not_rewound(row) is None,
        Act.UNPARK: parked and not held,
        Act.SKIP: bool(skips),
        Act.ACCEPT: JobState(row.state) in edge("accepted_as_failed").sources,
        Act.DELETE: Delete("").answer(row) in DONE,
    }
    return Choices(
        acts=tuple(act for act in Act if allowed[act]),
        savepoints=savepoints if allowed[Act.REWIND] else (),
        skips=skips,
        pause_requested=row.pause_requested_at is not None and row.state == JobState.RUNNING,
        rewind_to=None if row.rewind_to is None else row.rewind_to.removeprefix(PREFIX),
        delete_requested=row.delete_requested_at is not None,
    )
