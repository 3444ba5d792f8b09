"""Tending the board, by whichever conductor leads: a thread that every conductor has."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

from ebbtide.errors import StoreUnavailable
from ebbtide.jobs.boards import Board, Outbox
from ebbtide.jobs.linkhealth import Health, start_thread

__all__ = ["Tending"]

LOG = logging.getLogger(__name__)

_FULL_SECONDS = 0.2
_CLOSE_SECONDS = 2.0


class Tending:
    """Tends the board while this conductor leads, and asks now and then whether it does.

    Where the board is not reached for a while, it does not lead for another while: the server may be reached
    by others.

    Args:
        look_seconds: between two looks at the board, unless more is due than fits.
        lead_seconds: between two looks at who leads; also those whiles.
    """

    def __init__(
        self,
        outbox: Outbox,
        open_board: Callable[[], Board],
        health: Health,
        *,
        look_seconds: float,
        lead_seconds: float,
    ) -> None:
        self._outbox = outbox
        self._open_board = open_board
        self._health = health
        self._look_seconds = look_seconds
        self._lead_seconds = lead_seconds
        self._closed = threading.Event()
        # Touched by the thread alone:
        self._leads = False
        self._next_ask = 0.0
        self._reached_at = 0.0  # the board, or when it was to be reached from
        self._thread = start_thread("ebbtide-tending", self._run)

    def close(self) -> None:
        """Tend no more; a server that does not answer is waited for within seconds."""
        self._closed.set()
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._closed.is_set():
            if self._may_tend():
                with self._health.watched(), contextlib.closing(self._open_board()) as board:
                    self._tend(board)
                self._resign_if_cut_off()
                self._closed.wait(self._health.seconds_left)
            else:
                self._closed.wait(self._lead_seconds)

    def _tend(self, board: Board) -> None:
        while not self._closed.is_set() and self._may_tend():
            full = False
            try:
                full = self._outbox.tend(board)
                self._reached_at = time.monotonic()
            except StoreUnavailable as error:
                LOG.warning("conductor.store_unavailable: %s", error)
            else:
                self._health.mended()
            self._closed.wait(min(_FULL_SECONDS, self._look_seconds) if full else self._look_seconds)

    def _may_tend(self) -> bool:
        if time.monotonic() >= self._next_ask:
            self._next_ask = time.monotonic() + self._lead_seconds
            led = self._leads
            try:
                self._leads = self._outbox.lead()
                if self._leads and not led:
                    self._reached_at = time.monotonic()
            except StoreUnavailable as error:
                LOG.warning("conductor.store_unavailable: %s", error)
        return self._leads

    def _resign_if_cut_off(self) -> None:
        now = time.monotonic()
        if self._leads and now >= self._reached_at + self._lead_seconds:
            try:
                self._outbox.resign()
                self._leads = False
                self._next_ask = now + self._lead_seconds
                LOG.info("board.not_led: it cannot be reached from here; another conductor may")
            except StoreUnavailable as error:
                LOG.warning("conductor.store_unavailable: %s", error)
