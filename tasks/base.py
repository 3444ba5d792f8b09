"""CancelableTask, the base of every task."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taskflow import task as taskflow_task

from ebbtide.tasks import payload
from ebbtide.tasks.event import CancelEvent, Cancelled
from ebbtide.tasks.run import DetachedRun, JobInfo, Run
from ebbtide.tasks.wrapping import is_wrapped, undoes_nothing, undoes_nothing_at_all, wrap_class

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
        limit_seconds: how long the body may take; past that it fails with `OutOfTime`, at its next
            checkpoint, and is undone; a retry controller may try again. None: as long as it likes. A body
            that comes to no checkpoint within its grace then costs the job its runner: the job is undone,
            and fails. Set it in the class or, in the constructor, on a task.
        irreversible: says that what the task does cannot be undone. Its `revert`, if any, is run all the
            same; a preview warns of it, and the receipt of a cancel names it.
        revert_retries: how often its undo is tried again after a failure; None: as the option says.
        revert_timeout_seconds: how long a try of its undo may take; None: as the option says.
        interrupted: in execute, whether it began before and never returned (the runner died);
            in revert, whether execute did not return.
        saved: the last data given to `checkpoint`, as decoded from JSON, or None.
    """

    grace_seconds: float | None = None
    limit_seconds: float | None = None
    irreversible: bool = False
    revert_retries: int | None = None
    revert_timeout_seconds: float | None = None

    interrupted: bool = False
    saved: Any = None
    # Named apart from whatever a subclass may call its own.
    __run: Run | None = None
    __event: CancelEvent | None = None  # of the body, while it runs

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _RELIED_ON:
            if inspect.getattr_static(cls, name) is not vars(CancelableTask)[name]:
                raise TypeError(
                    f"{cls.__module__}.{cls.__qualname__}.{name} hides CancelableTask.{name}, "
                    "which running and undoing rely on: give it another name"
                )
        for name in ("grace_seconds", "revert_timeout_seconds"):
            if not is_grace(getattr(cls, name)):
                raise TypeError(
                    f"{cls.__module__}.{cls.__qualname__}.{name} is {getattr(cls, name)!r:.40}: "
                    "give a number of seconds, 0 or more, or None"
                )
        if not _is_count(cls.revert_retries):
            raise TypeError(
                f"{cls.__module__}.{cls.__qualname__}.revert_retries is {cls.revert_retries!r:.40}: "
                "give a whole number, 0 or more, or None"
            )
        if not isinstance(cls.irreversible, bool):
            raise TypeError(
                f"{cls.__module__}.{cls.__qualname__}.irreversible is {cls.irreversible!r:.40}: "
                "give True or False"
            )
        if cls.limit_seconds is not None and not (is_grace(cls.limit_seconds) and cls.limit_seconds > 0):
            raise TypeError(
                f"{cls.__module__}.{cls.__qualname__}.limit_seconds is {cls.limit_seconds!r:.40}: "
                "give a number of seconds above 0, or None"
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

    @property
    def no_undo(self) -> str | None:
        """Why what it does is not undone: "irreversible", or "none" for want of a revert; None: it is."""
        if self.irreversible:
            return "irreversible"
        return "none" if undoes_nothing_at_all(type(self)) else None

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
        """The cancel event: the job's, or while a body with a limit runs, one that is set by that as well."""
        return self.__event or self.run.event

    @contextlib.contextmanager
    def heeding(self, event: CancelEvent) -> Iterator[None]:
        """While this lasts `event` is what the body looks at; whoever runs the body says so."""
        self.__event = event
        try:
            yield
        finally:
            self.__event = None

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
        event = self.__event or self.run.event
        if event.requested:
            self.__deliver(event)

    def sleep(self, seconds: float) -> None:
        """Wait `seconds`, or until a cancel is requested; raises `Cancelled` then."""
        event = self.cancel
        if event.wait(seconds):
            self.__deliver(event)

    def report(self, fraction: float, message: str = "") -> None:
        """Tell how far the work is, 0 to 1. Best effort and cheap: stored at most four times a second."""
        self.run.report(self.name, min(1.0, max(0.0, float(fraction))), message)

    def post_child(self, flow: str, params: Mapping[str, Any] | None = None, **wishes: Any) -> str:
        """Post a job that belongs to this one; returns its id once it is stored.

        It is cancelled with this job. This job's undo, of a failure too, begins once all its children have
        ended. A child that has completed stays: let the revert see to what it did. A task that is run again
        is given the children that it has posted before, in the same order. Do not wait here for the end of a
        child: it may need the runner that this task has.

        Args:
            wishes: as for `Poster.post`: labels, priority, delay_seconds or at, exclusive, on_busy, key; and
                ``detached=True`` for a job that is only noted as posted by this one.

        Raises:
            Cancelled: this job is being cancelled.
            EbbtideError: see `Poster.post`.
        """
        return self.run.post(self.name, flow, params, wishes)

    def shield(self) -> contextlib.AbstractContextManager[None]:
        """A stretch in which nothing is delivered: for a step that must not be cut in two."""
        return self.run.event.shield()

    def __deliver(self, event: CancelEvent) -> None:
        try:
            event.check()
        except Cancelled:
            if self.run.event.requested:
                self.run.delivered(self.name)
            raise

    def __getstate__(self) -> dict[str, Any]:
        # A run holds locks and a database: it never travels with a task.
        return {name: value for name, value in self.__dict__.items() if name not in (_RUN, _EVENT)}


_RUN, _EVENT = "_CancelableTask__run", "_CancelableTask__event"
_RELIED_ON = (
    "bind",
    "bound",
    "cancel",
    "checkpoint",
    "heeding",
    "job",
    "no_undo",
    "post_child",
    "report",
    "run",
    "shield",
    "sleep",
)


def is_grace(value: object) -> bool:
    """Whether a task may have that as its `grace_seconds`."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return 0 <= value < math.inf
    return value is None


def _is_count(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)


def _by_name(execute: Any, rebind: Sequence[str]) -> dict[str, str]:
    """What TaskFlow makes of a `rebind` by position: what is left over keeps its name."""
    wanted = [
        name
        for name, parameter in inspect.signature(execute).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    return dict(zip(wanted, rebind, strict=False)) | {name: name for name in rebind[len(wanted) :]}


wrap_class(CancelableTask)
