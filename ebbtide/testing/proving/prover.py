"""The order of a proof: runs that nobody disturbs, every point of them, then what is chosen by chance."""

from __future__ import annotations

from collections.abc import Callable

from ebbtide.testing.proving.bench import Bench, Result
from ebbtide.testing.proving.cases import (
    CANCELLED,
    DOUBLE,
    STALE,
    UNCLAIMED,
    UNHEARD,
    Ground,
    sample,
)
from ebbtide.testing.proving.plans import LAST_COMMIT, Act, Address, Deed, Plan, Run
from ebbtide.testing.proving.proof import Covered, Proof
from ebbtide.testing.proving.verdicts import Seen, verdicts

__all__ = ["Prover", "Stopped"]

_Case = tuple[Address, list[Plan]]

_ALWAYS = ("task.ended", "undo.ended")
_CANCEL_AT_THE_END = Act(LAST_COMMIT, Deed.CANCEL, standing=True)
# Where tasks run side by side, the next run may come to a point that this one did not come to.
_TRIES = 3
_NOTHING_CHANGES = "a job that completes changes nothing of what --same names: name what its tasks change"


class Stopped(Exception):
    """The proof cannot go on; the message says why."""


class Prover:
    """Proves one flow.

    Args:
        tasks: of the flow, in order.
        completes: whether a job may complete: what it leaves is put back.
        points: how many points to try; None: every one.
        doubles: how many double crashes to try.
        tell: called with each point that is covered.
    """

    def __init__(
        self,
        bench: Bench,
        flow: str,
        tasks: list[str],
        *,
        completes: bool,
        looked_at: bool,
        points: int | None,
        doubles: int,
        seed: int,
        tell: Callable[[Covered], None],
    ) -> None:
        self._bench = bench
        self._tasks = tasks
        self._looked_at = looked_at
        self._points = points
        self._doubles = doubles
        self._tell = tell
        self._seen: list[Seen] = []
        self._twice: list[Plan] = []
        self.proof = Proof(flow, seed, completes=completes)

    def prove(self) -> Proof:
        """Try all there is to try."""
        proof = self.proof
        try:
            self._cover("before the claim", [Plan(UNCLAIMED, (Run(cancel_first=True),))])
            self._first_look()
            self._ground = self._explore()
            cases = list(self._ground.cases())
            proof.points_known = len(cases) + 1
            for point, plans in self._chosen(cases):
                self._cover(str(point), plans)
            for plan in sample(self._twice, self._doubles, proof.seed):
                self._try(plan)
        except Stopped as error:
            proof.stopped = str(error)
        proof.tasks, proof.unexplained = verdicts(self._tasks, self._seen, looked_at=self._looked_at)
        return proof

    def _first_look(self) -> None:
        """Where nothing can be put back the first difference is the last: a task at a time tells whose."""
        if self.proof.completes or not self._looked_at:
            return
        for task in self._tasks:
            here = Act(Address("task.ended", task), Deed.CANCEL)
            self._run(Plan(CANCELLED, (Run((here, _CANCEL_AT_THE_END)),)))

    def _chosen(self, cases: list[_Case]) -> list[_Case]:
        """The end of each task and of each undo, which tell whose doing something is; others by chance."""
        others = [case for case in cases if case[0].name not in _ALWAYS]
        kept = {id(case) for case in sample(others, self._points, self.proof.seed)}
        return [case for case in cases if case[0].name in _ALWAYS or id(case) in kept]

    def _explore(self) -> Ground:
        """Runs that nobody disturbs tell which points there are."""
        at_the_end = Run((Act(LAST_COMMIT, Deed.CANCEL),))
        to_the_end = self._undisturbed(Plan("cancelled at its end", (at_the_end,)))
        account, points = to_the_end.account, to_the_end.heard[0].points
        if account.job["error"] is not None:
            return self._explore_failing()
        turn = points.index(LAST_COMMIT) + 1
        completing: list[Address] = []
        if self.proof.completes:
            left_alone = self._undisturbed(Plan("left alone", (Run(),)))
            if not left_alone.changed:
                self._looked_at = False
                raise Stopped(_NOTHING_CHANGES)
            undisturbed = left_alone.heard[0].points
            completing = undisturbed[undisturbed.index(LAST_COMMIT) + 1 :]
        return Ground(
            forwards=points[:turn],
            completing=completing,
            backwards=points[turn:],
            turn=LAST_COMMIT,
            finish=() if self.proof.completes else (_CANCEL_AT_THE_END,),
        )

    def _explore_failing(self) -> Ground:
        """The same of a flow that fails by itself: it is cancelled in the middle of its undo."""
        forwards = self._undisturbed(Plan("left alone", (Run(),))).heard[0].points
        turn = next((point for point in forwards if point.name == "undo.begun"), None)
        backwards: list[Address] = []
        if turn is not None:
            plan = Plan("cancelled while it is undone", (Run((Act(turn, Deed.CANCEL),)),))
            points = self._undisturbed(plan).heard[0].points
            backwards = points[points.index(turn) + 1 :]
        return Ground(forwards=forwards, completing=(), backwards=backwards, turn=turn)

    def _undisturbed(self, plan: Plan) -> Result:
        result = self._run(plan, look=True)
        if result.heard[0].status != 0 or not result.reached:
            raise Stopped(f"the flow does not run undisturbed: {result.broken or result.account.state}")
        return result

    def _cover(self, point: str, plans: list[Plan]) -> None:
        """Do all that is done at one point."""
        ends = {plan.kind: self._try(plan) for plan in plans}
        reached = {kind: end for kind, end in ends.items() if end is not None}
        if reached:
            covered = Covered(point, reached)
            self.proof.points.append(covered)
            self._tell(covered)

    def _try(self, plan: Plan) -> str | None:
        """How the job ended; None: the deed could not be done, since no run of several came there."""
        for _ in range(_TRIES):
            result = self._run(plan)
            if result.reached:
                break
        else:
            self.proof.not_reached.append(str(plan))
            return None
        self._count(result)
        if result.heard[-1].status == 0:
            last = result.heard[-1]
            after = last.deeds.get(Deed.CANCEL, 0) if plan.kind == CANCELLED else 0
            self._twice += self._ground.twice(plan, last.points, after) if plan.kind != UNCLAIMED else ()
        return result.account.state

    def _count(self, result: Result) -> None:
        proof, kind = self.proof, result.plan.kind
        if kind == DOUBLE:
            proof.double_crashes += 1
        else:
            proof.crashes += result.kills
        proof.stale += kind == STALE
        proof.ended += result.ended
        proof.cancels += kind in (CANCELLED, UNHEARD, UNCLAIMED)

    def _run(self, plan: Plan, *, look: bool = False) -> Result:
        result = self._bench.run(plan, look=look)
        self.proof.broken += result.broken
        if result.seen is not None:
            self._seen.append(result.seen)
        failed = result.seen.differences if result.seen is not None and not self._looked_at else ()
        if left := (*result.left, *failed):
            reason = "the world is not as it was, and nothing can put it back"
            raise Stopped(f"{reason}: {left[0]} ({plan})")
        if result.stuck:
            state = result.account.state
            raise Stopped(f"a job is still {state}, and whoever comes next would take it up ({plan})")
        return result
