"""The time limit of a task: past it the task fails, at its next checkpoint.

It reaches the body as a cancel does, by an event, though by one of its own: the job's is not set, so that a
retry controller may try again, and siblings go on. A body that returns in spite of it has succeeded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ebbtide.tasks.event import CallLater, CancelEvent

if TYPE_CHECKING:
    from ebbtide.tasks.base import CancelableTask

__all__ = ["TASK_LIMIT", "OutOfTime", "body_event", "passed"]

TASK_LIMIT = "task_limit"


class OutOfTime(Exception):
    """A task, or its whole job, took longer than it may. Its text says which limit."""


@contextlib.contextmanager
def body_event(task: CancelableTask, call_later: CallLater | None = None) -> Iterator[CancelEvent]:
    """The event that the body of `task` is to look at: the run's, or one that its limit sets as well.

    Args:
        call_later: who keeps the time, instead of the event itself.
    """
    seconds = task.limit_seconds
    if seconds is None:
        yield task.run.event
        return
    reason = f"{task.name} took longer than {seconds:g} s"
    with task.run.event.limited(seconds, reason, TASK_LIMIT, call_later=call_later) as event:
        yield event


def passed(task: CancelableTask, event: CancelEvent) -> OutOfTime | None:
    """What to raise in place of a `Cancelled` that the task's own limit has caused; None: it has not."""
    if event.requested and event.source == TASK_LIMIT and not task.run.event.requested:
        return OutOfTime(event.reason)
    return None
