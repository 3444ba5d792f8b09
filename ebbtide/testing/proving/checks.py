"""What has to hold of a job, by its effects and by the ledger: the promises P2 to P8, P10 and P13."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ebbtide.jobs.states import FINAL_STATES
from ebbtide.testing.proving.account import Account
from ebbtide.testing.proving.effects import (
    ACCEPTED,
    BEGIN,
    CANCEL,
    END,
    EXECUTE,
    RAISED,
    REVERT,
    TOO_LATE,
    Effect,
)

__all__ = ["Evidence", "Story", "broken_promises", "stories"]

_FINAL = {state.value for state in FINAL_STATES}
_INTERRUPTED = "INTERRUPTED"


@dataclass(frozen=True)
class Evidence:
    """What is known of a case.

    Attributes:
        before: for each task those that have to be done before it.
        answers: to cancels, in order.
        unanswered: whether somebody died in asking for a cancel: it may be stored or not.
        kills: how many holders were killed; `hung`: whether one was since an undo hung.
        stale: what the ledger said before a stale holder woke up; None: there was none.
    """

    effects: Sequence[Effect]
    account: Account
    before: Mapping[str, set[str]]
    answers: Sequence[str] = ()
    unanswered: bool = False
    kills: int = 0
    hung: bool = False
    stale: Account | None = None


@dataclass
class Round:
    """What the effect log tells of one task in one round. Values are digests of results."""

    begins: list[tuple[int, int]] = field(default_factory=list)  # attempt and epoch of each
    returned: str | None = None
    open: bool = False  # a body began and nothing more was heard of it
    raised: bool = False
    undo_begins: int = 0
    undo_ends: int = 0
    undo_raises: int = 0
    undo_repeated: bool = False  # after a try that had not raised
    given: list[str] = field(default_factory=list)


@dataclass
class Story:
    """What the effect log tells of one task: its rounds, the last of which may stand."""

    rounds: list[Round] = field(default_factory=lambda: [Round()])

    @property
    def last(self) -> Round:
        return self.rounds[-1]

    def round(self, number: int) -> Round | None:
        """The round of that number, from 1; None: the log tells nothing of it."""
        return self.rounds[number - 1] if number <= len(self.rounds) else None

    @property
    def stands(self) -> bool:
        """Whether it began and was not undone since."""
        return bool(self.last.begins) and not self.last.undo_ends

    def take(self, effect: Effect) -> None:
        if effect.verb == EXECUTE and effect.what == BEGIN:
            if self.last.undo_ends:
                self.rounds.append(Round())
            self.last.begins.append((effect.attempt, effect.epoch))
            self.last.open, self.last.raised, self.last.returned = True, False, None
        elif effect.verb == EXECUTE:
            self.last.open, self.last.raised = False, effect.what == RAISED
            self.last.returned = effect.value if effect.what == END else None
        elif effect.what == BEGIN:
            if self.last.undo_ends and self.last.given[-1:] not in ([], [effect.value]):
                # Not the undo once more, which would be given the same: it is that of a round whose holder
                # died after its begin was stored and before its body.
                self.rounds.append(Round())
            self.last.undo_repeated |= self.last.undo_begins > self.last.undo_raises
            self.last.undo_begins += 1
            if effect.value is not None:
                self.last.given.append(effect.value)
        else:
            self.last.undo_ends += effect.what == END
            self.last.undo_raises += effect.what == RAISED


def stories(effects: Sequence[Effect]) -> dict[str, Story]:
    """What the log tells of each task; without what holders did that had been overtaken, which is P8's."""
    found: dict[str, Story] = {}
    newest = 0
    for effect in effects:
        newest = max(newest, effect.epoch)
        if effect.what != CANCEL and effect.epoch == newest:
            found.setdefault(effect.task, Story()).take(effect)
    return found


def broken_promises(evidence: Evidence) -> list[str]:
    """A line for each thing that does not hold."""
    told = stories(evidence.effects)
    return [
        *_one_outcome(evidence),
        *_cancel_kept(evidence),
        *_nothing_after_cancel(evidence),
        *_begins_once(told),
        *_undone(evidence, told),
        *_undone_in_order(evidence),
        *_results_true(evidence, told),
        *_recorded(evidence, told),
        *_nothing_of_a_stale_holder(evidence),
        *_came_to_rest(evidence, told),
        *_history_replays(evidence.account),
    ]


def _one_outcome(evidence: Evidence) -> Iterator[str]:
    account = evidence.account
    ends = [entry["to_state"] for entry in account.entries if entry["to_state"] in _FINAL]
    stored = [row["state"] for row in account.outcomes]
    wanted = [account.state] if account.state in _FINAL else []
    if ends != wanted or stored != wanted:
        yield f"P2: it is {account.state}, its history ended {ends}, its outcomes are {stored}"


def _cancel_kept(evidence: Evidence) -> Iterator[str]:
    state = evidence.account.state
    accepted, late = (answer in evidence.answers for answer in (ACCEPTED, TOO_LATE))
    if accepted and state in ("completed", "failed"):
        yield f"P3: its cancel was accepted and it ended {state}"
    if accepted and evidence.account.requested_at is None:
        yield "P4: its cancel was accepted and is not stored"
    if late and (accepted or state not in ("completed", "failed")):
        yield f"P4: its cancel was refused as too late, and it is {state}"
    if not accepted and not evidence.unanswered and state == "cancelled":
        yield "P4: it is cancelled and nobody was told that a cancel is accepted"


def _nothing_after_cancel(evidence: Evidence) -> Iterator[str]:
    passed: set[tuple[Any, ...]] = set()
    accepted = False
    told: dict[str, Story] = {}
    for effect in evidence.effects:
        if effect.what == CANCEL:
            if effect.value == ACCEPTED and not accepted:
                accepted, passed = True, {tuple(each) for each in effect.passed}
            continue
        story = told.setdefault(effect.task, Story())
        story.take(effect)
        # What had passed its barrier before may still be on its way to its body.
        begins = effect.verb == EXECUTE and effect.what == BEGIN
        if accepted and begins and (effect.task, len(story.rounds)) not in passed:
            yield f"P5: {effect.task} began after the cancel was accepted"


def _begins_once(told: Mapping[str, Story]) -> Iterator[str]:
    for task, story in told.items():
        for number, each in enumerate(story.rounds, 1):
            for (attempt, epoch), times in Counter(each.begins).items():
                if times > 1:
                    where = f"attempt {attempt}, round {number}, epoch {epoch}"
                    yield f"P6: {task} began {times} times in {where}"


def _undone(evidence: Evidence, told: Mapping[str, Story]) -> Iterator[str]:
    job, rows = evidence.account.job, evidence.account.tasks
    left = sorted({row["task"] for row in rows if row["undo_ended_at"] is None})
    standing = sorted(task for task, story in told.items() if story.stands)
    if job["state"] in ("cancelled", "failed"):
        if left or standing:
            yield f"P7: it is {job['state']}, its undo {job['undo']}; not undone: {left}, really: {standing}"
        if (job["undo"] == "none") != (not rows) or job["undo"] not in ("none", "complete"):
            yield f"P7: its undo is {job['undo']} after {len(rows)} tasks began"
    if job["state"] == "parked" and not set(standing) <= set(job["not_undone"]):
        yield f"P7: it is parked, says that {job['not_undone']} are not undone, and {standing} are not"
    known = {row["task"] for row in rows}
    for task, story in told.items():
        if task not in known:
            yield f"P7: {task} ran and is not recorded"
        for each in story.rounds:
            # One that raised is tried again.
            if each.undo_begins > 1 + each.undo_raises + evidence.kills + (evidence.stale is not None):
                yield f"P7: the undo of {task} ran {each.undo_begins} times"


def _undone_in_order(evidence: Evidence) -> Iterator[str]:
    standing: set[str] = set()
    for effect in evidence.effects:
        if effect.what == BEGIN and effect.verb == EXECUTE:
            standing.add(effect.task)
            missing = sorted(evidence.before.get(effect.task, set()) - standing)
            if missing:
                yield f"P7: {effect.task} began before {', '.join(missing)}"
        elif effect.what == BEGIN and effect.verb == REVERT:
            above = sorted(task for task in standing if effect.task in evidence.before.get(task, ()))
            if above:
                yield f"P7: {effect.task} was undone before {', '.join(above)}"
        elif effect.what == END and effect.verb == REVERT:
            standing.discard(effect.task)


def _results_true(evidence: Evidence, told: Mapping[str, Story]) -> Iterator[str]:
    rows = {(row["task"], row["round"]): row for row in evidence.account.tasks}
    for task, story in told.items():
        for number, each in enumerate(story.rounds, 1):
            row = rows.get((task, number))
            if row is None and each.undo_begins:
                yield f"P7: {task} was undone in round {number}, which is not recorded as begun"
            # Of an end that died with its holder nobody knows.
            known = row is not None and row["how"] == "returned"
            if not set(each.given) <= ({each.returned} if known else {_INTERRUPTED}):
                yield f"P7: the undo of {task} was given another result than is known of its execute"


def _recorded(evidence: Evidence, told: Mapping[str, Story]) -> Iterator[str]:
    rows = {(row["task"], row["round"]): row for row in evidence.account.tasks}
    undisturbed = not evidence.kills and evidence.stale is None
    for (task, number), row in sorted(rows.items()):
        each = told[task].round(number) if task in told else None
        began, returned = bool(each and each.begins), bool(each and each.returned is not None)
        if row["how"] == "returned" and not returned:
            yield f"P7: {task} is recorded as returned in round {number}, and did not return"
        # A holder may die, or be overtaken, between what it does and the record of it.
        if undisturbed and not began:
            yield f"P7: {task} is recorded as begun in round {number}, and did not begin"
        if undisturbed and returned and row["how"] not in ("returned", "raised"):
            yield f"P7: {task} returned in round {number}, and is recorded as {row['how']}"


def _nothing_of_a_stale_holder(evidence: Evidence) -> Iterator[str]:
    newest = 0
    for effect in evidence.effects:
        if effect.what == BEGIN and effect.epoch < newest:
            yield f"P8: a holder of epoch {effect.epoch} began {effect.verb} of {effect.task} after its end"
        newest = max(newest, effect.epoch)
    before = evidence.stale
    if before is None:
        return
    for name in ("job", "tasks", "entries", "outcomes"):
        if getattr(before, name) != getattr(evidence.account, name):
            yield f"P8: a stale holder has changed what is stored: {name}"


def _came_to_rest(evidence: Evidence, told: Mapping[str, Story]) -> Iterator[str]:
    job = evidence.account.job
    if job["state"] == "parked":
        failed = any(each.undo_raises for story in told.values() for each in story.rounds)
        if not failed and not evidence.hung:
            yield f"P10: it is parked although no undo failed: {job['park_reason']}"
    elif job["state"] not in _FINAL:
        yield f"P10: it is still {job['phase']}"
    if job["state"] == "completed":
        short = sorted(task for task, story in told.items() if story.last.returned is None)
        if short or any(row["how"] != "returned" for row in _last_rounds(evidence.account.tasks)):
            yield f"P10: it completed although these did not: {short}"


def _last_rounds(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({row["task"]: row for row in sorted(rows, key=lambda row: row["round"])}.values())


def _history_replays(account: Account) -> Iterator[str]:
    numbers = [entry["number"] for entry in account.entries]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"P13: the entries of its history are numbered {numbers}"
    state = None
    for entry in account.entries:
        if entry["to_state"] is not None:
            if entry["from_state"] != state:
                yield f"P13: entry {entry['number']} goes from {entry['from_state']}, and it was {state}"
            state = entry["to_state"]
    if state != account.state:
        yield f"P13: its history leads to {state}, and it is {account.state}"
