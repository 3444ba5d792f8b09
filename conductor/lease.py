"""The lease of a conductor, renewed in a thread of its own."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from ebbtide.errors import StoreUnavailable
from ebbtide.jobs import clock
from ebbtide.jobs.claims import Claims

__all__ = ["Lease"]

LOG = logging.getLogger(__name__)


class Lease:
    """Renews until `stop`, and knows when the conductor may hold nothing any more.

    Args:
        renew_seconds: between two renewals.
        self_fence_seconds: since the *start* of the last renewal that succeeded; after that the
            lease counts as over here, well before anybody else may think so. The first renewal is the
            registration: make this before it.
        on_renewed: told by `start` and after each renewal until when, in seconds since boot, that is.
            Called in the thread that renews.
    """

    def __init__(
        self,
        claims: Claims,
        *,
        renew_seconds: float,
        self_fence_seconds: float,
        on_renewed: Callable[[float], None],
    ) -> None:
        self._claims = claims
        self._renew_seconds = renew_seconds
        self._self_fence_seconds = self_fence_seconds
        self._on_renewed = on_renewed
        self._stopped = threading.Event()
        self._refused = threading.Event()
        self._until = clock.boot_seconds() + self_fence_seconds  # written by the thread alone once it runs
        self._thread = threading.Thread(target=self._renew, name="ebbtide-lease", daemon=True)

    @property
    def over(self) -> bool:
        """Whether the runs of this conductor have to end."""
        return self._refused.is_set() or clock.boot_seconds() > self._until

    def start(self) -> None:
        self._on_renewed(self._until)
        self._thread.start()

    def stop(self) -> None:
        """Renew no more; returns when the thread has ended."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _renew(self) -> None:
        pause = self._renew_seconds
        while not self._stopped.wait(pause):
            began = clock.boot_seconds()
            # After a failure it is tried again soon, not at the next regular time, which may be too late.
            pause = min(1.0, self._renew_seconds) * (0.5 + random.random() / 2)
            try:
                if not self._claims.renew():
                    LOG.error("conductor.lease_lost %s", self._claims.owner)
                    self._refused.set()
                    return
                self._until = began + self._self_fence_seconds
                self._on_renewed(self._until)
                pause = self._renew_seconds
            except StoreUnavailable as error:
                LOG.warning("conductor.renewal_failed %s: %s", self._claims.owner, error)
            except Exception:  # a fault of ours: the lease may still be renewed next time
                LOG.exception("conductor.renewal_failed %s", self._claims.owner)
