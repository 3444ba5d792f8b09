"""CancelableTask, the base of every task."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

from taskflow import task as taskflow_task

from ebbtide.tasks import payload
from ebbtide.tasks.event import CancelEvent, Cancelled
from ebbtide.tasks.run import DetachedRun, JobInfo, Run
from ebbtide.tasks.wrapping import is_wrapped, wrap_class

__all__ = ["CancelableTask"]


class CancelableTask(taskflow_task.Task):  # type: ignore[misc]  # taskflow is untyped
    """A unit of work that can be stopped at its checkpoints and undone.

    Subclasses write ``execute(self, ...)`` and, beside it, ``revert(self, result, ...)``.
    Whenever a subclass is created both are wrapped: `execute` looks at the job's cancel event
    before its body begins and after it has returned; `revert` is shielded, is called for every
    task that began (also one that was interrupted half-way) and for no other, and is given the
    true result or `INTERRUPTED`. After a crash either may be called again: write both so that
    they can be repeated, with effects keyed by ``self.job.id``.

    Results must be JSON. Tasks are TaskFlow tasks: arguments are matched by name with what other
    tasks provide and with the job's parameters.

    Attributes:
        grace_seconds: how long the body may take to reach a checkpoint once a cancel is
            requested; None: the conductor's option.
        interrupted: in execute, whether it began before and never returned (the runner died);
            in revert, whether execute did not return.
        saved: the last data given to `checkpoint`, as decoded from JSON, or None.
    """

    grace_seconds: ClassVar[float | None] = None

    interrupted: bool = False
    saved: Any = None
    _run: Run | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        wrap_class(cls)

    def revert(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing to undo, unless a subclass says what."""

    def bind(self, run: Run) -> None:
        """Tie this task to the run of one job; the conductor does so before it starts an engine.

        Raises:
            RuntimeError: it is bound already: a flow is built anew for each run, since a shared
                one would share its cancel event with another job.
            TypeError: execute or revert was replaced after the class was created.
        """
        if self._run is not None:
            raise RuntimeError(f"task {self.name} belongs to another run: build the flow anew for each job")
        for verb in ("execute", "revert"):
            if not is_wrapped(getattr(type(self), verb)):
                raise TypeError(f"{type(self).__qualname__}.{verb} was replaced after its class was created")
        self._run = run

    @property
    def run(self) -> Run:
        """The run this task belongs to; a detached one until it is bound."""
        if self._run is None:
            self._run = DetachedRun()
        return self._run

    @property
    def bound(self) -> bool:
        """Whether the task belongs to a run already."""
        return self._run is not None

    @property
    def cancel(self) -> CancelEvent:
        """The job's cancel event."""
        return self.run.event

    @property
    def job(self) -> JobInfo:
        """Which job and attempt this is, and its fence token."""
        return self.run.job

    def checkpoint(self, data: Any = None) -> None:
        """Look at the cancel event; with `data`, save that durably first.

        Saved data is there as ``self.saved`` for the undo, and for the next execute should the
        runner die. Without data the call costs well below a microsecond's worth of work: put it
        into every loop.

        Raises:
            Cancelled: the job is being cancelled, and this thread is not shielded.
            PayloadError: `data` is not JSON.
        """
        if data is not None:
            text = payload.encode(data, f"the checkpoint data of {self.name}")
            self.run.save(self.name, text)
            self.saved = payload.decode(text)
        event = self.run.event
        if event.requested:
            self._deliver(event)

    def sleep(self, seconds: float) -> None:
        """Wait `seconds`, or until a cancel is requested; raises `Cancelled` then."""
        event = self.run.event
        if event.wait(seconds):
            self._deliver(event)

    def report(self, fraction: float, message: str = "") -> None:
        """Tell how far the work is, 0 to 1. Best effort and cheap: stored at most four times a second."""
        self.run.report(self.name, min(1.0, max(0.0, float(fraction))), message)

    def shield(self) -> contextlib.AbstractContextManager[None]:
        """A stretch in which nothing is delivered: for a step that must not be cut in two."""
        return self.run.event.shield()

    def _deliver(self, event: CancelEvent) -> None:
        try:
            event.check()
        except Cancelled:
            self.run.delivered(self.name)
            raise

    def __getstate__(self) -> dict[str, Any]:
        # A run holds locks and a database: it never travels with a task.
        return {name: value for name, value in self.__dict__.items() if name != "_run"}


wrap_class(CancelableTask)
