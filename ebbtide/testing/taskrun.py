"""TaskRun: one task without any service, cancelled or killed on cue, and undone."""

from __future__ import annotations

import contextvars
import copy
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any

from taskflow import task as taskflow_task
from taskflow.types import failure

from ebbtide.tasks import CancelableTask, JobInfo
from ebbtide.tasks.calling import executed, reverted
from ebbtide.tasks.run import How
from ebbtide.testing.clock import FakeClock
from ebbtide.testing.cued import CuedRun
from ebbtide.testing.cues import Cue

__all__ = ["TaskRun", "run_task"]


def run_task(
    task: CancelableTask | Callable[[], CancelableTask],
    arguments: Mapping[str, Any] | None = None,
    *,
    cancel: Cue | None = None,
    kill: Cue | None = None,
    job: JobInfo | None = None,
    clock: FakeClock | None = None,
) -> TaskRun:
    """Make a `TaskRun` and execute it once; see there."""
    run = TaskRun(task, arguments, job=job, clock=clock)
    run.execute(cancel=cancel, kill=kill)
    return run


class TaskRun:
    """Runs one task as a conductor would, in this process and without a store.

        run = run_task(FetchPart(1), {"folder": tmp_path, "lines": 1000}, cancel=at_checkpoint(3))
        assert run.cancelled
        run.revert()
        assert not list(tmp_path.iterdir())

    The task goes through the same wrapper as in a job: its result and its saved data become JSON, its undo is
    shielded and is given the true `result` or `INTERRUPTED`. Nothing is waited for in earnest: ``self.sleep``
    and ``self.cancel.wait`` are by `clock`. Not tested here: what a flow makes of the task, limits of a
    conductor (grace, secrets), and effects of a program that the task has started.

    Args:
        task: the task; or what makes one, such as its class. The runner that comes after a kill has a new
            one: made again, or a copy that shares with the first what the constructor was given.
        arguments: those of execute, by its own names, and whatever else revert takes.
        job: what the task sees as ``self.job``.
        clock: the clock of its sleeps; default: one of its own.
    """

    def __init__(
        self,
        task: CancelableTask | Callable[[], CancelableTask],
        arguments: Mapping[str, Any] | None = None,
        *,
        job: JobInfo | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        if isinstance(task, CancelableTask):
            # Copied before anything is done to it.
            self._task, self._make = task, _copier(copy.copy(task))
        else:
            self._task, self._make = task(), task
        self._values = _by_bound_name(self._task, arguments or {})
        self.clock = clock or FakeClock()
        self._run = CuedRun(self.clock, job or JobInfo(id="test", flow="test"))
        self._task.bind(self._run)
        self._undone = False
        self._going_back = False
        self.error: Exception | None = None  # what execute raised the last time

    @property
    def task(self) -> CancelableTask:
        """The task; after a kill the one that the next runner has made."""
        return self._task

    @property
    def how(self) -> How | None:
        """How the body ended the last time; None: it did not begin."""
        return self._run.how

    @property
    def result(self) -> Any:
        """What execute returned, as others see it: decoded from JSON.

        Raises:
            Exception: what execute raised, if it did not return.
            RuntimeError: it did not begin yet, or was interrupted.
        """
        if self.how is How.RETURNED:
            return self._run.result
        if self.error is not None:
            raise self.error
        raise RuntimeError(f"task {self._task.name} has no result: {self.how or 'it did not begin'}")

    @property
    def cancelled(self) -> bool:
        """Whether a cancel took hold: the body did not begin, was left at a checkpoint, or had returned
        when it was seen.
        """
        return self._run.was_delivered and self.how is not How.RAISED

    @property
    def saved(self) -> Any:
        """The last data given to `checkpoint`, as its undo gets it; None: none."""
        return self._run.saved

    @property
    def reports(self) -> list[tuple[float, str]]:
        """Its progress: each fraction with its message, in order, those of its undo too."""
        return list(self._run.reports)

    @property
    def sent(self) -> list[Any]:
        """The chunks of a StreamTask, in order, those that were sent before a kill too."""
        return list(self._run.sent)

    @property
    def checkpoints(self) -> int:
        """How many checkpoints the body, or else the undo, came to the last time."""
        return self._run.checkpoints

    @property
    def undone(self) -> bool:
        """Whether revert has returned, and nobody died before that was stored."""
        return self._undone

    def cancel(self, reason: str = "cancelled by a test", source: str = "user") -> None:
        """Request the cancel now, from any thread; it is never withdrawn."""
        self._run.event.set(reason, source)

    def execute(self, *, cancel: Cue | None = None, kill: Cue | None = None) -> None:
        """Run the body; returns when it has ended, or was killed. What it raised is in `error`.

        After a kill it may be executed again, as the next runner does: ``self.interrupted`` is true then, and
        ``self.saved`` is what was saved last. After its undo it may be, as the next round does.

        Args:
            cancel: when the cancel is requested; it is delivered as in a job.
            kill: when its runner dies. Nothing of the body goes on then, no ``finally`` either: the daemon
                thread in which it stands is never let on, and keeps the locks that it holds.

        Raises:
            CueMissed: a cue never came.
            RuntimeError: no conductor would begin it: it has ended, or its undo has begun, and is not over.
        """
        if not self._undone and (self._going_back or self.how not in (None, How.INTERRUPTED)):
            name = self._task.name
            raise RuntimeError(f"task {name} does not begin again: it was {self.how}, and is not undone")
        task = self._task
        arguments = self._arguments(task.execute, task.rebind)
        self._run.next_round(undone=self._undone)
        self._undone, self._going_back, self.error = False, False, None
        self._perform(lambda: executed(task, arguments), cancel, kill)

    def revert(self, *, kill: Cue | None = None) -> bool:
        """Undo it; returns whether there was anything to undo. What revert raises goes on to the caller.

        It may be called again, as an undo that failed, or whose runner died, is tried again.

        Args:
            kill: as in `execute`. ``at_return()``: all is undone, and nobody knows.

        Raises:
            CueMissed: the cue never came.
        """
        task = self._task
        stood = self._going_back = self._run.stands(task.name)
        failures = {} if self.error is None else {task.name: _failure_of(self.error)}
        given = {taskflow_task.REVERT_RESULT: None, taskflow_task.REVERT_FLOW_FAILURES: failures}
        arguments = self._arguments(task.revert, task.revert_rebind, given)
        body_error, self.error = self.error, None
        self._perform(lambda: reverted(task, arguments), None, kill)
        undo_error, self.error = self.error, body_error
        if undo_error is not None:
            raise undo_error
        self._undone = self._undone or (stood and not self._run.stands(task.name))
        return stood

    def _arguments(
        self, body: Callable[..., Any], names: Mapping[str, str], given: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        # A copy, as in a job: what a body does to a list changes nothing for its undo.
        arguments = {
            name: copy.deepcopy(self._values[bound]) for name, bound in names.items() if bound in self._values
        }
        arguments |= given or {}
        try:
            inspect.signature(body).bind(**arguments)
        except TypeError as error:
            raise TypeError(f"task {self._task.name}: {body.__name__} is {error}") from None
        return arguments

    def _perform(self, call: Callable[[], object], cancel: Cue | None, kill: Cue | None) -> None:
        run = self._run
        over = threading.Event()

        def perform() -> None:
            run.listen(cancel, kill, over)
            try:
                call()
            except Exception as error:  # noqa: BLE001  # told by the caller, who may be another thread
                self.error = error
            finally:
                over.set()

        if kill is None:
            perform()
        else:
            # In a thread, which is never let on when its time has come: a kill runs no `finally`.
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(perform,), name="to-be-killed", daemon=True).start()
            over.wait()
        if run.died:
            self.error = None
            run.next_runner()
            self._task = self._make()
            self._task.bind(run)
        run.refuse_missed(self._task.name, self.error)


def _copier(task: CancelableTask) -> Callable[[], CancelableTask]:
    return lambda: copy.copy(task)


def _failure_of(error: Exception) -> Any:
    make: Any = failure.Failure.from_exception  # taskflow is untyped
    return make(error)


def _by_bound_name(task: CancelableTask, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The values under the names by which a flow would know them, with those that the task itself injects."""
    values = dict(task.inject or {})
    names = {**task.revert_rebind, **task.rebind}
    for name, value in arguments.items():
        if name not in names:
            taken = ", ".join(names) or "none"
            raise TypeError(f"task {task.name} takes no argument {name!r:.80}; it takes {taken}")
        values[names[name]] = value
    return values
