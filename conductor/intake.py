"""Intake: where a conductor takes its claims from, the board first where there is one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from ebbtide.conductor.offers import Offers
from ebbtide.conductor.tending import Tending
from ebbtide.config import Settings
from ebbtide.errors import StoreUnavailable
from ebbtide.jobs.boards import MEANWHILE, Board, Outbox
from ebbtide.jobs.claims import Claim, Claims
from ebbtide.jobs.linkhealth import Health, LinkBroken
from ebbtide.jobs.store import Store

__all__ = ["Intake"]

LOG = logging.getLogger(__name__)


class Intake:
    """Claims jobs, for one thread. With a board, the ledger by itself is asked once a sweep only, and
    whenever the board cannot be relied on.

    Args:
        keys: name@version of the flows that can be run here.
        open_board: makes a link to the board; None: there is none.
    """

    def __init__(
        self,
        store: Store,
        claims: Claims,
        keys: Sequence[str],
        settings: Settings,
        open_board: Callable[[], Board] | None,
    ) -> None:
        self._claims = claims
        self._keys = keys
        self._sweep_seconds = settings.sweep_seconds
        self._next_sweep = 0.0
        self._swept = False  # the ledger has been asked since the last `want`
        self._offers: Offers | None = None
        self._tending: Tending | None = None
        if open_board is None:
            return
        try:
            self._offers = Offers(
                open_board,
                Health("board", settings.board, MEANWHILE),
                who=claims.owner,
                keys=keys,
                look_seconds=settings.sweep_seconds,
            )
            self._tending = Tending(
                Outbox(store, claims.owner, settings.board_window),
                open_board,
                Health("board", f"{settings.board} (outbox)", MEANWHILE),
                look_seconds=settings.sweep_seconds,
                lead_seconds=settings.renew_seconds,
            )
        except (LinkBroken, OSError) as error:  # no thread or no descriptor is to be had
            LOG.warning("board.broken %s: %s; jobs are claimed in the ledger alone", settings.board, error)

    @property
    def bells(self) -> tuple[int, ...]:
        """File descriptors that can be read when there is something to claim."""
        bell = None if self._offers is None else self._offers.descriptor
        return () if bell is None else (bell,)

    def heard(self) -> bool:
        """Whether the board has anything to tell since the last call."""
        return self._offers is not None and self._offers.heard()

    def look(self) -> None:
        """The signal rang."""
        if self._offers is not None:
            self._offers.look()

    def next(self) -> Claim | None:
        """Claim a job, if there is one."""
        claim = self._offered()
        if claim is not None:
            return claim
        sweeps = time.monotonic() >= self._next_sweep
        if sweeps or self._offers is None or not self._offers.works:
            self._swept = True
            return self._claims.claim(self._keys)
        return None

    def want(self, number: int) -> None:
        """How many more could be run now; what there was has been claimed by `next`."""
        if self._swept:
            self._swept = False
            self._next_sweep = time.monotonic() + self._sweep_seconds
        if self._offers is not None:
            self._offers.want(number)

    def close(self) -> None:
        """Let go of the board. Safe to call twice."""
        if self._tending is not None:
            self._tending.close()
        if self._offers is not None:
            self._offers.close()

    def _offered(self) -> Claim | None:
        """The claim in the ledger to a job that was claimed on the board."""
        while self._offers is not None and (job_id := self._offers.take()) is not None:
            try:
                claim = self._claims.claim_one(job_id, self._keys)
            except StoreUnavailable:
                self._offers.settle(job_id, done=False)
                raise
            # Claimed or not: the ledger has it that this job is to be had from the board no more. One that is
            # only being looked at by somebody is posted again.
            self._offers.settle(job_id, done=True)
            if claim is not None:
                return claim
        return None
