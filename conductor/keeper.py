"""The keeper: a small single-threaded process that forks runners, reaps them and ends their trees.

The parent starts it as a fresh program, so it has no thread and no connection when it forks:
forking from a threaded parent deadlocks sooner or later. It imports everything a runner needs
once, and outlives the parent long enough to end what the parent has started.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import selectors
import signal
import sys
import threading
import time
import traceback

from ebbtide import faults
from ebbtide.conductor.channel import Channel, ChannelClosed
from ebbtide.conductor.memory import limit_memory, too_little
from ebbtide.conductor.options import RunOptions
from ebbtide.errors import EbbtideError
from ebbtide.jobs import clock
from ebbtide.trees import (
    become_subreaper,
    children,
    die_with_parent,
    end_step,
    term_tree,
)

__all__ = ["Keeper", "main"]

LOG = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 1.0
_STEP_SECONDS = 0.001  # for the kernel, which may have to wake a process before it ends
_QUICK_STEPS = 1000
_LONG_STEP_SECONDS = 0.1
_pause = threading.Event()  # never set


class Keeper:
    """Serves one parent over `control` until that closes, then ends every runner and returns.

    Messages from the parent: ``{"fork": true}``, ``{"term": pid, "before": seconds since boot}``, ``{"end":
    pid}`` and ``{"hold_until": seconds since boot}``. To it: ``{"forked": pid}`` with the runner's channel,
    or ``{"not_forked": why}``; and ``{"dead": pid, "cause": ..., "ended_in": seconds}``, sent once the
    runner is reaped and none of its descendants is left; `ended_in` is how long that took since it was told
    to end the runner, null when it was not.

    A parent that is stopped or hangs renews no lease, and others may take its jobs once that is over.
    So the parent tells until when it holds them, and when it falls silent the runners are ended in time.
    """

    def __init__(self, control: Channel, options: RunOptions) -> None:
        self._control = control
        self._options = options
        self._runners: set[int] = set()
        self._ended_at: dict[int, float] = {}  # when the end of a runner's tree was begun
        self._ending: set[int] = set()  # runners whose trees are not ended yet
        self._steps = 0  # taken without a pause between ends
        self._reaped: dict[int, str] = {}  # dead runners with their causes; something of theirs may live
        self._beyond_reach: set[int] = set()  # orphans that we may not kill
        self._hold_until = math.inf
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> None:
        become_subreaper()
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        # A service manager may send SIGTERM to all processes of a service; the parent says when to end.
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        try:
            self._listen()
        finally:
            self._end_all()

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            with contextlib.suppress(ChannelClosed):
                while True:
                    ready = {key.fd for key, _ in selector.select(self._pause_seconds())}
                    # What the parent has sent comes first: its word may have waited for us to wake up.
                    if not ready and self._seconds_left() == 0:
                        self._end_silent()
                    if self._wake_reader in ready:
                        with contextlib.suppress(BlockingIOError):
                            os.read(self._wake_reader, 4096)
                        self._reap()
                    if self._control.fileno() in ready:
                        self._obey()
                    self._end_steps()
                    self._report()

    def _obey(self) -> None:
        message, _ = self._control.receive()
        if "fork" in message:
            self._fork()
        elif "hold_until" in message:
            self._hold_until = message["hold_until"]
        elif message.get("term") in self._runners:
            term_tree(message["term"], before=message["before"])
        elif message.get("end") in self._runners:
            self._end(message["end"])

    def _end(self, pid: int) -> None:
        self._ended_at.setdefault(pid, time.monotonic())
        self._ending.add(pid)

    def _end_steps(self) -> None:
        """Take the next step with each tree that is to end. None waits for another: one that the kernel
        does not let die holds up its own job, and no other.
        """
        for pid in list(self._ending):
            try:
                if end_step(pid):
                    self._ending.discard(pid)
            except PermissionError:
                self._ending.discard(pid)
                LOG.error("keeper: runner %d has another user and cannot be ended", pid)

    def _report(self) -> None:
        if self._reaped and not self._end_orphans():
            for pid, cause in self._reaped.items():
                began = self._ended_at.pop(pid, None)
                ended_in = None if began is None else time.monotonic() - began
                self._control.send({"dead": pid, "cause": cause, "ended_in": ended_in})
            self._reaped.clear()

    def _pause_seconds(self) -> float | None:
        """How long to wait for news: not long while trees end, unless one has not for many steps."""
        left = self._seconds_left()
        if not self._ending and not self._reaped:
            self._steps = 0
            # While the machine sleeps, the seconds of a lease go on and those of a wait do not.
            return None if left is None else min(left, _LONGEST_PAUSE_SECONDS)
        self._steps += 1
        pause = _STEP_SECONDS if self._steps < _QUICK_STEPS else _LONG_STEP_SECONDS
        return pause if left is None else min(pause, left)

    def _seconds_left(self) -> float | None:
        """How long the runners may go on without another word of the parent; None: for ever."""
        if self._hold_until == math.inf:
            return None
        return max(0.0, self._hold_until - clock.boot_seconds())

    def _end_silent(self) -> None:
        LOG.error("keeper: the lease of %s was not renewed: its runs are ended", self._options.owner)
        self._hold_until = math.inf
        for pid in self._runners:
            self._end(pid)

    def _fork(self) -> None:
        ours, theirs = Channel.pair()
        keeper = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            # No memory or no process is left: the runners that live go on, and the parent asks again.
            ours.close()
            theirs.close()
            self._control.send({"not_forked": error.strerror or str(error)})
            return
        if pid == 0:
            self._become_runner(keeper, theirs, ours)
        theirs.close()
        self._runners.add(pid)
        try:
            self._control.send({"forked": pid}, passing=ours)
        finally:
            ours.close()

    def _become_runner(self, keeper: int, theirs: Channel, ours: Channel) -> None:
        status = 70
        try:
            die_with_parent(keeper)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _survive_sigterm()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.setpgid(0, 0)
            ours.close()
            self._control.close()
            os.close(self._wake_reader)
            os.close(self._wake_writer)
            limit_memory(self._options.memory_limit_mib)
            from ebbtide.conductor.runner import serve

            serve(theirs, self._options)
            status = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            # Never back into the keeper's loop, whatever was raised; nor wait for a deaf task's thread.
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        """Reap what has ended. A runner's death is told later, once nothing of it lives."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._runners:
                self._runners.discard(pid)
                self._ending.discard(pid)
                self._reaped[pid] = _cause(status)

    def _end_orphans(self) -> bool:
        """Take the next step with what dead runners left; whether any of it lived.

        It has become our child, and nothing else of ours but runners is.
        """
        orphans = set(children(os.getpid())) - self._runners - self._beyond_reach
        for pid in orphans:
            try:
                end_step(pid)
            except PermissionError:
                self._beyond_reach.add(pid)
                LOG.error("keeper: process %d, started by a task, has another user and goes on", pid)
        return bool(orphans)

    def _end_all(self) -> None:
        for pid in self._runners:
            self._end(pid)
        while self._runners or self._end_orphans():
            self._end_steps()
            _pause.wait(_STEP_SECONDS)
            self._reap()


def _survive_sigterm() -> None:
    """SIGTERM to all processes of a service is for the parent to hear: it drains.

    By a handler, since what is ignored would be ignored by the programs of the tasks as well. Nor is the
    handler handed down to what a task forks: `multiprocessing` ends its processes by SIGTERM, maybe at
    once; so the signal waits until the child has its default back.
    """
    signal.signal(signal.SIGTERM, lambda *_: None)
    numbers = {signal.SIGTERM}

    def in_child() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, numbers),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers),
        after_in_child=in_child,
    )


def _cause(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"its runner was ended by {name}"
    return f"its runner exited with status {os.WEXITSTATUS(status)}"


def main() -> None:
    """The program of the keeper: its only argument is the number of the inherited control socket."""
    import socket

    control = Channel(socket.socket(fileno=int(sys.argv[1])))
    with contextlib.suppress(ChannelClosed):  # the parent ended while we were starting: nothing is begun
        message, _ = control.receive()
        options = RunOptions.from_dict(message)
        if _prepare(control, options):
            control.send({"ready": _prepared_keys()})
            Keeper(control, options).serve()
            _release(options)


def _prepare(control: Channel, options: RunOptions) -> bool:
    """Import once, for all runners, what they need. False: they could not run; the parent is told why."""
    from ebbtide.conductor import runner  # noqa: F401
    from ebbtide.flows import load_flows

    try:
        load_flows(options.flow_modules)
    except EbbtideError as error:
        control.send({"failed": str(error)})
        return False
    if refusal := too_little(options.memory_limit_mib, options.task_threads):
        control.send({"failed": refusal})
        return False
    gc.collect()
    gc.freeze()  # the collector does not touch what the runners share with us
    return True


def _prepared_keys() -> list[str]:
    """What the runners can run: the parent claims nothing else."""
    from ebbtide.flows import load_flows

    return [definition.key for definition in load_flows().definitions()]


def _release(options: RunOptions) -> None:
    """Give the parent's lease up: nothing of it lives, and it may have had no time to do so itself."""
    from ebbtide.jobs.claims import Claims
    from ebbtide.jobs.store import Store

    faults.point("keeper.releasing")
    store = Store(options.database, wait_seconds=options.wait_seconds)
    with contextlib.suppress(EbbtideError), store:
        Claims(store, options.owner, name="", lease_seconds=0.0).release()
    faults.point("keeper.released")


if __name__ == "__main__":
    main()
