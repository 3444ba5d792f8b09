"""Runner processes: a pool of them, forked by a keeper."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from ebbtide.conductor.channel import Channel, ChannelClosed
from ebbtide.conductor.options import RunOptions
from ebbtide.conductor.runners import News, Runners, listening
from ebbtide.conductor.seat import Seat
from ebbtide.errors import ConfigError, EbbtideError
from ebbtide.jobs import clock
from ebbtide.jobs.claims import Claim, Request
from ebbtide.trees import end_marked

__all__ = ["ProcessRunners"]

LOG = logging.getLogger(__name__)

_KEEPER = ("-P", "-m", "ebbtide.conductor.keeper")  # -P: the current folder stays off its module path
_START_SECONDS = 60.0
_CLIMB_SECONDS = 0.02  # between two looks at the ladders, while there is one
_UNDO_CLIMB_SECONDS = 0.25  # where undos are all that is looked at
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0


class ProcessRunners(Runners):
    """Used by one thread, the conductor's. One of its own climbs the stop ladders, so that neither a
    store that is away nor a runner that keeps its interpreter to itself holds them up.

    Args:
        count: how many.
        stopped: asked while they start; True gives up.

    Raises:
        ConfigError: a module of flows cannot be imported, or the memory limit leaves no room.
        EbbtideError: they did not come up, or `stopped`.
    """

    def __init__(self, count: int, options: RunOptions, stopped: Callable[[], bool] = lambda: False) -> None:
        self._options = options
        self._selector = selectors.EpollSelector()
        self._waiting = _readable(self._selector.fileno())
        self._lock = threading.RLock()  # guards the fields that follow, and what the selector watches
        self._seats: dict[int, Seat] = {}
        self._forks_due: list[float] = []  # when to replace runners that died without having had a job
        self._news: list[News] = []
        self._fault: BaseException | None = None
        self._closed = False
        self._changed = threading.Condition(self._lock)
        self._climber = threading.Thread(target=self._climb, name="ebbtide-ladder", daemon=True)
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        # In the environment of everything that the keeper, a runner or a task starts.
        self._mark = f"_EBBTIDE_KEEPER_OF={options.owner}"
        ours, theirs = Channel.pair()
        # A fresh program: no thread or lock of this process is in it. A session of its own: Ctrl-C at a
        # terminal reaches the parent alone.
        self._keeper = subprocess.Popen(
            [sys.executable, *_KEEPER, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | dict([self._mark.split("=", 1)]),
            start_new_session=True,
        )
        theirs.close()
        self._control = ours
        self._selector.register(self._control, selectors.EVENT_READ)
        try:
            self._control.send(options.as_dict())
            self._await_keeper(stopped)
            answer, _ = self._control.receive()
            if "failed" in answer:
                raise ConfigError(answer["failed"])
            self.keys = frozenset(answer["ready"])
            for _ in range(count):
                self._control.send({"fork": True})
            while len(self._seats) < count:
                self._await_keeper(stopped)
                self._hear_keeper()
                if self._forks_due:
                    raise EbbtideError("a runner could not be started, or ended at once; the reason is above")
        except ChannelClosed as error:
            self.close()
            raise EbbtideError("the keeper ended before it was ready; its own message is above") from error
        except EbbtideError:
            self.close()
            raise
        self._climber.start()

    @property
    def idle(self) -> int:
        with self._lock:
            return sum(seat.idle for seat in self._seats.values())

    @property
    def pids(self) -> list[int]:
        """The process ids of the runners."""
        with self._lock:
            return list(self._seats)

    def run(self, claim: Claim) -> bool:
        with self._lock:
            # None, perhaps: one that was idle a moment ago has died, and the climber has heard of it.
            return any(seat.idle and seat.run(claim) for seat in self._seats.values())

    def cancel(self, request: Request) -> bool:
        with self._changed:
            for seat in self._seats.values():
                if seat.claim is not None and request.is_for(seat.claim):
                    forwarded = seat.cancel(request)
                    self._changed.notify()
                    return forwarded
        return False

    def suspend(self) -> None:
        with self._lock:
            for seat in self._seats.values():
                if seat.claim is not None:
                    seat.suspend()

    def pause(self, job_id: str, epoch: int) -> None:
        with self._lock:
            for seat in self._seats.values():
                if seat.claim is not None and (seat.claim.job_id, seat.claim.epoch) == (job_id, epoch):
                    seat.pause()

    def hold_until(self, boot_seconds: float) -> None:
        with contextlib.suppress(ChannelClosed):  # `poll` tells of it
            self._control.send({"hold_until": boot_seconds})

    def poll(self, seconds: float, *bells: int) -> Sequence[News]:
        if not self._news:
            with listening(self._waiting, bells):
                woken = self._waiting.poll(seconds * 1000)  # unlocked; whoever comes first hears it
            # Seen unlocked as well: what comes in this moment is heard the next time.
            if not (woken or self._news or self._forks_due or self._fault):
                return ()
        with self._lock:
            if self._fault is not None:
                raise self._fault
            self._fork_what_is_due()
            self._hear()
            news, self._news = self._news, []
            return news

    def end_all(self) -> None:
        with self._lock:
            for seat in self._seats.values():
                seat.end()

    def close(self) -> None:
        """End the runners with their trees, then the keeper. Returns when all are gone."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._climber.is_alive():
            self._climber.join()
        for seat in self._seats.values():
            seat.channel.close()
        self._control.close()  # the keeper ends every tree when it sees this, and then itself
        if self._keeper.wait() != 0:
            # It did not come to that. Its runners died with it, but not what their tasks had started.
            end_marked(self._mark)
        self._selector.close()

    def _climb(self) -> None:
        """While there is a ladder: hear what the runners have said, then take the steps that are due."""
        try:
            with self._changed:
                while not self._closed:
                    if self._climbing:
                        asked = clock.boot_seconds()  # what began before it was heard of is heard of now
                        self._hear()
                        self._news += filter(None, [seat.climb(asked) for seat in self._seats.values()])
                    self._changed.wait(self._climb_seconds)
        except BaseException as error:  # noqa: BLE001  # `poll` raises it
            self._fault = error

    @property
    def _climbing(self) -> bool:
        return any(seat.climbing or seat.undoing for seat in self._seats.values())

    @property
    def _climb_seconds(self) -> float | None:
        if any(seat.climbing for seat in self._seats.values()):
            return _CLIMB_SECONDS
        return _UNDO_CLIMB_SECONDS if self._climbing else None

    def _hear(self) -> None:
        for key, _ in self._selector.select(0):
            if key.fileobj is self._control:
                self._hear_keeper()
            elif key.data is not None and key.data.pid in self._seats:  # else it has just died
                self._hear_seat(key.data)

    def _hear_seat(self, seat: Seat) -> None:
        try:
            for news in seat.hear():  # one by one: it may raise after the last
                self._news.append(news)
            if seat.undoing or seat.climbing:
                self._changed.notify()
        except ChannelClosed:
            self._selector.unregister(seat.channel)
            seat.broken = True  # the keeper tells when nothing of it lives

    def _await_keeper(self, stopped: Callable[[], bool]) -> None:
        """Wait until the keeper has said something; it imports the flows of users, which may take long."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._selector.select(0.1):
            if stopped():
                raise EbbtideError("told to stop before the runners were up")
            if time.monotonic() > deadline:
                raise EbbtideError(f"the runners are not up after {_START_SECONDS:.0f} seconds")

    def _fork_what_is_due(self) -> None:
        now = time.monotonic()
        for due in [due for due in self._forks_due if due <= now]:
            self._forks_due.remove(due)
            with contextlib.suppress(ChannelClosed):  # heard next time
                self._control.send({"fork": True})

    def _replace(self, seat: Seat) -> None:
        """Have a dead runner replaced: at once, or after a growing pause when it never had a job."""
        if seat.served:
            self._pause_seconds = _FIRST_PAUSE_SECONDS
            self._forks_due.append(0.0)
        else:
            self._fork_later()
        self._fork_what_is_due()

    def _fork_later(self) -> None:
        self._forks_due.append(time.monotonic() + self._pause_seconds)
        self._pause_seconds = min(_LONGEST_PAUSE_SECONDS, 2 * self._pause_seconds)

    def _hear_keeper(self) -> None:
        try:
            for message, channel in self._control.arrived():
                if "not_forked" in message:
                    LOG.error("conductor.not_forked: %s", message["not_forked"])
                    self._fork_later()
                elif channel is not None:
                    seat = Seat(message["forked"], channel, self._control, self._options)
                    self._seats[seat.pid] = seat
                    self._selector.register(channel, selectors.EVENT_READ, seat)
                else:
                    self._bury(self._seats.pop(message["dead"]), message["cause"], message["ended_in"])
        except ChannelClosed:
            raise EbbtideError(
                "the keeper is gone, and its runners with it; start the conductor again"
            ) from None

    def _bury(self, seat: Seat, cause: str, ended_in: float | None) -> None:
        with contextlib.suppress(KeyError):  # its end of the channel was seen closed before
            self._selector.unregister(seat.channel)
        self._news += seat.died(cause, ended_in)
        self._replace(seat)


def _readable(descriptor: int) -> select.poll:
    """Waits for it. For a selector's own it waits for all that this watches, whatever that is meanwhile."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return waiting
