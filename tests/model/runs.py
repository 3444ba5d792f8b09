"""What a run does: its barriers, its bodies, its turn, its undos, its outcome; each commit fenced."""

from __future__ import annotations

from collections.abc import Iterator

from ebbtide.jobs.states import Ending, edge, settle
from tests.model.conductors import backwards
from tests.model.state import (
    BEGUN,
    DEAD,
    DRAIN,
    FINAL,
    FROZEN,
    INTERRUPTED,
    NEVER,
    PARKED,
    PAUSE,
    PENDING,
    RAISED,
    RETURNED,
    RUNNING,
    STUCK,
    TO_UNDO,
    UNDOING,
    UNDONE,
    Action,
    Holder,
    Runner,
    Shape,
    State,
    with_task,
)
from tests.model.variants import Variant

__all__ = ["BEGINS", "UNDOES", "run_moves"]

_Moves = Iterator[tuple[Action, State]]

BEGINS = "'s runner begins TASK"
UNDOES = "'s runner undoes TASK"
_LOST = "; the answer to the commit is lost"

# Each is refused by the very statement that would apply it, once a cancel is requested.
_UNLESS_REQUESTED = ("completed", "failed", "retry_scheduled", "paused", "held")
# And these are not, where the request is a limit's, once the run knows.
_THOUGH_EXPIRED = ("failed", "retry_scheduled")


def run_moves(state: State, shape: Shape, variant: Variant) -> _Moves:
    """All that the runs of the job may do now."""
    for holder in state.holders:
        if holder.runner is not None and holder.doing != FROZEN:
            yield from _Run(state, holder, holder.runner, shape, variant).moves()


class _Run:
    """One run in one state."""

    def __init__(self, state: State, holder: Holder, runner: Runner, shape: Shape, variant: Variant) -> None:
        self.state = state
        self.holder = holder
        self.runner = runner
        self.shape = shape
        self.variant = variant

    def moves(self) -> _Moves:
        runner = self.runner
        fenced_out = not runner.current or self.state.state != RUNNING
        if runner.unknown:
            yield from self._read_back(*runner.unknown)
        elif fenced_out and self.variant is not Variant.NO_FENCE:
            yield self._act("'s runner finds its claim lost, and stops"), self._without_runner(self.state)
        elif BEGUN in runner.tasks or UNDOING in runner.tasks:
            yield from self._bodies()
            yield from self._barriers()
        else:
            yield from self._barriers()
            yield from self._rest()

    def _act(self, verb: str, *edges: str, task: int = -1, own: bool = True) -> Action:
        return Action(verb, self.holder.name, task, edges, own)

    def _with(self, state: State, runner: Runner) -> State:
        return state.with_holder(state.holder(self.holder.name)._replace(runner=runner))

    def _without_runner(self, state: State) -> State:
        kept = []
        for each in state.holders:
            each = each._replace(runner=None) if each.name == self.holder.name else each
            if each.doing != DEAD or each.holds or each.runner is not None:
                kept.append(each)
        return state._replace(holders=tuple(kept))

    # Commits.

    def _stored(self, tasks: str) -> State:
        """The records as this run knows them; what has progressed was not interrupted in vain."""
        progressed = any(
            new != old and new in (RETURNED, UNDONE)
            for new, old in zip(tasks, self.state.record, strict=True)
        )
        interruptions = 0 if progressed else self.state.interruptions
        return self.state._replace(record=tasks, interruptions=interruptions)

    def _barrier(self, verb: str, task: int, letter: str) -> _Moves:
        """A commit, and what may begin after it alone."""
        tasks = with_task(self.runner.tasks, task, letter)
        stored = self._stored(tasks)
        if letter == BEGUN:
            stored = stored._replace(effects=stored.effects | 1 << task)
        begun = self.runner._replace(tasks=tasks)
        yield self._act(verb, task=task), self._with(stored, begun)
        if self.shape.unknown_commits:
            # Until it knows better it goes on from what it knew.
            for applied, after, words in ((True, stored, "stored"), (False, self.state, "not stored")):
                waiting = self.runner._replace(unknown=(letter, task, applied))
                action = self._act(f"{verb} ({words}){_LOST}", task=task, own=False)
                yield action, self._with(after, waiting)

    def _read_back(self, what: str, task: int, stored: bool) -> _Moves:
        runner = self.runner._replace(unknown=())
        if not runner.current:
            yield (
                self._act("'s runner reads back: the job has another holder"),
                self._without_runner(self.state),
            )
        elif not stored or self.variant is Variant.LOST_ANSWER_IS_NO_ANSWER:
            yield self._act("'s runner does not find its commit"), self._with(self.state, runner)
        elif what == "end":
            yield self._act("'s runner finds its outcome stored"), self._without_runner(self.state)
        else:
            known = runner._replace(tasks=with_task(runner.tasks, task, what))
            yield self._act("'s runner finds its commit stored"), self._with(self.state, known)

    # Bodies.

    def _bodies(self) -> _Moves:
        runner = self.runner
        for task, letter in enumerate(runner.tasks):
            if letter == BEGUN:
                stopped = "'s TASK is stopped at a checkpoint" if runner.event else "'s TASK raises"
                ends = {"'s TASK returns": RETURNED, stopped: RAISED}
            elif letter == UNDOING:
                ends = {"'s undo of TASK ends": UNDONE, "'s undo of TASK fails for good": STUCK}
            else:
                continue
            for verb, end in ends.items():
                after = self._with(self.state, runner._replace(tasks=with_task(runner.tasks, task, end)))
                if end == UNDONE:
                    after = after._replace(effects=after.effects & ~(1 << task))
                yield self._act(verb, task=task), after
        if runner.tasks != self.state.record:
            # Siblings that still run may be killed: what ended before must not die with them.
            yield self._act("'s runner commits what has ended"), self._stored(runner.tasks)

    # Barriers.

    def _barriers(self) -> _Moves:
        runner = self.runner
        only_begun = self.variant is Variant.ONLY_BEGUN_MARKED
        if runner.stop:
            return
        for task, letter in enumerate(runner.tasks):
            if letter in (NEVER, INTERRUPTED) and (only_begun or not (runner.back or runner.event)):
                wanted = (RETURNED, TO_UNDO) if only_begun else (RETURNED,)
                if RAISED not in runner.tasks and all(
                    runner.tasks[need] in wanted for need in self.shape.needs[task]
                ):
                    yield from self._begin(task)
        if runner.back:
            for task, letter in enumerate(runner.tasks):
                if letter == TO_UNDO and all(
                    runner.tasks[other] in (NEVER, UNDONE) for other in self.shape.above(task)
                ):
                    yield from self._barrier(UNDOES, task, UNDOING)

    def _begin(self, task: int) -> _Moves:
        if self.state.requested and self.variant not in (
            Variant.NEVER_LOOKED_UP,
            Variant.ONLY_BEGUN_MARKED,
        ):
            refused = self._with(self._stored(self.runner.tasks), self.runner._replace(event=True))
            yield self._act("'s TASK is refused at its barrier: a cancel was requested", task=task), refused
            return
        yield from self._barrier(BEGINS, task, BEGUN)

    # At rest.

    def _rest(self) -> _Moves:
        runner = self.runner
        ending = self._ending()
        if runner.stop == DRAIN and not ending and not runner.event and RAISED not in runner.tasks:
            yield from self._end("released")
        elif self._is_to_hold():
            yield from self._end("held")
        elif not runner.back and (runner.event or RAISED in runner.tasks):
            turned = runner._replace(back=True, tasks=backwards(runner.tasks))
            if runner.stop == PAUSE:
                turned = turned._replace(stop=0)
            yield self._act("'s runner turns round"), self._with(self.state, turned)
        elif runner.stop == DRAIN and not ending:
            yield from self._end("released")
        elif runner.stop == PAUSE and not ending:
            yield from self._end("paused")
        elif ending:
            yield from self._settle(ending)

    def _is_to_hold(self) -> bool:
        last = self.state.attempt >= self.shape.attempts
        failed = not self.runner.back and RAISED in self.runner.tasks
        return self.shape.holds and last and failed and not self.runner.event

    def _ending(self) -> Ending | None:
        tasks = self.runner.tasks
        if not self.runner.back:
            return Ending.FINISHED if tasks == RETURNED * len(tasks) else None
        if all(letter in (NEVER, UNDONE) for letter in tasks):
            return Ending.UNDONE
        undoable = any(
            letter == TO_UNDO and all(tasks[other] in (NEVER, UNDONE) for other in self.shape.above(task))
            for task, letter in enumerate(tasks)
        )
        return None if undoable or STUCK not in tasks else Ending.STUCK

    def _settle(self, ending: Ending) -> _Moves:
        expired = self.runner.event and self.state.expired
        name = settle(ending, cancel_requested=self.runner.event, limit_passed=expired)
        if name is None:
            return  # it turns round
        yield from self._end(name)
        if name == "failed" and self.state.attempt < self.shape.attempts:
            yield from self._end("retry_scheduled")

    def _end(self, name: str) -> _Moves:
        """Leave by an edge, in one commit with all that is not stored yet. "held" is `parked`, to hold."""
        stored = self._stored(self.runner.tasks)
        ignored = self.variant is Variant.OUTCOME_IGNORES_REQUEST and name == "completed"
        ignored |= self.state.expired and self.runner.event and name in _THOUGH_EXPIRED
        if self.state.requested and name in _UNLESS_REQUESTED and not ignored:
            if self.variant is not Variant.NEVER_LOOKED_UP:
                told = self._with(stored, self.runner._replace(event=True, stop=self.runner.stop % PAUSE))
                yield self._act(f"'s outcome is refused, {name}: a cancel was requested"), told
            return
        left = self._left(stored, name)
        edges = () if self.variant is Variant.EDGE_WITHOUT_ENTRY else ("parked" if name == "held" else name,)
        yield self._act(f"'s run ends: {name}", *edges), self._without_runner(left)
        if self.shape.unknown_commits:
            waiting = self.runner._replace(unknown=("end", -1, True))
            action = self._act(f"'s run ends: {name}{_LOST}", *edges, own=False)
            yield action, self._with(left, waiting)

    def _left(self, stored: State, name: str) -> State:
        held = name == "held"
        target = PARKED if held else edge(name).target.value
        released = [each._replace(holds=False, given=False) for each in stored.holders]
        # A dead conductor is still needed here for its runner, which holds its name.
        after = stored._replace(state=target, holders=tuple(released), pausing=False, held=held)
        if target in FINAL or target == PARKED:
            after = after._replace(interruptions=0)
        if name == "retry_scheduled":
            after = after._replace(
                attempt=stored.attempt + 1,
                record=NEVER * len(stored.record),
                effects=0,
                interruptions=0,
                requested=False,
                expired=False,
            )
        if target == PENDING and stored.pausing and name == "released":
            after = after._replace(pausing=True)
        return after
