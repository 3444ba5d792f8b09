"""Making TaskFlow's retry controllers heed a cancel request."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from taskflow import retry as taskflow_retry

from ebbtide.tasks import payload
from ebbtide.tasks.event import CancelEvent
from ebbtide.tasks.wrapping import TaskExited, describe

__all__ = ["bind_retry"]


def bind_retry(
    controller: taskflow_retry.Retry,
    event: CancelEvent,
    *,
    settled: Callable[[], bool] = lambda: False,
    encode: Callable[[Any, str], str] = payload.encode,
) -> None:
    """Let `controller` answer REVERT_ALL once a cancel is requested, or `settled`, whatever it would say.

    To a stock controller `Cancelled` is one more failure: ``Times(200)`` ran 199 more rounds.
    Every controller, of whatever class, is asked through `on_failure` alone, in the engine's
    process, so replacing that on the instance covers all of them. What it provides is checked like
    the result of a task: stores differ in what they refuse, and a refused commit ends no round.

    Args:
        settled: whether it is settled already that all is undone; a controller is not asked then, which
            may be the one whose own failure settled it.
        encode: raises PayloadError for a value that may not be stored.

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
        if event.requested or settled():
            return taskflow_retry.REVERT_ALL
        try:
            return answer(*args, **kwargs)
        except Exception:
            raise
        except BaseException as error:  # noqa: BLE001  # sys.exit() of a controller's ends its flow alone
            raise TaskExited(f"retry {controller.name} left with {describe(error)}") from None

    controller.on_failure = on_failure
    for verb in ("execute", "revert"):
        setattr(controller, verb, _storable(controller, verb, encode))


def _storable(
    controller: taskflow_retry.Retry, verb: str, encode: Callable[[Any, str], str]
) -> Callable[..., Any]:
    """The method `verb` of `controller`; it raises when what it returns may not be stored."""
    method = getattr(controller, verb)

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            value = method(*args, **kwargs)
        except Exception:
            raise
        except BaseException as error:  # noqa: BLE001  # as above
            raise TaskExited(f"retry {controller.name} left with {describe(error)}") from None
        encode(value, f"what the {verb} of retry {controller.name} returned")
        return value

    return call
