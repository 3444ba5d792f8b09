"""The promises, as far as one job shows them: each step either keeps them, or names those that it breaks."""

from __future__ import annotations

from ebbtide.jobs.claims import MAX_INTERRUPTIONS
from ebbtide.jobs.states import edge
from tests.model.clients import ANSWERED_ACCEPTED
from tests.model.runs import BEGINS, UNDOES
from tests.model.state import (
    CANCELLED,
    COMPLETED,
    FAILED,
    FINAL,
    INTERRUPTED,
    NEVER,
    NONE,
    UNDONE,
    Action,
    Shape,
    State,
)

__all__ = ["PROMISES", "broken_by"]

PROMISES = {
    "P1": "a post that was answered is stored",
    "P2": "one outcome per attempt, never changed",
    "P3": "an accepted cancel is never lost",
    "P4": "every call gets a true answer",
    "P5": "after a cancel is accepted no execute passes its barrier",
    "P6": "execute begins at most once per attempt, round and epoch",
    "P7": "what has begun is undone, once, in reverse order, and nothing else",
    "P8": "a stale holder stores nothing and begins no task",
    "P9": "runners are dead before takeover",
    "P10": "every job that is not parked or paused ends",
    "P11": "a job that is interrupted three times without progress is parked",
    "P13": "history replays to the present state",
}
_UNDONE_EDGES = frozenset({"failed", "cancelled", "retry_scheduled", "cancelled_unclaimed"})


def broken_by(before: State, action: Action, after: State, shape: Shape) -> set[str]:
    """The promises that this step breaks, P10 excepted: that one is about all steps together."""
    broken = set()
    if after.posted and after.state == NONE and not after.reply:
        broken.add("P1")
    if action.edges:
        broken |= _by_edges(before, action, after, shape)
    elif before.state != after.state:
        broken.add("P13")
    if before.state in FINAL and after.state != before.state and action.edges != ("retried",):
        broken.add("P2")
    if before.requested and not after.requested and before.attempt == after.attempt:
        broken.add("P3")
    if action.verb == ANSWERED_ACCEPTED and not after.requested:
        broken.add("P4")
    if after.interruptions >= MAX_INTERRUPTIONS:
        broken.add("P11")
    if action.verb.startswith(BEGINS):
        broken |= _by_begin(before, action, shape)
    elif action.verb.startswith(UNDOES):
        broken |= _by_undo(before, action, shape)
    if action.who and "'s run" in action.verb:
        broken |= _by_stale(before, action, after)
    return broken


def _by_edges(before: State, action: Action, after: State, shape: Shape) -> set[str]:
    broken = set()
    here = before.state
    for name in action.edges:
        way = edge(name)
        if here not in (way.sources or {NONE}):
            broken.add("P13")
        here = way.target.value
    if here != after.state:
        broken.add("P13")
    asked = (before.requested and not before.expired) or before.accepted
    if asked and (after.state in (COMPLETED, FAILED) or "retry_scheduled" in action.edges):
        broken.add("P3")
    if before.expired and after.expired and after.state in (COMPLETED, CANCELLED):
        broken.add("P3")  # a limit that was passed ends the attempt as failed
    if _UNDONE_EDGES & set(action.edges) and before.effects:
        broken.add("P7")
    if "completed" in action.edges and before.effects != (1 << len(shape.needs)) - 1:
        broken.add("P7")
    taken = "claimed" in action.edges or "reclaimed" in action.edges
    if taken and any(holder.at_work for holder in before.holders):
        broken.add("P9")
    if "reclaimed" in action.edges:
        given = any(holder.holds and holder.given for holder in before.holders)
        if after.interruptions != before.interruptions + given:
            broken.add("P11")
    return broken


def _by_begin(before: State, action: Action, shape: Shape) -> set[str]:
    broken = set()
    if before.requested or before.accepted:
        broken.add("P5")
    runner = before.holder(action.who).runner
    assert runner is not None
    others = [holder.runner for holder in before.holders if holder.name != action.who]
    twins = [other for other in others if other is not None and other.current and runner.current]
    if twins or before.record[action.task] not in (NEVER, INTERRUPTED):
        broken.add("P6")
    if any(not before.effects >> need & 1 for need in shape.needs[action.task]):
        broken.add("P7")
    return broken


def _by_undo(before: State, action: Action, shape: Shape) -> set[str]:
    above = any(before.effects >> other & 1 for other in shape.above(action.task))
    # An undo whose end was not stored is done again: what is once is what is recorded.
    begun = before.record[action.task] not in (NEVER, UNDONE)
    return set() if begun and not above else {"P7"}


def _by_stale(before: State, action: Action, after: State) -> set[str]:
    runner = before.holder(action.who).runner
    if runner is None or runner.current:
        return set()
    stored = (before.state, before.record, before.requested, before.interruptions)
    if action.verb.startswith(BEGINS) or stored != (
        after.state,
        after.record,
        after.requested,
        after.interruptions,
    ):
        return {"P8"}
    return set()
