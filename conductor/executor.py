"""What TaskFlow's engine runs tasks with: a pool of threads of ours."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

from taskflow import task as taskflow_task
from taskflow.engines.action_engine import executor as taskflow_executor
from taskflow.types import failure, notifier

from ebbtide.conductor.enginerun import EngineRun
from ebbtide.conductor.failures import storable_failure
from ebbtide.conductor.undoing import HandedBack, UndoPolicy, UndoTries
from ebbtide.tasks import CancelableTask
from ebbtide.tasks.calling import executed, reverted

__all__ = ["TaskExecutor"]


class TaskExecutor(taskflow_executor.TaskExecutor):  # type: ignore[misc]  # taskflow is untyped
    """Runs bodies in the pool, each with a copy of its arguments: what one task does to a list of
    another's making changes neither what its siblings see nor the result of the job.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        run: EngineRun,
        suspend_requested: threading.Event,
        end_leftovers: Callable[[], None],
        undo_policy: UndoPolicy = UndoPolicy(),  # noqa: B008  # frozen
        before_undo: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = pool
        self._run = run
        self._suspend_requested = suspend_requested
        self._end_leftovers = end_leftovers
        self._undo_tries = UndoTries(run, undo_policy, suspend_requested)
        self._before_undo = before_undo

    def execute_task(
        self, task: CancelableTask, task_uuid: str, arguments: dict[str, Any], progress_callback: Any = None
    ) -> Future[Any]:
        return self._submit(task, self._execute, task, self._given(arguments))

    def revert_task(
        self,
        task: CancelableTask,
        task_uuid: str,
        arguments: dict[str, Any],
        result: Any,
        failures: dict[str, failure.Failure],
        progress_callback: Any = None,
    ) -> Future[Any]:
        self._before_undo()
        if not self._run.at_work:
            # What a task has started and left could write again what is about to be undone.
            self._end_leftovers()
        told = {taskflow_task.REVERT_RESULT: result, taskflow_task.REVERT_FLOW_FAILURES: failures}
        return self._submit(task, self._revert, task, arguments, told)

    def _submit(self, task: CancelableTask, call: Any, *args: Any) -> Future[Any]:
        self._run.submitted(task.name)
        future = self._pool.submit(self._unless_suspended, task, call, *args)
        future.atom = task  # type: ignore[attr-defined]  # where TaskFlow looks for it
        # A suspended engine cancels what no worker has taken: that one comes to no barrier.
        future.add_done_callback(lambda done: self._run.left(task.name) if done.cancelled() else None)
        return future

    def _unless_suspended(self, task: CancelableTask, call: Any, *args: Any) -> tuple[str, Any]:
        """A worker that is free after the drain has begun takes nothing new; whoever goes on begins it.

        So it is with one that is free after a failure which holds the job.
        """
        if self._suspend_requested.is_set() or self._run.holding:
            self._run.left(task.name)
            raise CancelledError
        result: tuple[str, Any] = call(*args)
        return result

    def _execute(self, task: CancelableTask, arguments: dict[str, Any]) -> tuple[str, Any]:
        with self._at_work(task):
            try:
                with self._run.bodies.executing(task.name, self._grace_seconds(task)):
                    self._run.event.check()
                    result = self._executed(task, arguments)
            except Exception as error:  # noqa: BLE001  # whatever a task raises is its failure
                result = storable_failure(error, self._run.redactor)
        return (taskflow_executor.EXECUTED, result)

    def _revert(
        self, task: CancelableTask, arguments: dict[str, Any], told: dict[str, Any]
    ) -> tuple[str, Any]:
        with self._at_work(task):
            try:
                # Given anew for each try: the one before may have changed what it was given.
                result = self._undo_tries.undo(
                    task, lambda: self._reverted(task, self._given(arguments) | told)
                )
            except HandedBack:
                raise
            except Exception as error:  # noqa: BLE001  # as above
                result = storable_failure(error, self._run.redactor)
        return (taskflow_executor.REVERTED, result)

    @contextlib.contextmanager
    def _at_work(self, task: CancelableTask) -> Iterator[None]:
        self._run.taken(task.name)

        def on_progress(event: str, details: dict[str, Any]) -> None:
            self._run.report(task.name, float(details.get("progress", 0.0)), "")

        try:
            # TaskFlow's own update_progress() of a task is heard as well.
            with (
                notifier.register_deregister(
                    task.notifier, taskflow_task.EVENT_UPDATE_PROGRESS, callback=on_progress
                ),
                self._run.capturing(task.name),
            ):
                yield
        finally:
            self._run.left(task.name)

    # What a kind of task may want otherwise.

    def _given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return copy.deepcopy(arguments)

    def _grace_seconds(self, task: CancelableTask) -> float | None:
        return task.grace_seconds

    def _executed(self, task: CancelableTask, arguments: dict[str, Any]) -> Any:
        return executed(task, arguments)

    def _reverted(self, task: CancelableTask, arguments: dict[str, Any]) -> Any:
        return reverted(task, arguments)
