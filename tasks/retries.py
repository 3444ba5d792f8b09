"""Making TaskFlow's retry controllers heed a cancel request."""

from __future__ import annotations

import functools
from typing import Any

from taskflow import retry as taskflow_retry

from ebbtide.tasks.event import CancelEvent

__all__ = ["bind_retry"]


def bind_retry(controller: taskflow_retry.Retry, event: CancelEvent) -> None:
    """Let `controller` answer REVERT_ALL while a cancel is requested, whatever it would say.

    To a stock controller `Cancelled` is one more failure: ``Times(200)`` ran 199 more rounds.
    Every controller, of whatever class, is asked through `on_failure` alone, in the engine's
    process, so replacing that on the instance covers all of them.

    Raises:
        RuntimeError: bound already.
    """
    if "on_failure" in vars(controller):
        raise RuntimeError(
            f"retry {controller.name} belongs to another run: build the flow anew for each job"
        )
    answer = controller.on_failure

    @functools.wraps(answer)
    def on_failure(*args: Any, **kwargs: Any) -> Any:
        if event.requested:
            return taskflow_retry.REVERT_ALL
        return answer(*args, **kwargs)

    controller.on_failure = on_failure
