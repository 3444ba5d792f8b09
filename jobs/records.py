"""What a reader of the ledger gets: plain frozen values, JSON-able by `as_dict()`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

__all__ = [
    "CancelAnswer",
    "CancelRequest",
    "Chunk",
    "Entry",
    "Job",
    "JobAnswer",
    "LogLine",
    "Record",
    "TaskRecord",
    "iso",
]

_ATOMS = (str, int, float, type(None))
_UNDO: Final = {
    "none": ", nothing had begun",
    "complete": ", everything undone",
    "accepted": ", accepted as it is",
}


def iso(at: float | None) -> str | None:
    """Unix seconds as an ISO 8601 text in UTC, milliseconds kept."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _standing(tasks: Sequence[str]) -> str:
    """The tasks whose work is still in place, in words; "" if there are none."""
    return f"not undone: {', '.join(map(str, tasks))}" if tasks else ""


class Record:
    """`as_dict()` for the dataclasses below: times (``at``, ``*_at``) become ISO 8601 texts."""

    def as_dict(self) -> dict[str, Any]:
        return _with_iso_times(_plain(self))


def _plain(value: Any) -> Any:
    """What `dataclasses.asdict` gives, but texts are not copied, which takes most of its time."""
    if isinstance(value, _ATOMS):
        return value
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(each) for each in value)
    if dataclasses.is_dataclass(value):
        return {name: _plain(each) for name, each in vars(value).items()}
    return value


def _with_iso_times(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: iso(value)
        if name == "at" or name.endswith("_at")
        else _with_iso_times(value)
        if name == "cancel" and value is not None
        else value
        for name, value in values.items()
    }


@dataclass(frozen=True)
class CancelRequest(Record):
    """The recorded wish to stop a job, and how far it got: four facts, four times (unix seconds)."""

    reason: str
    source: str
    who: str
    requested_at: float
    forwarded_at: float | None = None
    delivered_at: float | None = None
    reverted_at: float | None = None


@dataclass(frozen=True)
class Job(Record):
    """A job as it stands. Times are unix seconds.

    `progress` is the share of the work that stands, 0 to 1: it grows as tasks are done and falls
    as they are undone. `tasks_done` counts what returned in this attempt, `tasks_undone` what was
    undone again. `current` names the tasks that run, or are being undone, now. `not_undone` names,
    of a parked job and of one that was accepted as it is, those whose work is still in place.
    `posted_by` says whose job it is. `waits_for` tells, of a job that no conductor can take up now, for
    what: a conductor, an exclusive key that others hold, or the end of its children. `exclusive_key` and
    `parent` are as it was posted. `held` is a parked job that may go on from its failure; `retries` counts
    what it was tried again by itself, and `deadline_at` is when its attempt will be out of time, while it is
    claimed.
    """

    id: str
    flow: str
    version: int
    state: str
    phase: str
    attempt: int
    priority: int
    labels: dict[str, str]
    params: dict[str, Any]
    progress: float
    undo: str | None
    error: str | None
    error_task: str | None
    park_reason: str | None
    tasks_total: int
    tasks_done: int
    tasks_undone: int
    current: list[str]
    owner: str | None
    created_at: float
    due_at: float
    started_at: float | None
    ended_at: float | None
    cancel: CancelRequest | None = None
    not_undone: list[str] = field(default_factory=list)
    waits_for: str | None = None
    held: bool = False
    retries: int = 0
    deadline_at: float | None = None
    policies: dict[str, Any] = field(default_factory=dict)
    exclusive_key: str | None = None
    parent: str | None = None
    posted_by: str | None = None

    @property
    def standing(self) -> str:
        """What of its work is still in place, in words; "" if nothing is."""
        return _standing(self.not_undone)

    @property
    def ending(self) -> str:
        """How it ended, in a few words: "cancelled, everything undone", "parked: ..."."""
        if self.state == "parked":
            return f"parked: {self.park_reason or 'needs a person'}"
        words = str(self.state)
        if self.state != "completed":
            words += _UNDO.get(str(self.undo), "")
        if self.error and self.state != "completed":
            task = f"{self.error_task}: " if self.error_task else ""
            words += f" ({task}{self.error})"
        return words


@dataclass(frozen=True)
class JobAnswer:
    """What a wish was answered: the first is accepted, later ones learn of it."""

    job: Job
    answer: Literal["accepted", "already requested"]


@dataclass(frozen=True)
class CancelAnswer(JobAnswer):
    """What a cancel was answered."""


@dataclass(frozen=True)
class TaskRecord(Record):
    """What is recorded of one task in one round of one attempt. It exists only once the task has begun."""

    task: str
    attempt: int
    round: int
    begun_at: float
    ended_at: float | None
    how: str | None
    fraction: float | None
    message: str | None
    undo_begun_at: float | None
    undo_ended_at: float | None
    undo_tries: int
    error: str | None  # of its body
    undo_error: str | None = None


@dataclass(frozen=True)
class Entry(Record):
    """One line of a job's history; `number` is gapless from 1."""

    number: int
    at: float
    name: str
    from_state: str | None
    to_state: str | None
    attempt: int
    epoch: int
    actor: str | None
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What happened."""
        words = self.name.replace("_", " ")
        begins = ("posted", "retried", "retry_scheduled")
        return f"{words} (attempt {self.attempt})" if self.name in begins else words

    @property
    def reason(self) -> str:
        """Why, as far as it is told; "" if it is not."""
        if self.name == "overdue":
            tasks = ", ".join(map(str, self.detail.get("tasks", ()))) or "it"
            return f"{tasks} did not stop within {self.detail.get('grace_seconds', 0):g} s"
        found = (self.detail.get(name) for name in ("reason", "error", "cause"))
        reason = str(next(filter(None, found), ""))
        return "; ".join(filter(None, (reason, _standing(self.detail.get("not_undone", ())))))

    @property
    def text(self) -> str:
        """What happened and why, without its time."""
        return f"{self.words}: {self.reason}" if self.reason else self.words


@dataclass(frozen=True)
class LogLine(Record):
    """One line that a task logged or printed."""

    number: int
    at: float
    attempt: int
    task: str | None
    level: str
    text: str


@dataclass(frozen=True)
class Chunk(Record):
    """One chunk that a task has streamed; `number` is gapless in a job, but for dropped old ones.

    Another `epoch` of the same task says that its runner has died, and that it may have begun anew.
    """

    number: int
    at: float
    attempt: int
    epoch: int
    task: str
    value: Any
