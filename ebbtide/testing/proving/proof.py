"""Proof: what was tried on a flow, and what was found."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ebbtide.testing.proving.verdicts import TaskVerdict, Verdict

__all__ = ["Covered", "Proof"]


@dataclass(frozen=True)
class Covered:
    """One point at which something was done: what, and how the job ended then."""

    point: str
    ends: dict[str, str]

    def __str__(self) -> str:
        return f"{self.point}: {'; '.join(f'{what}: {end}' for what, end in self.ends.items())}"


@dataclass
class Proof:
    """What a proof has found.

    Attributes:
        flow: name@version.
        seed: of what was chosen by chance.
        points: where a holder was killed or a cancel came, in order; `points_known`: how many there are.
        crashes: how often a holder was killed; `cancels`: how often a job was cancelled while it was alive;
            `double_crashes`: how often two holders of one job were killed; `stale`: how often a holder slept
            while another one took its job; `ended`: how often one was ended since an undo hung.
        not_reached: what could not be done, since none of three runs came there. Not covered.
        completes: whether jobs completed; False: each was cancelled at its last commit and undone, since
            nothing could have put the world back.
        broken: promises of Ebbtide that did not hold, with the case.
        tasks: the verdict on the undo of each task.
        unexplained: differences of the world that are the doing of no single task.
        stopped: why the proof ended early; None: it did not.
    """

    flow: str
    seed: int
    points: list[Covered] = field(default_factory=list)
    points_known: int = 1
    crashes: int = 0
    cancels: int = 0
    double_crashes: int = 0
    stale: int = 0
    ended: int = 0
    not_reached: list[str] = field(default_factory=list)
    completes: bool = False
    broken: list[str] = field(default_factory=list)
    tasks: list[TaskVerdict] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    stopped: str | None = None

    @property
    def violations(self) -> int:
        """How many promises did not hold, and how many undos are not what they should be."""
        bad = sum(task.verdict.bad for task in self.tasks)
        return len(self.broken) + len(self.unexplained) + bad + (self.stopped is not None)

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.violations

    @property
    def summary(self) -> str:
        """One line."""
        return (
            f"{self.flow}: {len(self.points)} of {self.points_known} points, {self.crashes} crashes, "
            f"{self.cancels} cancels, {self.double_crashes} double crashes, {self.stale} stale holders; "
            f"{len(self.not_reached)} not reached; {self.violations} violations (seed {self.seed})"
        )

    def report(self) -> str:
        """The verdicts, what was broken, and the summary."""
        return "\n".join([*self._lines(), self.summary])

    def _lines(self) -> Iterator[str]:
        width = max((len(task.task) for task in self.tasks), default=0)
        for task in self.tasks:
            yield f"{task.task:{width}}  {task.verdict}"
            yield from (f"{'':{width}}    {words}" for words in task.found)
        yield from (f"left by nobody in particular: {words}" for words in self.unexplained)
        yield from (f"broken: {words}" for words in self.broken)
        if self.stopped is not None:
            yield f"the proof ended early: {self.stopped}"

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return dataclasses.asdict(self) | {"violations": self.violations}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Proof:
        """What `as_dict` gave."""
        values = {name: value for name, value in values.items() if name != "violations"}
        points = [Covered(**each) for each in values["points"]]
        tasks = [
            TaskVerdict(each["task"], Verdict(each["verdict"]), tuple(each["found"]))
            for each in values["tasks"]
        ]
        return cls(**(values | {"points": points, "tasks": tasks}))
