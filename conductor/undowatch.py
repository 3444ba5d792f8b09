"""The undos that a runner is at: which of them take longer than they may."""

from __future__ import annotations

import time
from collections.abc import Callable

from ebbtide.conductor.ladder import Ladder, Rung

__all__ = ["UndoWatch"]


class UndoWatch:
    """Of one runner, as its parent sees it. Each try of an undo has a ladder of its own. Not locked.

    Args:
        kill_after_seconds: as in `Ladder`.
    """

    def __init__(self, kill_after_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._kill_after_seconds = kill_after_seconds
        self._clock = clock
        self._ladders: dict[str, tuple[Ladder, float]] = {}

    def hear(self, task: str, within: float | None) -> None:
        """A try has begun, and may take so many seconds; None: it has ended."""
        self._ladders.pop(task, None)
        if within is not None:
            ladder = Ladder(kill_after_seconds=self._kill_after_seconds, clock=self._clock)
            self._ladders[task] = (ladder, within)

    def forget(self) -> None:
        """Another job begins there."""
        self._ladders.clear()

    @property
    def climbing(self) -> bool:
        """Whether `climb` is to be called now and then."""
        return any(ladder.rung is not Rung.ENDED for ladder, _ in self._ladders.values())

    def climb(self) -> Rung | None:
        """Take the steps that are due; returns the highest rung that was reached just now."""
        reached = {ladder.climb(within) for ladder, within in self._ladders.values()}
        return Rung.ENDED if Rung.ENDED in reached else Rung.OVERDUE if Rung.OVERDUE in reached else None

    @property
    def hung(self) -> dict[str, str]:
        """The undos for which the runner was ended, each with what is to be told of it."""
        return {
            task: f"it did not end within {within:g} s, and its runner was ended"
            for task, (ladder, within) in self._ladders.items()
            if ladder.rung is Rung.ENDED
        }
