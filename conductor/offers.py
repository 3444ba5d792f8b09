"""Offers: jobs that were claimed on the board, and are to be claimed in the ledger yet."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Collection

from ebbtide.jobs.boards import Board, Pinned
from ebbtide.jobs.linkhealth import Health, start_thread
from ebbtide.jobs.signals.bell import Bell

__all__ = ["Offers"]

# Of a board that has been looked at so many are tried before it is looked at again.
_HEAD = 64
# Between two looks at a board that tells when something changes, should it ever fail to.
_WATCHED_SECONDS = 10.0
# After the signal rang, where the board tells nothing: when it is looked at again, after how long.
_PAUSES = (0.01, 0.04, 0.16)
_CLOSE_SECONDS = 2.0


class Offers:
    """Looks at the board and claims there, in a thread of its own: the conductor waits for no server.

    No more is claimed there than the conductor has asked for.

    Args:
        who: the name under which it claims.
        keys: name@version of the flows that can be run here.
        look_seconds: between two looks at a board that does not tell when something changes.
    """

    def __init__(
        self,
        open_board: Callable[[], Board],
        health: Health,
        *,
        who: str,
        keys: Collection[str],
        look_seconds: float,
    ) -> None:
        self._open_board = open_board
        self._health = health
        self._who = who
        self._keys = frozenset(keys)
        self._look_seconds = look_seconds
        self._bell = Bell()
        self._told = threading.Condition()
        # Guarded by `_told`:
        self._wanted = 0
        self._offered: dict[str, Pinned] = {}  # claimed on the board and not taken yet
        self._taken: dict[str, Pinned] = {}
        self._settled: list[tuple[Pinned, bool]] = []  # each with whether it is to be taken down
        self._works = False
        self._closed = False
        self._news = False  # something may have been posted since the last look
        self._pauses: list[float] = []
        self._next_claim = 0.0
        # Touched by the thread alone:
        self._left: list[Pinned] = []  # of the last look, the best last
        self._next_look = 0.0
        self._watched = False  # the board will tell when something changes
        self._thread = start_thread("ebbtide-offers", self._run)

    @property
    def works(self) -> bool:
        """Whether the board can be relied on; else the ledger alone is asked."""
        with self._told:
            return self._works

    @property
    def descriptor(self) -> int | None:
        """Can be read when there is an offer, or the board broke."""
        return self._bell.descriptor

    def heard(self) -> bool:
        return self._bell.heard()

    def want(self, number: int) -> None:
        """How many jobs the conductor could run now, besides those it has taken."""
        with self._told:
            if number != self._wanted:
                self._wanted = number
                while len(self._offered) > number:  # found another way; the others may have them
                    self._settled.append((self._offered.popitem()[1], False))
                self._told.notify()

    def look(self) -> None:
        """The signal rang: something may stand on the board in a moment."""
        with self._told:
            if self._wanted and not self._watched:
                self._news = True
                self._pauses = list(_PAUSES)
                self._told.notify()

    def take(self) -> str | None:
        """The id of a job that is offered; `settle` is to be called for it. None: there is none."""
        with self._told:
            for job_id in self._offered:
                self._taken[job_id] = self._offered.pop(job_id)
                self._wanted -= 1
                return job_id
        return None

    def settle(self, job_id: str, *, done: bool) -> None:
        """What became of an offer.

        Args:
            done: the ledger has answered, and its notice is of no more use. False: it could not be asked.
        """
        with self._told:
            pinned = self._taken.pop(job_id, None)
            if not done:  # not the same again at once
                self._next_claim = time.monotonic() + self._look_seconds
            if pinned is not None:
                self._settled.append((pinned, done))
                self._told.notify()

    def close(self) -> None:
        """Release what is claimed on the board, as far as it answers within seconds, and end."""
        with self._told:
            self._closed = True
            self._told.notify()
        self._thread.join(_CLOSE_SECONDS)
        self._bell.close()

    def _run(self) -> None:
        while not self._closed:
            with self._health.watched(), contextlib.closing(self._open_board()) as board:
                self._serve(board)
            with self._told:
                # The claims end with the link, or by themselves; the ledger is asked for those jobs as well.
                self._works = self._watched = False
                self._offered.clear()
                self._taken.clear()
                self._settled.clear()
                self._left.clear()
                self._next_look = 0.0
            self._bell.ring()
            with self._told:
                self._told.wait_for(lambda: self._closed, self._health.seconds_left)

    def _serve(self, board: Board) -> None:
        while True:
            with self._told:
                self._told.wait_for(self._may_go_on, self._seconds_left())
                closed = self._closed
                if closed:
                    self._settled += [(pinned, False) for pinned in self._offered.values()]
                    self._offered.clear()
                settled, self._settled = self._settled, []
                wants = not closed and self._wants()
                looks = wants and not self._left and self._look_is_due()
                if looks:
                    self._news = False
            self._settle(board, settled)
            if closed:
                return
            if looks:
                self._look(board)
            if wants and self._left:
                self._claim(board)

    # These four are called under `_told`.

    def _wants(self) -> bool:
        return len(self._offered) < self._wanted and time.monotonic() >= self._next_claim

    def _may_go_on(self) -> bool:
        if self._closed or self._settled:
            return True
        return self._wants() and (bool(self._left) or self._look_is_due())

    def _look_is_due(self) -> bool:
        return self._news or time.monotonic() >= self._next_look

    def _seconds_left(self) -> float | None:
        if len(self._offered) >= self._wanted:
            return None
        due = self._next_claim if self._left or self._news else max(self._next_claim, self._next_look)
        return max(0.0, due - time.monotonic())

    def _settle(self, board: Board, settled: list[tuple[Pinned, bool]]) -> None:
        down = [pinned for pinned, done in settled if done]
        if down:
            board.remove(down)
        for pinned, done in settled:
            if not done:
                board.release(pinned, self._who)

    def _look(self, board: Board) -> None:
        found = board.pinned(self._note_change if board.supports_watch else None)
        mine = [
            each
            for each in found
            if each.notice is not None and not each.claimed and each.notice.key in self._keys
        ]
        self._left = mine[:_HEAD][::-1]
        with self._told:
            first, self._works = not self._works, True
            self._watched = board.supports_watch
            pause = _WATCHED_SECONDS if self._watched else self._look_seconds
            if self._pauses and not mine:
                pause = min(pause, self._pauses.pop(0))
            self._next_look = 0.0 if mine else time.monotonic() + pause
        if first:
            self._health.mended()

    def _claim(self, board: Board) -> None:
        pinned = self._left.pop()
        if not board.claim(pinned, self._who):
            # Somebody else goes through the same list: not in the same order any more.
            random.shuffle(self._left)
            self._left.sort(key=lambda each: each.notice.priority if each.notice else 0)
            return
        assert pinned.notice is not None
        with self._told:
            self._offered[pinned.notice.job_id] = pinned
        self._bell.ring()

    def _note_change(self) -> None:
        with self._told:
            self._news = True
            self._told.notify()
