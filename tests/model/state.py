"""What the model knows at one moment: the job's row and records, who holds it, what runs, what was answered.

Times are left out: a lease is over or not. So are numbers that are only ever compared for being equal: in
place of an epoch a runner knows whether it has the job's, in place of a write number a lost answer knows
whether its commit was stored. What is left is finite, and all of it is explored.
"""

from __future__ import annotations

from typing import NamedTuple

from ebbtide.jobs.states import FINAL_STATES, JobState

__all__ = [
    "BEGUN",
    "CANCELLED",
    "COMPLETED",
    "DEAD",
    "DRAIN",
    "FAILED",
    "FINAL",
    "FROZEN",
    "INTERRUPTED",
    "NEVER",
    "NONE",
    "PARKED",
    "PAUSE",
    "PAUSED",
    "PENDING",
    "RAISED",
    "RETURNED",
    "RUNNING",
    "SERVING",
    "STUCK",
    "TO_UNDO",
    "UNDOING",
    "UNDONE",
    "Action",
    "Holder",
    "Runner",
    "Shape",
    "State",
    "first_state",
    "with_task",
]

# The job's state. As plain texts: the hash of an enum's member is computed in Python.
NONE = ""  # not posted yet
PENDING = JobState.PENDING.value
RUNNING = JobState.RUNNING.value
PAUSED = JobState.PAUSED.value
PARKED = JobState.PARKED.value
COMPLETED = JobState.COMPLETED.value
FAILED = JobState.FAILED.value
CANCELLED = JobState.CANCELLED.value
FINAL = frozenset(state.value for state in FINAL_STATES)

# A task, a letter each: in the records, and as its run knows it.
NEVER = "N"  # not begun
BEGUN = "B"  # its body is open, or was when its run ended
RETURNED = "R"
RAISED = "X"
INTERRUPTED = "I"  # begun, and not heard of again
TO_UNDO = "D"  # begun, and the run goes backwards
UNDOING = "U"  # its undo is open, or was when its run ended
UNDONE = "V"
STUCK = "F"  # its undo failed for good

# What a conductor does.
SERVING = "serving"
FROZEN = "frozen"  # its whole tree stands still
DEAD = "dead"  # its keeper lives on, until its runner is dead and its lease released

# Why a run is to stop between tasks.
DRAIN, PAUSE = 1, 2


class Runner(NamedTuple):
    """One run of the job, under one epoch."""

    current: bool  # its epoch is the job's
    back: bool = False  # it has turned round
    event: bool = False  # its cancel event is set
    stop: int = 0
    tasks: str = ""  # what it knows of each; the records follow at its commits
    unknown: tuple[str, int, bool] | tuple[()] = ()  # a commit whose answer was lost: what, of which, stored?


class Holder(NamedTuple):
    """One owner id: a conductor in one life, with at most one runner."""

    name: int
    doing: str = SERVING
    lease: bool = True
    holds: bool = False  # the job's row names it
    given: bool = False  # the job was given to a runner: its death is an interruption
    runner: Runner | None = None

    @property
    def at_work(self) -> bool:
        """Whether it runs the job under the job's epoch, and nothing has stopped it or is about to."""
        if self.runner is None or not self.runner.current or self.runner.unknown[:1] == ("end",):
            return False
        # Whatever thaws after its lease has ended is killed by its keeper at once.
        return self.lease


class State(NamedTuple):
    """Everything. The fields from `effects` on are stored nowhere: the promises are about them."""

    state: str
    attempt: int
    requested: bool  # a cancel request of this attempt is recorded
    pausing: bool
    interruptions: int
    record: str  # what is recorded of each task
    holders: tuple[Holder, ...]
    effects: int  # the tasks whose effects may be in place, as bits
    accepted: bool  # a client was told that the cancel of this attempt is accepted
    posted: bool  # the client was told that the job is stored
    reply: str  # what is on its way to a client, or into the store behind an answer
    expired: bool = False  # the request is no client's: a limit of the job was passed
    held: bool = False  # it is parked since it holds: a task has failed, and nothing was undone

    def holder(self, name: int) -> Holder:
        return next(holder for holder in self.holders if holder.name == name)

    def with_holder(self, changed: Holder) -> State:
        kept = tuple([changed if holder.name == changed.name else holder for holder in self.holders])
        return self._replace(holders=kept)


class Action(NamedTuple):
    """One step. `own`: the system takes it by itself, without a client and without a fault."""

    verb: str
    who: int = 0  # a holder, or 0: a client
    task: int = -1
    edges: tuple[str, ...] = ()
    own: bool = True

    def told(self, names: str) -> str:
        """As a reader is told of it. `names`: of the tasks, a letter each."""
        who = f"conductor {self.who}" if self.who else "client"
        what = self.verb.replace("TASK", names[self.task]) if self.task >= 0 else self.verb
        space = "" if what.startswith("'") else " "
        return f"{who}{space}{what}" + (f"  [{', '.join(self.edges)}]" if self.edges else "")


class Shape(NamedTuple):
    """A flow, and what may happen to its job."""

    name: str
    needs: tuple[tuple[int, ...], ...]  # of each task: those that have to have returned
    alike: tuple[tuple[int, int], ...] = ()  # tasks that may be swapped
    attempts: int = 1
    conductors: int = 2
    lives: int = 2  # owner ids of those that serve or have died, at the same time
    pauses: bool = False
    limits: bool = False  # its time may be over at any moment
    holds: bool = False  # a failure that is its last holds it
    freezes: bool = False
    unknown_commits: bool = False
    late_answers: bool = False  # an answer takes its time; otherwise it follows its commit at once

    @property
    def tasks(self) -> str:
        return "abcdef"[: len(self.needs)]

    def above(self, task: int) -> tuple[int, ...]:
        """Those that need it, directly. Their own undos come first."""
        return tuple(other for other, needs in enumerate(self.needs) if task in needs)


def first_state(shape: Shape) -> State:
    """Nothing is posted; all conductors serve."""
    holders = tuple(Holder(name) for name in range(1, shape.conductors + 1))
    return State(NONE, 1, False, False, 0, NEVER * len(shape.needs), holders, 0, False, False, "")


def with_task(tasks: str, task: int, letter: str) -> str:
    return tasks[:task] + letter + tasks[task + 1 :]
