"""Pace: not more than so many requests in a second."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Pace"]


class Pace:
    """Says how long to wait before the next request, so that they come evenly spaced.

    Args:
        per_second: how many at most.
        now: a clock that never goes back, in seconds.
    """

    def __init__(self, per_second: float, now: Callable[[], float] = time.monotonic) -> None:
        self._gap = 1.0 / per_second
        self._now = now
        self._next = now()

    def wait(self) -> float:
        """Seconds until the next request may be made, which takes its turn by this call."""
        now = self._now()
        turn = max(self._next, now)
        self._next = turn + self._gap
        return turn - now
