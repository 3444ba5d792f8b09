"""Breadth first through every state, so that what is found first is the shortest way to it."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from tests.model.promises import PROMISES, broken_by
from tests.model.rules import moves
from tests.model.state import (
    FINAL,
    NONE,
    PARKED,
    PAUSED,
    Action,
    Holder,
    Shape,
    State,
    first_state,
)
from tests.model.variants import Variant

__all__ = ["Breach", "Explored", "explore"]

_RESTS = FINAL | {NONE, PARKED, PAUSED}


@dataclass(frozen=True)
class Breach:
    """A broken promise, with the shortest list of steps that breaks it."""

    promise: str
    shape: Shape
    steps: tuple[Action, ...]

    def __str__(self) -> str:
        lines = [f"{self.promise} is broken ({PROMISES[self.promise]}), flow {self.shape.name}:"]
        lines += [f"  {n:2}. {step.told(self.shape.tasks)}" for n, step in enumerate(self.steps, 1)]
        return "\n".join(lines)


@dataclass
class Explored:
    """What an exploration has seen."""

    shape: Shape
    states: int = 0
    transitions: int = 0
    edges: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)  # states of the job, of all states seen
    breach: Breach | None = None

    def __str__(self) -> str:
        return f"{self.shape.name}: {self.states} states, {self.transitions} transitions"


class _Search:
    def __init__(self, shape: Shape, variant: Variant, promises: frozenset[str], symmetric: bool) -> None:
        self.shape = shape
        self.variant = variant
        self.promises = promises
        self.seen: dict[State, int] = {}
        self.forms: dict[State, int] = {}  # each state by one of its forms
        self.order: list[State] = []
        self.came_by: list[tuple[int, Action] | None] = []
        self.own: list[list[int]] = []  # by state: those from which the system comes here by itself
        self.result = Explored(shape)
        self._symmetric = symmetric

    def run(self) -> Explored:
        self._add(first_state(self.shape), None)
        waiting = deque([0])
        while waiting and self.result.breach is None:
            here = waiting.popleft()
            before = self.order[here]
            for action, after in moves(before, self.shape, self.variant):
                self.result.transitions += 1
                if action.edges:
                    self.result.edges.update(action.edges)
                for promise in broken_by(before, action, after, self.shape) & self.promises:
                    self.result.breach = self._breach(promise, here, action)
                    break
                there = self.seen.get(after)
                if there is None:
                    there = self._known_otherwise(after)
                if there is None:
                    there = self._add(after, (here, action))
                    waiting.append(there)
                if action.own:
                    self.own[there].append(here)
        if self.result.breach is None and "P10" in self.promises:
            self._find_dead_end()
        self.result.states = len(self.order)
        self.result.ends.update(state.state for state in self.order)
        return self.result

    def _add(self, state: State, came_by: tuple[int, Action] | None) -> int:
        number = self.seen[state] = len(self.order)  # its other forms come as they are met
        self.order.append(state)
        self.came_by.append(came_by)
        self.own.append([])
        return number

    def _known_otherwise(self, state: State) -> int | None:
        """The number of the same state under other names, if it has one."""
        if not self._symmetric:
            return None
        canonical = _canonical(state, self.shape)
        number = self.forms.get(canonical)
        if number is None:
            self.forms[canonical] = len(self.order)
        else:
            self.seen[state] = number
        return number

    def _find_dead_end(self) -> None:
        """P10: from everywhere the system comes to a rest by itself, without fault or client."""
        good = [number for number, state in enumerate(self.order) if state.state in _RESTS]
        reached = set(good)
        while good:
            for before in self.own[good.pop()]:
                if before not in reached:
                    reached.add(before)
                    good.append(before)
        for number in range(len(self.order)):  # in order of distance
            if number not in reached:
                self.result.breach = self._breach("P10", number, None)
                return

    def _breach(self, promise: str, here: int, last: Action | None) -> Breach:
        steps = [] if last is None else [last]
        while (came := self.came_by[here]) is not None:
            here, action = came
            steps.append(action)
        return Breach(promise, self.shape, tuple(reversed(steps)))


def explore(
    shape: Shape,
    variant: Variant = Variant.RIGHT,
    promises: frozenset[str] = frozenset(PROMISES),
    *,
    symmetric: bool = True,
) -> Explored:
    """Look at every state that can be reached, or until one of `promises` is broken.

    Args:
        symmetric: conductors, and tasks that are alike, count as the same whatever their names. Fewer
            states; the steps of a breach then name whoever has that name at the moment.
    """
    return _Search(shape, variant, promises, symmetric).run()


def _canonical(state: State, shape: Shape) -> State:
    """One of the forms of a state that differ in names alone."""
    chosen = _renamed(state)
    for one, other in shape.alike:
        swapped = _renamed(_swapped(state, one, other))
        if _order(swapped) < _order(chosen):
            chosen = swapped
    return chosen


def _order(state: State) -> tuple[object, ...]:
    return (state.record, state.effects, tuple([_rank(holder) for holder in state.holders]))


def _rank(holder: Holder) -> tuple[object, ...]:
    return (holder.doing, holder.lease, holder.holds, holder.given, holder.runner or ())


def _renamed(state: State) -> State:
    named = tuple([Holder(n, *each[1:]) for n, each in enumerate(sorted(state.holders, key=_rank), 1)])
    return state if named == state.holders else state._replace(holders=named)


def _swapped(state: State, one: int, other: int) -> State:
    names = list(range(len(state.record)))
    names[one], names[other] = other, one

    def swap(tasks: str) -> str:
        return "".join([tasks[name] for name in names]) if tasks else tasks

    holders = []
    for holder in state.holders:
        runner = holder.runner
        if runner is not None and runner.tasks:
            lost = runner.unknown
            if lost and lost[1] >= 0:
                lost = (lost[0], names[lost[1]], lost[2])
            holder = holder._replace(runner=runner._replace(tasks=swap(runner.tasks), unknown=lost))
        holders.append(holder)
    effects = sum(1 << names[task] for task in range(len(names)) if state.effects >> task & 1)
    return state._replace(record=swap(state.record), effects=effects, holders=tuple(holders))
