"""What a proof does to one job: where in its runs which act is done."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["LAST_COMMIT", "Act", "Address", "Deed", "Plan", "Run"]


@dataclass(frozen=True, order=True)
class Address:
    """A fault point as one run comes to it: its name, the task that it is about, and at which time.

    Of commits, which are about no task, only the number tells them apart. Where tasks run side by side, or
    report their progress, that number is another one's in the next run.
    """

    name: str
    task: str = ""
    number: int = 1

    def __str__(self) -> str:
        times = f" #{self.number}" if self.number > 1 or not self.task else ""
        return f"{self.name}{' ' if self.task else ''}{self.task}{times}"


#: Where a run is about to leave its job for the first time: all that it had to do is done.
LAST_COMMIT = Address("outcome.committing")


class Deed(enum.StrEnum):
    """What is done at an address."""

    KILL = "kill"
    SLEEP = "sleep"  # until somebody else has ended the job: then it wakes up and goes on
    CANCEL = "cancel"
    CANCEL_UNHEARD = "cancel unheard"  # every signal is lost: the sweep finds the request, or a commit


@dataclass(frozen=True)
class Act:
    """A deed and where it is done. A `standing` one is there in case that the run comes so far."""

    address: Address
    deed: Deed
    standing: bool = False


@dataclass(frozen=True)
class Run:
    """One holder of the job: what is done to it on its way. `cancel_first`: a cancel comes before that."""

    acts: tuple[Act, ...] = ()
    cancel_first: bool = False


@dataclass(frozen=True)
class Plan:
    """One case of a proof: a job and its holders, one after the other. The last one is left alone.

    Attributes:
        kind: a word for people, as the report counts it.
        threads: how many tasks may run at once; 0: as the proof says.
    """

    kind: str
    runs: tuple[Run, ...]
    threads: int = 0

    def __str__(self) -> str:
        told = []
        for run in self.runs:
            told += ["cancel"] if run.cancel_first else []
            told += [f"{act.deed} at {act.address}" for act in run.acts if not act.standing]
        return ", then ".join(told) or "left alone"
