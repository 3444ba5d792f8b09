"""What a cancel would undo, told before anybody asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from ebbtide.errors import JobNotFound
from ebbtide.jobs import tables
from ebbtide.jobs.cancelling import Cancel
from ebbtide.jobs.durations import Durations, undo_durations
from ebbtide.jobs.records import Record
from ebbtide.jobs.rounds import latest_rounds, undo_owed
from ebbtide.jobs.states import FINAL_STATES, JobState
from ebbtide.jobs.store import Store
from ebbtide.tasks.savepoint import PREFIX

__all__ = ["Preview", "UndoStep", "preview"]


@dataclass(frozen=True)
class UndoStep(Record):
    """One task that a cancel would undo.

    Attributes:
        level: what is of the same level may be undone side by side; 1 comes first, each further one after it.
        runs: whether its body is at work now; it is stopped first.
        no_undo: "none": its class has no undo; "irreversible": it says that there is none; None: it has one.
        past: how long its undo took in earlier jobs of the flow, in seconds; None: none is known.
    """

    task: str
    level: int
    runs: bool
    no_undo: str | None
    past: Durations | None


@dataclass(frozen=True)
class Preview(Record):
    """What a cancel of a job would do now. Nothing is changed by looking.

    Attributes:
        answer: what a cancel would be answered: "accepted", "already requested" or "too late".
        in_order: whether the order by level is that of the flow. False: the flow is not known here, and what
            is told is the reverse order of beginning, one by one.
        steps: what would be undone, in order.
        skipped: tasks whose undo a person has left out.
        undone: tasks that are undone already, by this attempt.
        never_begun: tasks of the flow that have not begun, and never will; empty where it is not known.
        seconds: how long the undo took in the past, by level the longest mean; None: some is not known.
    """

    job: str
    state: str
    answer: str
    in_order: bool
    steps: tuple[UndoStep, ...]
    running: tuple[str, ...]
    skipped: tuple[str, ...]
    undone: tuple[str, ...]
    never_begun: tuple[str, ...] = field(default=())
    seconds: float | None = None

    @property
    def cannot_undo(self) -> tuple[str, ...]:
        """Those of `steps` that have no undo, or say that there is none."""
        return tuple(step.task for step in self.steps if step.no_undo is not None)


def preview(store: Store, job_id: str, order: Mapping[str, set[str]] | None) -> Preview:
    """Look at one state of the store.

    Args:
        order: for each task of the flow those before it; None: nobody here knows the flow.

    Raises:
        JobNotFound.
    """
    with store.read() as connection:
        job = connection.execute(sa.select(tables.jobs).where(tables.jobs.c.id == job_id)).first()
        if job is None:
            raise JobNotFound(job_id)
        rows = latest_rounds(connection, [job]).get((job.id, job.attempt), [])
        past = undo_durations(connection, job.flow)
        (answer,) = Cancel("", reason="").answers(connection, [job])
    known = order is not None and {row.task for row in rows} <= order.keys()
    steps = _steps(job, rows, order if known and order is not None else None, past)
    begun = {row.task for row in rows}
    return Preview(
        job=job.id,
        state=job.state,
        answer=answer,
        in_order=known,
        steps=steps,
        running=tuple(step.task for step in steps if step.runs),
        skipped=tuple(row.task for row in rows if row.undo_skipped is not None),
        undone=tuple(row.task for row in rows if row.undo_ended_at is not None),
        never_begun=tuple(task for task in order or () if known and task not in begun),
        seconds=_seconds(steps),
    )


def _steps(
    job: sa.Row[Any],
    rows: Sequence[sa.Row[Any]],
    order: Mapping[str, set[str]] | None,
    past: Mapping[str, Durations],
) -> tuple[UndoStep, ...]:
    if job.state in FINAL_STATES:
        return ()
    standing = [row for row in rows if undo_owed(row)]
    levels = _levels([row.task for row in standing], order)
    running = job.state == JobState.RUNNING
    steps = [
        UndoStep(
            task=row.task,
            level=levels[row.task],
            runs=running and row.ended_at is None,
            no_undo=row.no_undo,
            past=past.get(row.task),
        )
        for row in reversed(standing)
        if not row.task.startswith(PREFIX)
    ]
    # Savepoints have levels of their own, and are not told of: the numbers close up.
    numbers = {level: number for number, level in enumerate(sorted({step.level for step in steps}), 1)}
    closed = [UndoStep(**(vars(step) | {"level": numbers[step.level]})) for step in steps]
    return tuple(sorted(closed, key=lambda step: step.level))


def _levels(standing: Sequence[str], order: Mapping[str, set[str]] | None) -> dict[str, int]:
    """When each may be undone: after all that comes after it. `standing` is in order of beginning."""
    levels: dict[str, int] = {}
    for number, task in enumerate(reversed(standing), 1):
        if order is None:
            levels[task] = number
        else:
            after = [levels[other] for other in levels if task in order[other]]
            levels[task] = 1 + max(after, default=0)
    return levels


def _seconds(steps: Sequence[UndoStep]) -> float | None:
    longest: dict[int, float] = {}
    for step in steps:
        if step.no_undo == "none":
            continue
        if step.past is None:
            return None
        longest[step.level] = max(longest.get(step.level, 0.0), step.past.mean)
    return round(sum(longest.values()), 3)
