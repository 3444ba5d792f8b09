"""How long to wait before a request is made again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["Patience", "retry_after"]


@dataclass(frozen=True)
class Patience:
    """When a request that failed is made again, as arithmetic. Knows no clock.

    Args:
        retries: how many times at most; 0: never.
        wait_seconds: before the first of them.
        factor: by which each further wait is longer; 1: they are all alike.
        longest_seconds: no wait is longer, whatever the server asks for.
    """

    retries: int
    wait_seconds: float
    factor: float = 1.0
    longest_seconds: float = 300.0

    def wait(self, failures: int, asked: float | None = None) -> float | None:
        """Seconds to wait after so many failures (from 1); None: give up.

        Args:
            asked: what the server asks for. It is waited at least so long; up to `longest_seconds`.
        """
        if failures > self.retries:
            return None
        own = self.wait_seconds * self.factor ** (failures - 1)
        return min(max(own, asked or 0.0), self.longest_seconds)


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that the header ``Retry-After`` asks for; None: nothing that could be read.

    Args:
        value: seconds, or a date of HTTP; both are in use.
        now: the time to compare a date with, in UTC; default: this machine's.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value) if len(value) < 10 else None
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
