"""What a conductor asks of the place where its jobs run, whatever that is, and what it hears from there."""

from __future__ import annotations

import abc
import contextlib
import select
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ebbtide.jobs.claims import Claim, Request

__all__ = ["AtRest", "Ended", "News", "Overdue", "Runners", "Suspending", "listening"]


@dataclass(frozen=True)
class Ended:
    """A run is over: by an edge; or, with `edge` None, its runner is dead and nothing of it lives.

    With `ended_in` the stop ladder has had it ended, which took so many seconds from SIGKILL on. `hung` are
    the undos for which that was done, each with what is to be told of it.
    """

    claim: Claim
    edge: str | None
    cause: str = ""
    ended_in: float | None = None
    hung: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Overdue:
    """A run did not come to rest within its grace, `at` unix seconds."""

    claim: Claim
    at: float
    grace_seconds: float


@dataclass(frozen=True)
class AtRest:
    """A run that was overdue executes nothing any more: it undoes."""

    claim: Claim


@dataclass(frozen=True)
class Suspending:
    """A run has heard that it is to stop between tasks. What is being begun just then still begins."""

    claim: Claim


News = Ended | Overdue | AtRest | Suspending


class Runners(abc.ABC):
    """A fixed number of places to run jobs. Used by one thread, the conductor's.

    A run that is cancelled and does not come to rest is brought up the stop ladder here, whether its
    user looks or not: it may be waiting for a store that is away.
    """

    keys: frozenset[str]  # name@version of the flows that can be run here

    @property
    @abc.abstractmethod
    def idle(self) -> int:
        """How many more jobs may be given to `run` now."""

    @abc.abstractmethod
    def run(self, claim: Claim) -> bool:
        """Start running a claimed job. False: no place is idle any more; the job was begun nowhere."""

    @abc.abstractmethod
    def cancel(self, request: Request) -> bool:
        """Forward a request to the run of its job. False: no such run here, or it cannot be reached.

        In either case a run that is here has from now on its grace to come to rest; unless it was claimed
        with the request, since then it executes nothing. Repeating changes nothing.
        """

    @abc.abstractmethod
    def suspend(self) -> None:
        """Let every run stop between tasks and release its job; that it has heard of it `poll` tells."""

    @abc.abstractmethod
    def pause(self, job_id: str, epoch: int) -> None:
        """Let the run of that claim stop between tasks, to be paused. Repeating changes nothing."""

    @abc.abstractmethod
    def hold_until(self, boot_seconds: float) -> None:
        """The runs may go on until then. Unless told again in time, runner processes are ended at that
        moment, even while the calling process is stopped or hangs. May be called from any thread.
        """

    @abc.abstractmethod
    def poll(self, seconds: float, *bells: int) -> Sequence[News]:
        """Wait at most `seconds` for news of the runs.

        An idle conductor does little else, all day long: what has nothing to tell is to cost next to nothing.

        Args:
            bells: file descriptors that end the wait as well, once one can be read.
        """

    @abc.abstractmethod
    def end_all(self) -> None:
        """End every run where it stands, without undo; each is told by `poll` as dead.

        Threads cannot be ended: there each is told to leave at its next checkpoint.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End every run and whatever runs them, and wait until all has ended. May be called once."""


@contextlib.contextmanager
def listening(waiting: select.poll, bells: Sequence[int]) -> Iterator[None]:
    """Listen to `bells` as well. Not for longer: their numbers may be other files' the next time."""
    for bell in bells:
        waiting.register(bell, select.POLLIN)
    try:
        yield
    finally:
        for bell in bells:
            waiting.unregister(bell)
