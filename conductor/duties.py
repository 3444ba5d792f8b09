"""What a conductor sees to besides running jobs: their limits, and for how long ended ones are kept."""

from __future__ import annotations

import logging
import time

from ebbtide.config import Settings
from ebbtide.jobs.limits import LimitWatch
from ebbtide.jobs.retention import Retention, kept_days, take_turn
from ebbtide.jobs.store import Store

__all__ = ["Duties"]

LOG = logging.getLogger(__name__)

_PRUNE = "prune"
_PRUNE_SECONDS = 3600.0


class Duties:
    """Used by one thread, the conductor's, which asks at every look; each duty is done when it is due.

    Every method raises `StoreUnavailable` when the store is away; what was to be done is still due then.
    """

    def __init__(self, store: Store, owner: str, settings: Settings) -> None:
        self._store = store
        self._owner = owner
        self._sweep_seconds = settings.sweep_seconds
        self._limits = LimitWatch(store, owner)
        days = kept_days(settings)
        self._retention = Retention(store, days) if days else None
        self._next_look = self._next_turn = 0.0
        self._pruning = False

    def record_limits(self) -> bool:
        """Have runs stopped that have passed a limit: the request is then forwarded like any other.

        Returns whether there is one.
        """
        now = time.monotonic()
        if now < self._next_look:
            return False
        found = self._limits.record()
        for passed in found:
            LOG.warning("job.limit_passed %s: %s", passed.job_id, passed.reason)
        self._next_look = now + self._sweep_seconds
        return bool(found)

    def prune(self) -> None:
        """Remove some of what has outlived its time; of all conductors one does so, once an hour.

        A hundred jobs a look: the loop has more urgent things to do.
        """
        if self._retention is None:
            return
        now = time.monotonic()
        if not self._pruning and now >= self._next_turn:
            self._pruning = take_turn(self._store, _PRUNE, self._owner, seconds=_PRUNE_SECONDS)
            # Somebody else's hour may be over before ours would be.
            self._next_turn = now + _PRUNE_SECONDS / 60
        if self._pruning:
            removed = self._retention.prune_some()
            if removed:
                LOG.info("conductor.pruned %d jobs", removed)
            self._pruning = removed > 0
