"""Making TaskFlow's retry controllers heed a cancel request."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from taskflow import retry as taskflow_retry

from ebbtide.tasks.run import Run
from ebbtide.tasks.wrapping import TaskExited, describe, refuse_missing

__all__ = ["bind_retry"]


def bind_retry(
    controller: taskflow_retry.Retry,
    run: Run,
    *,
    settled: Callable[[], bool] = lambda: False,
    at_work: Callable[[], AbstractContextManager[None]] = nullcontext,
    undoing: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Let `controller` answer REVERT_ALL once a cancel is requested, or `settled`, whatever it would say.

    To a stock controller `Cancelled` is one more failure: ``Times(200)`` ran 199 more rounds.
    Every controller, of whatever class, is asked through `on_failure` alone, in the engine's
    process, so replacing that on the instance covers all of them. What it provides is checked like
    the result of a task, and what it raises told like an error of one.

    Args:
        settled: whether it is settled already that all is undone; a controller is not asked then, which
            may be the one whose own failure settled it.
        at_work, undoing: surround each stretch of the controller's own code, the latter its revert: it may
            hold the engine up.

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
        with at_work():
            if run.event.requested or settled():
                return taskflow_retry.REVERT_ALL
            try:
                return answer(*args, **kwargs)
            except Exception:
                raise
            except BaseException as error:  # noqa: BLE001  # sys.exit() of a controller's ends its flow alone
                told = describe(error, run.hide)
                raise TaskExited(f"retry {controller.name} left with {told}") from None

    controller.on_failure = on_failure
    controller.execute = _storable(controller, "execute", run, at_work)
    controller.revert = _storable(controller, "revert", run, undoing)


def _storable(
    controller: taskflow_retry.Retry,
    verb: str,
    run: Run,
    at_work: Callable[[], AbstractContextManager[None]],
) -> Callable[..., Any]:
    """The method `verb` of `controller`, of which TaskFlow stores what it returns or raises."""
    method = getattr(controller, verb)

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with at_work():
            if verb == "execute":
                run.event.check()  # a round begins: nothing of it is to run once a cancel is requested
            try:
                refuse_missing(kwargs)
                value = method(*args, **kwargs)
                run.encode(value, f"what the {verb} of retry {controller.name} returned")
            except BaseException as error:  # noqa: BLE001  # whatever it is, no more than its text is kept
                told = describe(error, run.hide)
                raise TaskExited(f"retry {controller.name} left with {told}") from None
            return value

    return call
