"""A seat: one runner process as its parent sees it, and how a run in it is made to stop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ebbtide.conductor.channel import Channel, ChannelClosed
from ebbtide.conductor.ladder import Ladder, Rung
from ebbtide.conductor.options import RunOptions
from ebbtide.conductor.runners import AtRest, Ended, News, Overdue, Suspending
from ebbtide.conductor.undowatch import UndoWatch
from ebbtide.jobs import clock
from ebbtide.jobs.claims import Claim, Request
from ebbtide.jobs.interrupted import why_ended

__all__ = ["Seat"]


class Seat:
    """Not locked: its pool does that.

    Args:
        control: the channel to the keeper, which signals the runner's processes.
        channel: the one to the runner itself.
    """

    def __init__(self, pid: int, channel: Channel, control: Channel, options: RunOptions) -> None:
        self.pid = pid
        self.channel = channel
        self.claim: Claim | None = None
        self.served = False  # it has been given a job
        # Nothing is to be done here any more but to wait for the keeper to tell of the death: a message
        # could not be sent, or the end was ordered.
        self.broken = False
        self._control = control
        self._options = options
        self._failing = ""  # its last words
        self._grace: float | None = None  # of the bodies at work, as the runner told; None: at rest
        self._ladder: Ladder | None = None
        self._undos = UndoWatch(options.kill_after_seconds)
        self._forwarded = False
        self._pausing = False
        self._lost = False  # the ladder is not a cancel's: nobody is told of an overdue one
        self._termed = False

    @property
    def idle(self) -> bool:
        return self.claim is None and not self.broken

    @property
    def climbing(self) -> bool:
        """Whether `climb` is to be called now and then."""
        return self._ladder is not None and self._ladder.rung is not Rung.ENDED

    @property
    def undoing(self) -> bool:
        """Whether the same is to be done for an undo, which may take long."""
        return self._undos.climbing

    def run(self, claim: Claim) -> bool:
        """Give the runner a job. False: it cannot be reached, and has not got it."""
        if not self._send({"run": claim.as_dict()}):
            return False
        self.claim = claim
        self.served = True
        self._grace = self._options.grace_seconds
        self._ladder = None
        self._undos.forget()
        self._forwarded = self._pausing = self._lost = False
        return True

    def cancel(self, request: Request) -> bool:
        """Forward the request, once, and begin the ladder; see `Runners.cancel`."""
        assert self.claim is not None
        if self.claim.cancel is None and self._grace is not None and self._ladder is None:
            self._begin_ladder("the cancel")
        if not self._forwarded:
            # Once: a runner that cannot listen would let the messages pile up until we have to wait.
            values = {"job_id": request.job_id, "reason": request.reason, "source": request.source}
            self._forwarded = self._send({"cancel": values})
        return self._forwarded

    def _heard_lost(self) -> None:
        """The run may not go on. Nobody else would end it: its conductor may well go on holding the job."""
        if self._grace is not None and self._ladder is None:
            self._begin_ladder("the loss of its job")
            self._lost = True

    def _begin_ladder(self, after: str) -> None:
        self._ladder = Ladder(kill_after_seconds=self._options.kill_after_seconds, after=after)

    def suspend(self) -> None:
        self._send({"suspend": True})

    def pause(self) -> None:
        """Let the run stop between tasks, for its job to be paused. Once."""
        assert self.claim is not None
        if not self._pausing:
            self._pausing = self._send({"pause": self.claim.epoch})

    def hear(self) -> Iterator[News]:
        """All that the runner has said since the last time.

        Raises:
            ChannelClosed: after its last word.
        """
        for message, _ in self.channel.arrived():
            if "failing" in message:
                self._failing = message["failing"]
            elif self.claim is None or message["epoch"] != self.claim.epoch:
                continue
            elif "grace" in message:
                self._grace = message["grace"]
            elif "suspending" in message:
                yield Suspending(self.claim)
            elif "lost" in message:
                self._heard_lost()
            elif "undo" in message:
                self._undos.hear(message["undo"], message["within"])
            else:
                claim, self.claim, self._ladder = self.claim, None, None
                self._undos.forget()
                self.broken = self.broken or message["leaving"]  # it ends by itself, and is replaced then
                if self._termed and not self.broken:
                    # The SIGTERM may still be on its way: it is not to meet the programs of another job.
                    self.end()
                yield Ended(claim, message["edge"])

    def climb(self, asked: float) -> News | None:
        """Take the step of the stop ladder that is due, if one is.

        Args:
            asked: seconds since boot, taken before `hear` was called the last time: what the runner has
                started since may belong to an undo that nobody has heard of yet, and is let be.
        """
        self._climb_undos(asked)
        ladder = self._ladder
        if ladder is None or ladder.rung is Rung.ENDED:
            return None
        assert self.claim is not None
        if self._grace is None:
            self._ladder = None
            return AtRest(self.claim) if ladder.rung is Rung.OVERDUE and not self._lost else None
        match ladder.climb(self._grace):
            case Rung.OVERDUE:
                self._termed = True
                self._tell_keeper({"term": self.pid, "before": asked})
                return None if self._lost else Overdue(self.claim, clock.wall(), ladder.grace_seconds)
            case Rung.ENDED:
                self.end()
        return None

    def _climb_undos(self, asked: float) -> None:
        """What an undo waits for is told to end; that undo fails then, or its runner is ended with it."""
        match self._undos.climb():
            case Rung.OVERDUE:
                self._termed = True
                self._tell_keeper({"term": self.pid, "before": asked})
            case Rung.ENDED:
                self.end()

    def end(self) -> None:
        """Have the runner killed with everything below it; the keeper tells when nothing lives."""
        self.broken = True
        self._tell_keeper({"end": self.pid})

    def died(self, cause: str, ended_in: float | None) -> Iterator[News]:
        """The keeper says so. What the runner had said before counts: its end may have been told already."""
        self.broken = True
        with contextlib.suppress(ChannelClosed):
            yield from self.hear()
        self.channel.close()
        if self.claim is None:
            return
        ladder, hung = self._ladder, self._undos.hung
        if hung and ended_in is not None:
            yield Ended(self.claim, None, why_ended(hung), ended_in, hung)
        elif ladder is not None and ladder.rung is Rung.ENDED and ended_in is not None:
            yield Ended(self.claim, None, ladder.cause, ended_in)
        else:
            yield Ended(self.claim, None, f"{self._failing}; {cause}" if self._failing else cause)

    def _send(self, message: dict[str, Any]) -> bool:
        try:
            self.channel.send(message)
        except ChannelClosed:
            self.broken = True
            return False
        return True

    def _tell_keeper(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ChannelClosed):  # `poll` tells of it
            self._control.send(message)
