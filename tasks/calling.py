"""How the body of a task is called: between TaskFlow's own hooks, by whoever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ebbtide.tasks.event import Cancelled

if TYPE_CHECKING:
    from ebbtide.tasks.base import CancelableTask

__all__ = ["executed", "reverted"]


def executed(task: CancelableTask, arguments: Mapping[str, Any]) -> Any:
    """What execute() returned, also when a cancel was requested meanwhile: the task has succeeded then.

    Raises:
        Cancelled: before it returned.
    """
    task.pre_execute()
    try:
        result = task.execute(**arguments)
    except Cancelled as cancelled:
        if not cancelled.returned:
            raise
        # It had returned: for TaskFlow it succeeded, and keeps its result for the undo.
        result = cancelled.result
    task.post_execute()
    return result


def reverted(task: CancelableTask, arguments: Mapping[str, Any]) -> Any:
    """What revert() returned."""
    task.pre_revert()
    result = task.revert(**arguments)
    task.post_revert()
    return result
