"""A verdict on the undo of each task: what of the differences that were seen is its doing."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ebbtide.testing.proving.checks import Story

__all__ = ["Seen", "TaskVerdict", "Verdict", "verdicts"]


class Verdict(enum.StrEnum):
    """What is found of a task's undo."""

    COMPLETE = "undo complete"
    LEAKS = "undo leaks"
    NOT_REPEATABLE = "undo not repeatable"
    NOT_LOOKED_AT = "undo not looked at"  # it ran; nobody told what to look at
    NOT_SEEN = "undo not seen"  # it never ran

    @property
    def bad(self) -> bool:
        return self in (Verdict.LEAKS, Verdict.NOT_REPEATABLE)


@dataclass(frozen=True)
class TaskVerdict:
    """The verdict on one task, with what was seen, and when, where it is a bad one."""

    task: str
    verdict: Verdict
    found: tuple[str, ...] = ()


class _How(enum.StrEnum):
    """In which way a task was undone."""

    WHOLE = "whole"  # it had returned, and its undo ran once
    PART = "part"  # it was cut somewhere, by a kill, a cancel or an error
    REPEATED = "repeated"  # its undo ran more than once

    def explains(self, other: _How) -> bool:
        """Whether what a task leaves when it is undone in this way is no surprise in the other."""
        return self is not _How.REPEATED or other is _How.REPEATED


_Undone = tuple[str, _How]


@dataclass(frozen=True)
class Seen:
    """A case in which all was undone, or an undo failed.

    Attributes:
        case: how it is told.
        undone: each task that was undone, and in which way.
        differences: of the world, after it; or that the undo of a task failed.
        failed: what was being undone when its undo failed; what else is left is held against nobody then.
    """

    case: str
    undone: frozenset[_Undone]
    differences: tuple[str, ...]
    failed: _Undone | None = None

    @classmethod
    def of(
        cls,
        case: str,
        stories: dict[str, Story],
        differences: Iterable[str],
        failed: str | None,
        error: str,
        *,
        hung: bool = False,
    ) -> Seen:
        """What is to be seen after `case`.

        Args:
            failed: the task whose undo failed, with its `error`; None: all was undone.
            hung: a holder was ended since an undo hung, which says nothing of repetitions.
        """
        undone = frozenset((task, _how(story)) for task, story in stories.items() if _is_undone(story))
        if failed is None:
            return cls(case, undone, tuple(differences))
        how = _how(stories[failed], hung=hung)
        return cls(case, undone, (f"its undo failed: {error}",), (failed, how))


def _is_undone(story: Story) -> bool:
    """Whether there was something to undo: it may be recorded as begun, and its body never came."""
    return bool(story.last.begins and story.last.undo_begins)


def _how(story: Story, *, hung: bool = False) -> _How:
    if story.last.undo_repeated and not hung:
        return _How.REPEATED
    known = story.last.returned is not None and "INTERRUPTED" not in story.last.given
    return _How.WHOLE if known else _How.PART


def verdicts(
    tasks: Iterable[str], seen: Sequence[Seen], *, looked_at: bool
) -> tuple[list[TaskVerdict], list[str]]:
    """The verdict on each task; and the differences that are nobody's.

    A difference is the doing of what was undone whenever it was there, and never when it was not. Cases in
    which that leaves one task come first: what it explains is not held against the tasks after it.
    """
    blame = _Blame(seen)
    found = []
    for task in tasks:
        ways = {how for each in seen for name, how in each.undone if name == task}
        mine = {how: words for (name, how), words in blame.words.items() if name == task}
        told = tuple(dict.fromkeys(word for how in _How for word in mine.get(how, ())))
        if mine:
            verdict = Verdict.NOT_REPEATABLE if set(mine) == {_How.REPEATED} else Verdict.LEAKS
        elif not ways:
            verdict = Verdict.NOT_SEEN
        else:
            verdict = Verdict.COMPLETE if looked_at else Verdict.NOT_LOOKED_AT
        found.append(TaskVerdict(task, verdict, told))
    return found, blame.nobodys


class _Blame:
    """Who was undone, and how, when something was left; with the words for it."""

    def __init__(self, seen: Sequence[Seen]) -> None:
        self.words: dict[_Undone, list[str]] = {}
        self._whole = [each for each in seen if each.failed is None]
        for each in seen:
            if each.failed is not None:
                self._add(each.failed, f"{each.differences[0]} ({each.case})")
        for difference in sorted({word for each in self._whole for word in each.differences}):
            self._find(difference, [each for each in self._whole if difference in each.differences])
        # What is called otherwise each time, by chance or by the clock: any difference is the same one.
        self._find(None, self._unexplained())
        self.nobodys = [f"{each.differences[0]} ({each.case})" for each in self._unexplained()]

    def _unexplained(self) -> list[Seen]:
        return [e for e in self._whole if e.differences and not _explained(e.undone, self.words)]

    def _find(self, difference: str | None, there: Sequence[Seen]) -> None:
        """Whose doing it is that `difference`, or any, is found after the cases `there`."""
        clean = (e for e in self._whole if not e.differences or difference not in (None, *e.differences))
        # Of what was cut, or undone twice, each case is another one: it may be cut before its effect.
        innocent = {who for each in clean for who in each.undone if who[1] is _How.WHOLE}
        mine: set[_Undone] = set()
        for each in sorted(there, key=lambda e: (len(e.undone - innocent), len(e.undone), e.case)):
            suspects = each.undone - innocent
            if _explained(suspects, mine):
                continue
            mine |= suspects
            for who in suspects:
                others = sorted(task for task, _ in suspects - {who})
                beside = f"; or that of {', '.join(others)}" if others else ""
                self._add(who, f"{difference or each.differences[0]} ({each.case}{beside})")

    def _add(self, who: _Undone, words: str) -> None:
        self.words.setdefault(who, []).append(words)


def _explained(undone: Iterable[_Undone], blamed: Iterable[_Undone]) -> bool:
    """Whether one of those that were undone is known to leave something then."""
    ways = list(undone)
    return any(task == other and how.explains(now) for task, how in blamed for other, now in ways)
