"""Making TaskFlow's retry controllers heed a cancel request."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from taskflow import retry as taskflow_retry

from ebbtide.tasks.event import CancelEvent
from ebbtide.tasks.wrapping import TaskExited, describe

__all__ = ["bind_retry"]


def bind_retry(
    controller: taskflow_retry.Retry,
    event: CancelEvent,
    *,
    settled: Callable[[], bool] = lambda: False,
    at_work: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Let `controller` answer REVERT_ALL once a cancel is requested, or `settled`, whatever it would say.

    To a stock controller `Cancelled` is one more failure: ``Times(200)`` ran 199 more rounds.
    Every controller, of whatever class, is asked through `on_failure` alone, in the engine's
    process, so replacing that on the instance covers all of them.

    Args:
        settled: whether it is settled already that all is undone; a controller is not asked then, which
            may be the one whose own failure settled it.
        at_work: surrounds each stretch of the controller's own code: it may hold the engine up.

    Raises:
        RuntimeError: bound already.
    """
    if "on_failure" in vars(controller):
        raise RuntimeError(
            f"retry {controller.name} belongs to another run: build the flow anew for each job"
        )
    answer, execute = controller.on_failure, controller.execute

    @functools.wraps(answer)
    def on_failure(*args: Any, **kwargs: Any) -> Any:
        with at_work():
            if event.requested or settled():
                return taskflow_retry.REVERT_ALL
            try:
                return answer(*args, **kwargs)
            except Exception:
                raise
            except BaseException as error:  # noqa: BLE001  # sys.exit() of a controller's ends its flow alone
                raise TaskExited(f"retry {controller.name} left with {describe(error)}") from None

    @functools.wraps(execute)
    def begin_round(*args: Any, **kwargs: Any) -> Any:
        with at_work():
            return execute(*args, **kwargs)

    controller.on_failure, controller.execute = on_failure, begin_round
