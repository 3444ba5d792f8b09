"""CancelableTask, the base of every task."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from taskflow import task as taskflow_task

from ebbtide.tasks import payload
from ebbtide.tasks.event import CancelEvent, Cancelled
from ebbtide.tasks.run import DetachedRun, JobInfo, Run
from ebbtide.tasks.wrapping import is_wrapped, undoes_nothing, wrap, wrap_class

__all__ = ["CancelableTask", "is_grace"]


class _OwnRun(DetachedRun):
    """What a task is given that is used before anybody binds it."""


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
        grace_seconds: how long the body may take to reach a checkpoint once a cancel is requested;
            None: as the option of that name says. Of tasks that run side by side the largest counts.
            Set it in the class or, in the constructor, on a task.
            After that its runner is ended with all that it has started, and the task undone.
        interrupted: in execute, whether it began before and never returned (the runner died);
            in revert, whether execute did not return.
        saved: the last data given to `checkpoint`, as decoded from JSON, or None.
    """

    grace_seconds: float | None = None

    interrupted: bool = False
    saved: Any = None
    # Named apart from whatever a subclass may call its own.
    __run: Run | None = None
    # How the bodies of this kind of task are wrapped.
    _ebbtide_wrap: ClassVar[Any] = staticmethod(wrap)
    _ebbtide_kind: ClassVar[type[CancelableTask]]

    def __init_subclass__(cls, *, kind: bool = False, **kwargs: Any) -> None:
        """`kind`: a base of tasks, such as AsyncTask, that may give what it inherits another form."""
        super().__init_subclass__(**kwargs)
        if kind:
            cls._ebbtide_kind = cls
        for name in _RELIED_ON:
            if inspect.getattr_static(cls, name) is not inspect.getattr_static(cls._ebbtide_kind, name):
                raise TypeError(
                    f"{cls.__module__}.{cls.__qualname__}.{name} hides {cls._ebbtide_kind.__name__}.{name}, "
                    "which running and undoing rely on: give it another name"
                )
        if not is_grace(cls.grace_seconds):
            raise TypeError(
                f"{cls.__module__}.{cls.__qualname__}.grace_seconds is {cls.grace_seconds!r:.40}: "
                "give a number of seconds, 0 or more, or None"
            )
        wrap_class(cls)

    def __init__(
        self,
        name: str | None = None,
        provides: Any = None,
        requires: Any = None,
        auto_extract: bool = True,
        rebind: Mapping[str, str] | Sequence[str] | None = None,
        inject: Mapping[str, Any] | None = None,
        ignore_list: Any = None,
        revert_rebind: Mapping[str, str] | Sequence[str] | None = None,
        revert_requires: Any = None,
    ) -> None:
        """All arguments are TaskFlow's own. `rebind` is that of revert too, by the names of execute."""
        if isinstance(rebind, (list, tuple)) and not revert_rebind:
            # TaskFlow would count the arguments of revert, which may name fewer, and give it wrong ones.
            rebind = _by_name(self.execute, rebind)
        super().__init__(
            name,
            provides,
            requires,
            auto_extract,
            rebind,
            inject,
            ignore_list,
            revert_rebind,
            revert_requires,
        )

    @undoes_nothing
    def revert(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing to undo, unless a subclass says what."""

    def bind(self, run: Run) -> None:
        """Tie this task to the run of one job; the conductor does so before it starts an engine.

        Raises:
            RuntimeError: it is bound already: a flow is built anew for each run, since a shared
                one would share its cancel event with another job. Or its job or event was asked for
                before there was one.
            TypeError: execute or revert was replaced after the class was created.
        """
        if isinstance(self.__run, _OwnRun):
            raise RuntimeError(
                f"task {self.name} was used before it belonged to a run: "
                "ask for job, cancel and the like in execute and revert only"
            )
        if self.__run is not None:
            raise RuntimeError(f"task {self.name} belongs to another run: build the flow anew for each job")
        for verb in ("execute", "revert"):
            if verb in vars(self) or not is_wrapped(getattr(type(self), verb)):
                raise TypeError(f"{type(self).__qualname__}.{verb} was replaced after its class was created")
        self.__run = run

    @property
    def run(self) -> Run:
        """The run this task belongs to; a detached one until it is bound."""
        run = self.__run
        if run is None:
            # One step: two threads that ask at once have to be given the same run.
            run = self.__dict__.setdefault(_RUN, _OwnRun())
        return run

    @property
    def bound(self) -> bool:
        """Whether the task belongs to a run already."""
        return self.__run is not None

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
            PayloadError: `data` is not JSON, or too large.
        """
        if data is not None:
            text = self.run.encode(data, f"the checkpoint data of {self.name}")
            self.run.save(self.name, text)
            self.saved = payload.decode(text)
        event = self.run.event
        if event.requested:
            self.__deliver(event)

    def sleep(self, seconds: float) -> None:
        """Wait `seconds`, or until a cancel is requested; raises `Cancelled` then."""
        event = self.run.event
        if event.wait(seconds):
            self.__deliver(event)

    def report(self, fraction: float, message: str = "") -> None:
        """Tell how far the work is, 0 to 1. Best effort and cheap: stored at most four times a second."""
        self.run.report(self.name, min(1.0, max(0.0, float(fraction))), message)

    def shield(self) -> contextlib.AbstractContextManager[None]:
        """A stretch in which nothing is delivered: for a step that must not be cut in two."""
        return self.run.event.shield()

    def __deliver(self, event: CancelEvent) -> None:
        try:
            event.check()
        except Cancelled:
            self.run.delivered(self.name)
            raise

    def __getstate__(self) -> dict[str, Any]:
        # A run holds locks and a database: it never travels with a task.
        return {name: value for name, value in self.__dict__.items() if name != _RUN}


_RUN = "_CancelableTask__run"
_RELIED_ON = ("bind", "bound", "cancel", "checkpoint", "job", "report", "run", "shield", "sleep")


def is_grace(value: object) -> bool:
    """Whether a task may have that as its `grace_seconds`."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return 0 <= value < math.inf
    return value is None


def _by_name(execute: Any, rebind: Sequence[str]) -> dict[str, str]:
    """What TaskFlow makes of a `rebind` by position: what is left over keeps its name."""
    wanted = [
        name
        for name, parameter in inspect.signature(execute).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    return dict(zip(wanted, rebind, strict=False)) | {name: name for name in rebind[len(wanted) :]}


CancelableTask._ebbtide_kind = CancelableTask
wrap_class(CancelableTask)
