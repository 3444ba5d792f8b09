"""How much one caller may ask for: a bucket for cancels, one for everything else, one for wrong tokens."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ebbtide.config import Settings

__all__ = ["Bucket", "Limits", "Rate"]

_CALLERS = 10_000


@dataclass(frozen=True)
class Rate:
    """So many a second on the whole, and so many at once."""

    per_second: float
    burst: int


@dataclass(frozen=True)
class Limits:
    """The limits of one API server, for each caller.

    A flood of posts never stands in the way of a cancel: cancels have a bucket of their own.
    """

    requests: Rate = Rate(200.0, 400)
    cancels: Rate = Rate(100.0, 1000)
    wrong_tokens: Rate = Rate(5.0, 50)
    streams: int = 64  # open at once, of one caller
    body_bytes: int = 1024 * 1024

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """What the options say."""
        requests, cancels = settings.requests_per_second, settings.cancels_per_second
        return cls(
            Rate(requests, 2 * requests), Rate(cancels, 10 * cancels), streams=settings.streams_per_token
        )


class Bucket:
    """Token buckets of one rate, by caller. For one thread, that of the event loop."""

    def __init__(self, rate: Rate, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._now = now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> float:
        """Take one. Returns 0, or how many seconds from now there will be one; then none was taken."""
        left, now = self._filled(caller)
        taken = left >= 1.0
        self._left[caller] = (left - 1.0 if taken else left, now)
        self._left.move_to_end(caller)
        if len(self._left) > _CALLERS:
            self._left.popitem(last=False)  # whoever has not asked for longest: most likely full again
        return 0.0 if taken else (1.0 - left) / self._rate.per_second

    def is_empty(self, caller: str) -> float:
        """As `take`, and takes none."""
        left, _ = self._filled(caller)
        return 0.0 if left >= 1.0 else (1.0 - left) / self._rate.per_second

    def _filled(self, caller: str) -> tuple[float, float]:
        now = self._now()
        left, since = self._left.get(caller, (float(self._rate.burst), now))
        return min(float(self._rate.burst), left + (now - since) * self._rate.per_second), now
