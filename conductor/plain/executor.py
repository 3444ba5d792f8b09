"""Runs cancelable tasks and any others of TaskFlow's side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ebbtide.conductor.enginerun import EngineRun
from ebbtide.conductor.executor import TaskExecutor
from ebbtide.tasks import CancelableTask
from ebbtide.tasks.run import How
from ebbtide.tasks.wrapping import TaskExited, describe

__all__ = ["PlainExecutor"]


class PlainExecutor(TaskExecutor):
    """Its threads are there while the engine runs, as those of TaskFlow's own are.

    Arguments are passed as they are: a plain program may give its tasks what cannot be copied.
    """

    def __init__(
        self,
        workers: int,
        run: EngineRun,
        suspend_requested: threading.Event,
        end_leftovers: Callable[[], None],
    ) -> None:
        self._workers = workers
        super().__init__(_pool(workers), run, suspend_requested, end_leftovers)

    def start(self) -> None:
        self._pool = _pool(self._workers)

    def stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return arguments.copy()

    def _grace_seconds(self, task: Any) -> float | None:
        return None

    def _executed(self, task: Any, arguments: dict[str, Any]) -> Any:
        if isinstance(task, CancelableTask):
            return super()._executed(task, arguments)
        self._run.begin(task.name)
        try:
            return super()._executed(task, arguments)
        except Exception as error:
            self._run.stopped(task.name, How.RAISED, describe(error))
            raise
        except BaseException as error:  # noqa: BLE001  # it goes on as a TaskExited, which TaskFlow undoes
            told = describe(error)
            self._run.stopped(task.name, How.RAISED, told)
            raise TaskExited(f"{task.name} left with {told}") from None

    def _reverted(self, task: Any, arguments: dict[str, Any]) -> Any:
        if isinstance(task, CancelableTask):
            return super()._reverted(task, arguments)
        if self._run.begin_undo(task.name) is None:
            return None
        try:
            with self._run.event.shield():
                result = super()._reverted(task, arguments)
        except Exception as error:
            self._run.end_undo(task.name, describe(error))
            raise
        except BaseException as error:  # noqa: BLE001  # as above
            told = describe(error)
            self._run.end_undo(task.name, told)
            raise TaskExited(f"the undo of {task.name} left with {told}") from None
        self._run.end_undo(task.name, None)
        return result


def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="ebbtide-task")
