"""The recorded history of a job, replayed: each entry has to be a step that the model takes.

A history shows less than the model knows: the job's state, attempt and epoch, and how far its request got.
`steps` is the model seen through that glass. Both are compared by a test: what the model takes is replayed,
and what is replayed the model takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ebbtide.jobs.states import EDGES, FINAL_STATES, Edge, JobState

__all__ = [
    "FIRST",
    "Entry",
    "IllegalHistory",
    "Seen",
    "next_bare",
    "next_seen",
    "replay",
    "state_after",
    "told",
]

_EDGES = {each.name: each for each in EDGES}
_FINAL = {state.value for state in FINAL_STATES}
_ENTERS = ("claimed", "reclaimed")
_NEXT_ATTEMPT = ("retried", "retry_scheduled")
_UNLESS_REQUESTED = ("completed", "paused")
_UNLESS_ASKED = ("failed", "retry_scheduled", "accepted_as_failed")  # a limit is nobody's wish
# What a client may ask of a job that is in one of these states.
_WISHES = {
    "pause_requested": (JobState.RUNNING,),
    "pause_withdrawn": (JobState.PENDING, JobState.RUNNING),
    "rewind_requested": (JobState.PENDING, JobState.RUNNING, JobState.PAUSED),
}
_IF_REQUESTED = ("cancelled", "cancelled_unclaimed", "accepted_as_cancelled")


class IllegalHistory(Exception):
    """An entry that no step of the model writes; the message says which and why."""


@dataclass(frozen=True)
class Entry:
    """One row of `job_entries`, as far as the model knows of it."""

    number: int
    name: str
    source: str | None
    target: str | None
    attempt: int
    epoch: int


@dataclass(frozen=True)
class Seen:
    """What a history has told so far. A state of "" is that of a job which does not exist yet."""

    state: str = ""
    attempt: int = 1
    epoch: int = 0
    requested: bool = False
    expired: bool = False  # the request is no person's: a limit was passed
    forwarded: bool = False
    delivered: bool = False
    deleting: bool = False  # it is to be removed with its outcome: no history tells of both
    number: int = 0


FIRST = Seen()


def next_seen(seen: Seen, entry: Entry) -> Seen:
    """What is seen after one more entry.

    Raises:
        IllegalHistory: nothing writes this entry there.
    """
    _require(entry.number == seen.number + 1, entry, f"comes after number {seen.number}")
    way = _EDGES.get(entry.name)
    after = _note(seen, entry) if way is None else _edge(seen, entry, way)
    expected = (after.attempt, after.epoch)
    _require(
        (entry.attempt, entry.epoch) == expected,
        entry,
        f"is of attempt {entry.attempt}, epoch {entry.epoch}, where {expected[0]}, {expected[1]} is due",
    )
    return replace(after, number=entry.number)


def next_bare(seen: Seen, entry: Entry) -> Seen:
    """The same where edges are applied by themselves: the table alone says what may follow what.

    Raises:
        IllegalHistory: nothing writes this entry there.
    """
    _require(entry.number == seen.number + 1, entry, f"comes after number {seen.number}")
    way = _EDGES.get(entry.name)
    if way is None:
        _require(entry.source is None and entry.target is None, entry, "is no edge and yet leads somewhere")
        return replace(seen, number=entry.number)
    return replace(seen, state=_target(seen, entry, way), number=entry.number)


def _require(holds: bool, entry: Entry, why: str) -> None:
    if not holds:
        raise IllegalHistory(f"entry {entry.number}, {entry.name}, {why}")


def _target(seen: Seen, entry: Entry, way: Edge) -> str:
    """Where the edge leads, if the table has it from here and the entry says so."""
    sources = {source.value for source in way.sources} or {""}
    _require(seen.state in sources, entry, f"does not begin at {seen.state or 'nothing'}")
    _require((entry.source or "") == seen.state, entry, f"says it begins at {entry.source}, not {seen.state}")
    _require(entry.target == way.target.value, entry, f"says it leads to {entry.target}")
    return way.target.value


def _edge(seen: Seen, entry: Entry, way: Edge) -> Seen:
    target = _target(seen, entry, way)
    if way.name in _UNLESS_REQUESTED:
        _require(not seen.requested, entry, "although a cancel was accepted")
    if way.name in _UNLESS_ASKED:
        _require(not seen.requested or seen.expired, entry, "although a cancel was accepted")
    if way.name in _IF_REQUESTED:
        _require(seen.requested and not seen.expired, entry, "although nobody has asked for a cancel")
    _require(not seen.deleting or target not in _FINAL, entry, "and is still there, though to be deleted")
    after = replace(seen, state=target, epoch=seen.epoch + (way.name in _ENTERS))
    if way.name in _NEXT_ATTEMPT:
        return Seen(state=after.state, attempt=seen.attempt + 1, epoch=after.epoch)
    return after


def _note(seen: Seen, entry: Entry) -> Seen:
    """An entry that changes no state."""
    _require(entry.source is None and entry.target is None, entry, "is no edge and yet leads somewhere")
    if entry.name == "cancel_requested":
        _require(not seen.requested or seen.expired, entry, "a second time in this attempt")
        _require(seen.state not in {"", *_FINAL}, entry, f"of a job that is {seen.state}")
        return replace(seen, requested=True, expired=False)
    if entry.name == "delete_requested":
        _require(not seen.deleting, entry, "a second time")
        _require(seen.state not in {"", *_FINAL}, entry, f"of a job that is {seen.state}")
        return replace(seen, deleting=True)
    if entry.name in _WISHES:
        _require(not seen.requested, entry, "although a cancel was accepted")
        _require(seen.state in _WISHES[entry.name], entry, f"of a job that is {seen.state}")
        return seen
    if entry.name == "limit_passed":
        _require(not seen.requested, entry, "although it was being stopped in this attempt")
        _require(seen.state == JobState.RUNNING, entry, f"of a job that is {seen.state}, not running")
        return replace(seen, requested=True, expired=True)
    _require(entry.name in ("cancel_forwarded", "cancel_delivered", "overdue"), entry, "is unknown")
    _require(seen.requested, entry, "although nobody has asked for a cancel")
    _require(seen.state == JobState.RUNNING, entry, f"of a job that is {seen.state}, not running")
    if entry.name == "cancel_forwarded":
        _require(not seen.forwarded, entry, "a second time in this attempt")
        return replace(seen, forwarded=True)
    if entry.name == "cancel_delivered":
        _require(not seen.delivered, entry, "a second time in this attempt")
        return replace(seen, delivered=True)
    return seen


def replay(
    entries: Iterable[Entry],
    by_hand: Mapping[int, Mapping[str, Any]] | None = None,
    *,
    step: Callable[[Seen, Entry], Seen] = next_seen,
) -> list[Seen]:
    """What is seen after each entry, in order.

    Args:
        by_hand: what a test has changed in the job's row past all our code, by the number of the last
            entry before.
        step: `next_seen`, or `next_bare`.

    Raises:
        IllegalHistory: see `next_seen`.
    """
    changed = by_hand or {}
    seen = FIRST
    told = []
    for entry in entries:
        # The first entry of a job that was put there by hand says nothing of where it was put.
        seen = Seen(number=entry.number) if 0 in changed and entry.number == 1 else step(seen, entry)
        if entry.number in changed:
            seen = replace(seen, **changed[entry.number])
        told.append(seen)
    return told


def state_after(entries: Iterable[Any]) -> str:
    """The state in which the history that a poster gives ends: "" before the first entry.

    Raises:
        IllegalHistory: see `next_seen`.
    """
    rows = [
        Entry(each.number, each.name, each.from_state, each.to_state, each.attempt, each.epoch)
        for each in entries
    ]
    steps = replay(rows)
    return steps[-1].state if steps else FIRST.state


def told(entries: Sequence[Entry]) -> str:
    """A history as a reader is told of it."""
    lines = []
    for each in entries:
        way = "" if each.target is None else f"  {each.source or '-'} -> {each.target}"
        lines.append(f"  {each.number:3}. {each.name}{way}  attempt {each.attempt}, epoch {each.epoch}")
    return "\n".join(lines)
