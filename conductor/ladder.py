"""The stop ladder of one run: which step is due when. Arithmetic alone; whoever climbs it takes the steps."""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Callable

__all__ = ["Ladder", "Rung"]


# Without any grace: for the word of the cancel to reach the tasks, and for that of their rest to come back.
_LEAST_SECONDS = 0.05


class Rung(enum.Enum):
    """How far a run that does not stop has been brought."""

    WAITING = "waiting"  # its tasks may still come to a checkpoint
    OVERDUE = "overdue"  # they did not within their grace: SIGTERM to all of its processes
    ENDED = "ended"  # nor did that help: SIGKILL to all of its processes


class Ladder:
    """Begins when a cancel request is forwarded, or a run has lost its job, at the lowest rung. Not locked.

    Args:
        after: what it began with, in words.
        kill_after_seconds: between SIGTERM and SIGKILL; infinite where nothing can be killed.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        *,
        kill_after_seconds: float,
        after: str = "the cancel",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rung = Rung.WAITING
        self._kill_after_seconds = kill_after_seconds
        self._after = after
        self._clock = clock
        self._since = clock()  # on this rung
        self._grace_seconds = math.nan  # that was exceeded

    @property
    def grace_seconds(self) -> float:
        """The grace that was exceeded; nan while it waits."""
        return self._grace_seconds

    def climb(self, grace_seconds: float) -> Rung | None:
        """Go up to the next rung if it is time; returns that rung, else None.

        One rung a call: after SIGTERM there is always time to end, however late somebody looks.

        Args:
            grace_seconds: the largest among the bodies at work now. It may change while it waits: it
                counts from the begin of the ladder, not from the change.
        """
        passed = self._clock() - self._since
        if self.rung is Rung.WAITING and passed >= max(grace_seconds, _LEAST_SECONDS):
            self.rung, self._grace_seconds = Rung.OVERDUE, grace_seconds
        elif self.rung is Rung.OVERDUE and passed >= self._kill_after_seconds:
            self.rung = Rung.ENDED
        else:
            return None
        self._since = self._clock()
        return self.rung

    @property
    def cause(self) -> str:
        """Why its runner was ended, for the history."""
        return f"it did not stop within {self._grace_seconds:g} s of {self._after} and was ended"
