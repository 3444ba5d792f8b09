"""One look at a job and its tasks, and what happened between two looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ebbtide.errors import StoreUnavailable

if TYPE_CHECKING:
    from ebbtide.jobs import Entry, Job, Poster, TaskRecord

TICK_SECONDS: Final = 0.1
# An idle conductor claims a job within milliseconds.
PATIENCE_SECONDS: Final = 3.0

# States in which nothing happens until a person does something.
RESTING: Final = frozenset({"completed", "failed", "cancelled", "parked"})

ENTRY_STYLES: Final = {
    "overdue": "bold red",
    "completed": "bold green",
    "failed": "bold red",
    "cancelled": "bold yellow",
    "parked": "bold magenta",
}


@dataclass(frozen=True)
class Snapshot:
    """A job as it was at one moment, with the tasks of its present attempt in the order they began.

    Job and tasks are two reads, in this order: a task may be further than the job says, never behind it.
    """

    job: Job
    tasks: tuple[TaskRecord, ...]

    @property
    def resting(self) -> bool:
        return str(self.job.state) in RESTING

    @property
    def paused(self) -> bool:
        return str(self.job.state) == "paused"

    def as_dict(self) -> dict[str, Any]:
        return {**self.job.as_dict(), "tasks": [task.as_dict() for task in self.tasks]}

    def unclaimed(self, now: float) -> str:
        """What to tell of a job that could run and that nobody takes; "" if it is not so, or not for long."""
        job = self.job
        if now - job.due_at < PATIENCE_SECONDS:
            return ""
        if job.waits_for is not None:
            return f"waits for {job.waits_for}; `ebbtide conductor` runs one"
        return "waits for a free runner" if str(job.phase) == "pending" else ""


@dataclass(frozen=True)
class Happening:
    """Something that happened to a job, told in a line."""

    at: float
    text: str
    style: str = ""


def take(poster: Poster, job_id: str) -> Snapshot:
    return _with_tasks(poster, poster.show(job_id))


def follow(poster: Poster, job_id: str, *, to_pause: bool = False) -> Iterator[Snapshot]:
    """Snapshots of a job, one at once and then whenever it may have changed; the last one is at rest.

    `to_pause`: or paused.

    The job is read before its tasks, so the last snapshot has all that its tasks came to. A server that is
    away is waited for once there was a snapshot, as `watch` does.
    """
    begun = False
    for job in poster.watch(job_id):
        try:
            snapshot = _with_tasks(poster, job)
        except StoreUnavailable:
            if not begun or str(job.state) in RESTING:
                raise
            continue  # `watch` tells of the job anew once the server is back; a store that is away it raises
        begun = True
        yield snapshot
        if to_pause and snapshot.paused:
            return


def _with_tasks(poster: Poster, job: Job) -> Snapshot:
    tasks = sorted(poster.tasks(job.id, job.attempt), key=lambda task: task.begun_at)
    return Snapshot(job, tuple(tasks))


def happenings(before: Snapshot | None, after: Snapshot, entries: list[Entry]) -> list[Happening]:
    """What changed between two snapshots, and what `entries` say of the same attempt, oldest first."""
    known = {_key(task): task for task in before.tasks} if before else {}
    found = [
        Happening(entry.at, entry.text, _entry_style(entry))
        for entry in entries
        if entry.attempt == after.job.attempt
    ]
    for task in after.tasks:
        found.extend(_steps(known.get(_key(task)), task))
    return sorted(found, key=lambda happening: happening.at)


def _key(task: TaskRecord) -> tuple[int, str, int]:
    return task.attempt, task.task, task.round


def _steps(before: TaskRecord | None, after: TaskRecord) -> Iterator[Happening]:
    name = after.task if after.round <= 1 else f"{after.task} (round {after.round})"
    if before is not None and before.begun_at != after.begun_at:
        before = None  # it has begun once more: after its failure, or after the end of its runner
    if before is None:
        yield Happening(after.begun_at, f"{name} begun")
    if after.how is not None and (before is None or before.how is None):
        error = f": {after.error}" if after.how == "raised" and after.error else ""
        style = {"returned": "green", "raised": "red"}.get(str(after.how), "yellow")
        yield Happening(after.ended_at or after.begun_at, f"{name} {after.how}{error}", style)
    if after.undo_begun_at is not None and (before is None or before.undo_begun_at is None):
        yield Happening(after.undo_begun_at, f"{name} is being undone", "yellow")
    if after.undo_ended_at is not None and (before is None or before.undo_ended_at is None):
        yield Happening(after.undo_ended_at, f"{name} undone", "yellow")


def _entry_style(entry: Entry) -> str:
    return ENTRY_STYLES.get(str(entry.name), "bold")
