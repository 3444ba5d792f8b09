"""Which cases prove a flow: every point of its runs, with all that may be done there."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ebbtide.testing.proving.plans import LAST_COMMIT, Act, Address, Deed, Plan, Run

__all__ = [
    "CANCELLED",
    "DOUBLE",
    "KILLED",
    "KILLED_THEN_CANCELLED",
    "STALE",
    "UNCLAIMED",
    "UNHEARD",
    "Ground",
    "sample",
]

_T = TypeVar("_T")

# The kinds of cases, as the report tells them.
KILLED = "killed"
KILLED_THEN_CANCELLED = "killed, then cancelled"
CANCELLED = "cancelled"
UNHEARD = "cancelled unheard"
UNCLAIMED = "cancelled unclaimed"
DOUBLE = "killed twice"
STALE = "stale"

# Within a transaction: a cancel waits for its end, as one at the next point does.
_IN_A_TRANSACTION = "store.committing"
# Where an unheard cancel may be missed: what comes next is a barrier, or the outcome.
_UNHEARD_AT = ("task.beginning", "task.ended", "outcome.committing")
# Where a holder may sleep: all that it does next is to store something, or it comes to a barrier first. What
# a body does would land late, which is no promise of ours.
_STALE_AT = (
    "task.beginning",
    "task.ended",
    "undo.beginning",
    "undo.ended",
    "journal.committing",
    "outcome.committing",
)


@dataclass(frozen=True)
class Ground:
    """The points that there are.

    Attributes:
        forwards: of a run that nobody disturbs; of one that would complete up to its last commit.
        completing: of that run, beyond its last commit; none where no job may complete.
        backwards: of a run that is cancelled at `turn`, from there on.
        turn: None: there is no such run.
        finish: what is done to every holder that would complete its job, where none may.
    """

    forwards: Sequence[Address]
    completing: Sequence[Address]
    backwards: Sequence[Address]
    turn: Address | None
    finish: tuple[Act, ...] = ()

    def cases(self) -> Iterator[tuple[Address, list[Plan]]]:
        """For each point what is done there."""
        for point, may_sleep in _with_beds((*self.forwards, *self.completing)):
            yield point, list(self._at(point, may_sleep))
        for point, may_sleep in _with_beds(self.backwards):
            yield point, list(self._on_the_way_back(point, may_sleep))

    def _at(self, point: Address, may_sleep: bool) -> Iterator[Plan]:
        kill = self._run(Act(point, Deed.KILL))
        yield Plan(KILLED, (kill, Run(self.finish)))
        yield Plan(KILLED_THEN_CANCELLED, (kill, Run(cancel_first=True)))
        if point.name != _IN_A_TRANSACTION:
            yield Plan(CANCELLED, (self._run(Act(point, Deed.CANCEL)),))
        if point.name in _UNHEARD_AT:
            yield Plan(UNHEARD, (self._run(Act(point, Deed.CANCEL_UNHEARD)),))
        if may_sleep:
            yield Plan(STALE, (self._run(Act(point, Deed.SLEEP)), Run(self.finish)), threads=1)

    def _on_the_way_back(self, point: Address, may_sleep: bool) -> Iterator[Plan]:
        assert self.turn is not None
        turn = Act(self.turn, Deed.CANCEL)
        yield Plan(KILLED, (Run((turn, Act(point, Deed.KILL))), Run(self.finish)))
        if may_sleep:
            yield Plan(STALE, (Run((turn, Act(point, Deed.SLEEP))), Run(self.finish)), threads=1)

    def _run(self, act: Act) -> Run:
        """A holder to which that is done; should it not come there, it must not complete its job either."""
        others = () if act.address == LAST_COMMIT else self.finish
        return Run((act, *others))

    def twice(self, plan: Plan, points: Sequence[Address], after: int) -> Iterator[Plan]:
        """For a case that went well: the cases in which the holder that ended its job is killed, too.

        Args:
            points: what that holder came to.
            after: how many of them came before the last deed.
        """
        *firsts, last = plan.runs
        if plan.kind not in (KILLED, KILLED_THEN_CANCELLED, CANCELLED):
            return
        for point in points[after:]:
            kept = tuple(act for act in last.acts if act.address != point)
            deadly = replace(last, acts=(*kept, Act(point, Deed.KILL)))
            yield Plan(DOUBLE, (*firsts, deadly, Run(self.finish)))


def _with_beds(points: Sequence[Address]) -> Iterator[tuple[Address, bool]]:
    """Each point, and whether its holder may sleep there: nobody is in a body then."""
    bodies = 0
    for point in points:
        bodies -= point.name in ("task.ended", "undo.ended")
        yield point, point.name in _STALE_AT and bodies <= 0
        bodies += point.name in ("task.begun", "undo.begun")


def sample(given: Sequence[_T], count: int | None, seed: int) -> list[_T]:
    """As many of them as are wanted, chosen by chance, in their order; None: all."""
    if count is None or len(given) <= count:
        return list(given)
    chosen = random.Random(seed).sample(range(len(given)), count)
    return [given[number] for number in sorted(chosen)]
