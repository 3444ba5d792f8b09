"""What one run of a job offers its tasks. The conductor provides it; a task alone has a detached one."""

from __future__ import annotations

import abc
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ebbtide.errors import UsageError
from ebbtide.tasks import payload
from ebbtide.tasks.event import CancelEvent

__all__ = ["INTERRUPTED", "Begun", "DetachedRun", "How", "Interrupted", "JobInfo", "Missing", "Run", "Undo"]


class Interrupted:
    """The type of `INTERRUPTED`: what a revert gets when execute() did not return. It is falsy."""

    _only: Interrupted | None = None

    def __new__(cls) -> Interrupted:
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "INTERRUPTED"


INTERRUPTED: Final = Interrupted()


class How(enum.StrEnum):
    """How the body of a task ended."""

    RETURNED = "returned"
    RAISED = "raised"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"  # its runner died; nothing was heard of it again


@dataclass(frozen=True)
class Missing:
    """Stands for an argument that cannot be given any more. Only an undo meets it; who needs it fails."""

    why: str


@dataclass(frozen=True)
class JobInfo:
    """What a task may know of its job.

    `epoch` is the fence token: the number of the claim under which this code runs. A task that
    passes it on to the system it writes to lets that system refuse a stale holder.
    """

    id: str
    flow: str
    attempt: int = 1
    epoch: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Begun:
    """What is known when an execute() begins: did it begin before without returning, and what it saved."""

    interrupted: bool = False
    saved: Any = None


@dataclass(frozen=True)
class Undo:
    """What a revert is given. `result` is the true result or `INTERRUPTED`."""

    result: Any
    saved: Any = None

    @property
    def interrupted(self) -> bool:
        return self.result is INTERRUPTED


class Run(abc.ABC):
    """One run of a job, as its tasks meet it. Every method may be called from any task's thread.

    The order for each task is begin, then (save | report)*, then returned or stopped; and for
    its undo begin_undo, then end_undo. Tasks are known by name, unique within a flow.
    """

    event: CancelEvent
    job: JobInfo
    max_bytes: int = payload.MAX_BYTES  # of a result, and of the data of a checkpoint

    def encode(self, value: Any, what: str) -> str:
        """The JSON text of `value` as this run may store it; `what` is how an error names it.

        Raises:
            PayloadError: it may not be stored.
        """
        return payload.encode(value, what, max_bytes=self.max_bytes)

    def hide(self, text: str) -> str:
        """`text` as it may be stored and shown: without the secrets of this run."""
        return text

    @abc.abstractmethod
    def begin(self, task: str) -> Begun:
        """The barrier: checks the event, marks the task as begun, and commits that with what is unsaved.

        One step to everybody else: a commit that finds a cancel request takes the mark back. After a
        cancel was accepted nothing passes here.

        Raises:
            Cancelled: the job is being cancelled; the task did not begin.
            ClaimLost: another conductor holds the job; the task did not begin.
        """

    @abc.abstractmethod
    def returned(self, task: str, text: str) -> None:
        """execute() returned; `text` is its result as JSON."""

    @abc.abstractmethod
    def stopped(self, task: str, how: How, error: str) -> None:
        """execute() raised; `how` is RAISED or CANCELLED."""

    @abc.abstractmethod
    def save(self, task: str, text: str) -> None:
        """Store checkpoint data (JSON) durably before returning."""

    def post(self, task: str, flow: str, params: Mapping[str, Any] | None, wishes: Mapping[str, Any]) -> str:
        """Post a child of the job; returns its id once it is stored.

        Raises:
            Cancelled: the job is being cancelled.
            UsageError: nothing is run here that could have a child; or see `Poster.post`.
        """
        raise UsageError("only a task of a job that a conductor runs can post a child of it")

    @abc.abstractmethod
    def report(self, task: str, fraction: float, message: str) -> None:
        """Progress, 0 to 1. Best effort: stored later, or not at all."""

    @abc.abstractmethod
    def delivered(self, task: str) -> None:
        """`Cancelled` was raised inside the task. Only the first of a run is recorded."""

    @abc.abstractmethod
    def begin_undo(self, task: str) -> Undo | None:
        """The barrier before a revert. None: the task is not recorded as begun, so nothing is to be undone.

        Raises:
            ClaimLost: as `begin`.
        """

    @abc.abstractmethod
    def end_undo(self, task: str, error: str | None) -> None:
        """The revert returned (`error` None) or raised."""


class DetachedRun(Run):
    """The run of a task that no conductor has bound: in memory, its event set by whoever holds the task.

    It keeps the same promises within one process and forgets everything with it.
    """

    def __init__(self, event: CancelEvent | None = None, job: JobInfo | None = None) -> None:
        self.event = event or CancelEvent()
        self.job = job or JobInfo(id="detached", flow="detached")
        self.progress: dict[str, tuple[float, str]] = {}
        self._begun: dict[str, str | None] = {}  # task -> JSON text of its result, None until it returned
        self._saved: dict[str, str] = {}

    def begin(self, task: str) -> Begun:
        self.event.check()
        # A result says that it returned: it is run once more, not again after an interruption.
        known = Begun(self._begun.get(task, "") is None, self._decoded_save(task))
        self._begun[task] = None
        return known

    def returned(self, task: str, text: str) -> None:
        self._begun[task] = text

    def stopped(self, task: str, how: How, error: str) -> None:
        self._begun[task] = None

    def save(self, task: str, text: str) -> None:
        self._saved[task] = text

    def report(self, task: str, fraction: float, message: str) -> None:
        self.progress[task] = (fraction, message)

    def delivered(self, task: str) -> None:
        pass

    def begin_undo(self, task: str) -> Undo | None:
        if task not in self._begun:
            return None
        text = self._begun[task]
        return Undo(INTERRUPTED if text is None else payload.decode(text), self._decoded_save(task))

    def end_undo(self, task: str, error: str | None) -> None:
        if error is None:
            self._begun.pop(task, None)
            self._saved.pop(task, None)

    def _decoded_save(self, task: str) -> Any:
        text = self._saved.get(task)
        return None if text is None else payload.decode(text)
