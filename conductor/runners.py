"""Where a conductor runs its jobs: in runner processes through a keeper, or in threads of its own process."""

from __future__ import annotations

import abc
import contextlib
import logging
import os
import queue
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ebbtide.conductor.capture import install
from ebbtide.conductor.channel import Channel, ChannelClosed
from ebbtide.conductor.execution import Execution
from ebbtide.conductor.options import RunOptions
from ebbtide.conductor.trees import end_marked
from ebbtide.errors import ConfigError, EbbtideError
from ebbtide.flows import Registry
from ebbtide.jobs.claims import Claim, Request
from ebbtide.jobs.store import Store
from ebbtide.tasks.wrapping import describe

__all__ = ["Ended", "ProcessRunners", "Runners", "ThreadRunners"]

LOG = logging.getLogger(__name__)

_START_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0


@dataclass(frozen=True)
class Ended:
    """A run is over: by an edge; or, with `edge` None, its runner is dead and nothing of it lives."""

    claim: Claim
    edge: str | None
    cause: str = ""


class Runners(abc.ABC):
    """A fixed number of places to run jobs. Used by one thread, the conductor's."""

    keys: frozenset[str]  # name@version of the flows that can be run here

    @property
    @abc.abstractmethod
    def idle(self) -> int:
        """How many more jobs may be given to `run` now."""

    @abc.abstractmethod
    def run(self, claim: Claim) -> None:
        """Start running a claimed job; there has to be an idle place."""

    @abc.abstractmethod
    def cancel(self, request: Request) -> bool:
        """Forward a request to the run of its job. False: no such run here. Repeating is harmless."""

    @abc.abstractmethod
    def suspend(self) -> None:
        """Let every run stop between tasks and release its job."""

    @abc.abstractmethod
    def hold_until(self, boot_seconds: float) -> None:
        """The runs may go on until then. Unless told again in time, runner processes are ended at that
        moment, even while the calling process is stopped or hangs. May be called from any thread.
        """

    @abc.abstractmethod
    def poll(self, seconds: float, bell: int | None = None) -> Iterator[Ended]:
        """Wait at most `seconds` for news and yield the runs that are over.

        Args:
            bell: a file descriptor that ends the wait as well once it can be read.
        """

    @abc.abstractmethod
    def end_all(self) -> None:
        """End every run where it stands, without undo; each is yielded by `poll` as dead.

        Threads cannot be ended: there it only suspends.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End every run and whatever runs them, and wait until all has ended. May be called once."""


@dataclass
class _Seat:
    pid: int
    channel: Channel
    claim: Claim | None = None
    served: bool = False  # it has been given a job
    failing: str = ""  # its last words
    # It is given nothing any more: the keeper will tell of its death, nothing else is to be done.
    broken: bool = field(default=False)


class ProcessRunners(Runners):
    """Runner processes, forked by a keeper.

    Args:
        count: how many.
        stopped: asked while they start; True gives up.

    Raises:
        ConfigError: a module of flows cannot be imported.
        EbbtideError: they did not come up, or `stopped`.
    """

    def __init__(
        self, count: int, options: RunOptions, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._selector = selectors.DefaultSelector()
        self._seats: dict[int, _Seat] = {}
        self._forks_due: list[float] = []  # when to replace runners that died without having had a job
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        # In the environment of everything that the keeper, a runner or a task starts.
        self._mark = f"_EBBTIDE_KEEPER_OF={options.owner}"
        ours, theirs = Channel.pair()
        # A fresh program: no thread or lock of this process is in it. -P: the current folder stays off
        # its module path. A session of its own: Ctrl-C at a terminal reaches the parent alone.
        self._keeper = subprocess.Popen(
            [sys.executable, "-P", "-m", "ebbtide.conductor.keeper", str(theirs.fileno())],
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
                for _ in self._hear_keeper():
                    pass
                if self._forks_due:
                    raise EbbtideError("a runner could not be started, or ended at once; the reason is above")
        except ChannelClosed as error:
            self.close()
            raise EbbtideError("the keeper ended before it was ready; its own message is above") from error
        except EbbtideError:
            self.close()
            raise

    @property
    def idle(self) -> int:
        return sum(seat.claim is None and not seat.broken for seat in self._seats.values())

    @property
    def pids(self) -> list[int]:
        """The process ids of the runners."""
        return list(self._seats)

    def run(self, claim: Claim) -> None:
        seat = next(seat for seat in self._seats.values() if seat.claim is None and not seat.broken)
        seat.claim = claim
        seat.served = True
        self._send(seat, {"run": claim.as_dict()})

    def cancel(self, request: Request) -> bool:
        for seat in self._seats.values():
            if seat.claim is not None and request.is_for(seat.claim):
                return self._send(
                    seat,
                    {
                        "cancel": {
                            "job_id": request.job_id,
                            "reason": request.reason,
                            "source": request.source,
                        }
                    },
                )
        return False

    def suspend(self) -> None:
        for seat in self._seats.values():
            if seat.claim is not None:
                self._send(seat, {"suspend": True})

    def hold_until(self, boot_seconds: float) -> None:
        with contextlib.suppress(ChannelClosed):  # `poll` tells of it
            self._control.send({"hold_until": boot_seconds})

    def poll(self, seconds: float, bell: int | None = None) -> Iterator[Ended]:
        self._fork_what_is_due()
        with _also(self._selector, bell):
            ready = self._selector.select(seconds)
        for key, _ in ready:
            if key.fileobj is self._control:
                yield from self._hear_keeper()
            elif key.data is not None and key.data.pid in self._seats:  # else the keeper told of its death
                yield from self._hear_runner(key.data)

    def end_all(self) -> None:
        for seat in self._seats.values():
            with contextlib.suppress(ChannelClosed):
                self._control.send({"end": seat.pid})

    def close(self) -> None:
        """End the runners with their trees, then the keeper. Returns when all are gone."""
        for seat in self._seats.values():
            seat.channel.close()
        self._control.close()  # the keeper ends every tree when it sees this, and then itself
        if self._keeper.wait() != 0:
            # It did not come to that. Its runners died with it, but not what their tasks had started.
            end_marked(self._mark)
        self._selector.close()

    def _send(self, seat: _Seat, message: dict[str, Any]) -> bool:
        try:
            seat.channel.send(message)
        except ChannelClosed:
            seat.broken = True
            return False
        return True

    def _hear_runner(self, seat: _Seat) -> Iterator[Ended]:
        try:
            message, _ = seat.channel.receive()
        except ChannelClosed:
            self._selector.unregister(seat.channel)
            seat.broken = True  # the keeper tells when nothing of it lives
            return
        yield from _heard(seat, message)

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

    def _replace(self, seat: _Seat) -> None:
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

    def _hear_keeper(self) -> Iterator[Ended]:
        try:
            message, channel = self._control.receive()
        except ChannelClosed:
            raise EbbtideError(
                "the keeper is gone, and its runners with it; start the conductor again"
            ) from None
        if "not_forked" in message:
            LOG.error("conductor.not_forked: %s", message["not_forked"])
            self._fork_later()
            return
        if channel is not None:
            seat = _Seat(message["forked"], channel)
            self._seats[seat.pid] = seat
            self._selector.register(channel, selectors.EVENT_READ, seat)
            return
        seat = self._seats.pop(message["dead"])
        # What it said before it died counts: its end may have been told already.
        yield from self._last_words(seat)
        with contextlib.suppress(KeyError):  # its end of the channel was seen closed before
            self._selector.unregister(seat.channel)
        seat.channel.close()
        self._replace(seat)
        if seat.claim is not None:
            cause = f"{seat.failing}; {message['cause']}" if seat.failing else message["cause"]
            yield Ended(seat.claim, None, cause)

    def _last_words(self, seat: _Seat) -> Iterator[Ended]:
        with contextlib.suppress(ChannelClosed):
            while True:  # until its end of the channel, which is closed
                message, _ = seat.channel.receive()
                yield from _heard(seat, message)


@contextlib.contextmanager
def _also(selector: selectors.BaseSelector, bell: int | None) -> Iterator[None]:
    """Listen to `bell` as well. Not for longer: its number may be another file's the next time."""
    if bell is None:
        yield
        return
    selector.register(bell, selectors.EVENT_READ)
    try:
        yield
    finally:
        selector.unregister(bell)


def _heard(seat: _Seat, message: dict[str, Any]) -> Iterator[Ended]:
    """What a runner said of its job: that it ended, or why the runner is about to die."""
    if "failing" in message:
        seat.failing = message["failing"]
    elif seat.claim is not None and message["epoch"] == seat.claim.epoch:
        claim, seat.claim = seat.claim, None
        seat.broken = message["leaving"]  # it ends, and is replaced then
        yield Ended(claim, message["edge"])


class ThreadRunners(Runners):
    """Threads of this process, for embedding and tests. A task that is deaf to its event delays everything.

    Args:
        count: how many jobs at once.
    """

    def __init__(self, count: int, options: RunOptions, store: Store, registry: Registry) -> None:
        install(outputs=False)
        self._count = count
        self._options = options
        self._store = store
        self._registry = registry
        self.keys = frozenset(definition.key for definition in registry.definitions())
        # By claim: a job that was retried at once may run before its last run is quite over.
        self._running: dict[Claim, Execution] = {}
        self._threads: dict[Claim, threading.Thread] = {}
        self._ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_reader, selectors.EVENT_READ)

    @property
    def idle(self) -> int:
        return self._count - len(self._running)

    def run(self, claim: Claim) -> None:
        execution = Execution(self._store, self._registry, claim, self._options)
        thread = threading.Thread(
            target=self._drive, args=(execution, claim), name="ebbtide-driver", daemon=True
        )
        self._running[claim] = execution
        self._threads[claim] = thread
        thread.start()

    def cancel(self, request: Request) -> bool:
        for claim, execution in self._running.items():
            if request.is_for(claim):
                execution.event.set(request.reason, request.source)
                return True
        return False

    def suspend(self) -> None:
        for execution in self._running.values():
            execution.suspend()

    def poll(self, seconds: float, bell: int | None = None) -> Iterator[Ended]:
        with _also(self._selector, bell):
            self._selector.select(seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_reader, 4096)
        # Put before the pipe was written to: what woke us is there.
        while not self._ended.empty():
            ended = self._ended.get()
            self._running.pop(ended.claim)
            self._threads.pop(ended.claim).join()
            yield ended

    def hold_until(self, boot_seconds: float) -> None:
        """Nothing: threads cannot be ended, and end with this process."""

    def end_all(self) -> None:
        self.suspend()

    def close(self) -> None:
        for execution in self._running.values():
            execution.suspend()
        for thread in self._threads.values():
            thread.join()
        self._selector.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _drive(self, execution: Execution, claim: Claim) -> None:
        try:
            ended = Ended(claim, execution.run())
        except BaseException as error:  # noqa: BLE001  # a fault of ours: taken up again, parks after three
            cause = describe(error, execution.redactor.redact)
            ended = Ended(claim, None, f"its run failed: {cause}")
        self._ended.put(ended)
        with contextlib.suppress(BlockingIOError):  # full: it wakes anyway
            os.write(self._wake_writer, b".")
