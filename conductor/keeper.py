"""The keeper: a small single-threaded process that forks runners, reaps them and ends their trees.

The parent starts it as a fresh program, so it has no thread and no connection when it forks:
forking from a threaded parent deadlocks sooner or later. It imports everything a runner needs
once, and outlives the parent long enough to end what the parent has started.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import sys
from typing import Any

from ebbtide.conductor.channel import Channel, ChannelClosed
from ebbtide.conductor.trees import become_subreaper, children, die_with_parent, end_tree
from ebbtide.errors import EbbtideError

__all__ = ["Keeper", "main"]


class Keeper:
    """Serves one parent over `control` until that closes, then ends every runner and returns.

    Messages from the parent: ``{"fork": true}`` and ``{"end": pid}``. To it: ``{"forked": pid}``
    with the runner's channel, and ``{"dead": pid, "cause": ...}``, sent once the runner is reaped and
    none of its descendants is left.
    """

    def __init__(self, control: Channel, options: dict[str, Any]) -> None:
        self._control = control
        self._options = options
        self._runners: set[int] = set()
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> None:
        become_subreaper()
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            with contextlib.suppress(ChannelClosed):
                while True:
                    ready = {key.fd for key, _ in selector.select()}
                    if self._wake_reader in ready:
                        with contextlib.suppress(BlockingIOError):
                            os.read(self._wake_reader, 4096)
                        self._reap()
                    if self._control.fileno() in ready:
                        self._obey()
        self._end_all()

    def _obey(self) -> None:
        message, _ = self._control.receive()
        if "fork" in message:
            self._fork()
        elif message["end"] in self._runners:
            end_tree(message["end"])

    def _fork(self) -> None:
        ours, theirs = Channel.pair()
        keeper = os.getpid()
        pid = os.fork()
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
            os.setpgid(0, 0)
            ours.close()
            self._control.close()
            os.close(self._wake_reader)
            os.close(self._wake_writer)
            from ebbtide.conductor.runner import serve

            serve(theirs, self._options)
            status = 0
        finally:
            # Never back into the keeper's loop, whatever was raised; nor wait for a deaf task's thread.
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        """Reap what has ended. A runner's death is told once nothing of it lives."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._runners:
                self._runners.discard(pid)
                self._end_orphans()
                self._control.send({"dead": pid, "cause": _cause(status)})

    def _end_orphans(self) -> None:
        """End what a dead runner left: it has become our child, and nothing else of ours but runners is."""
        while orphans := [pid for pid in children(os.getpid()) if pid not in self._runners]:
            for pid in orphans:
                end_tree(pid)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def _end_all(self) -> None:
        for pid in self._runners:
            end_tree(pid)
        for pid in self._runners:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._runners.clear()
        self._end_orphans()


def _cause(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"its runner was ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"its runner exited with status {os.WEXITSTATUS(status)}"


def main() -> None:
    """The program of the keeper: its only argument is the number of the inherited control socket."""
    import socket

    control = Channel(socket.socket(fileno=int(sys.argv[1])))
    options, _ = control.receive()
    from ebbtide.conductor import runner  # noqa: F401  # imported once here, for all runners
    from ebbtide.flows import load_flows

    try:
        load_flows(options["flow_modules"])
    except EbbtideError as error:
        control.send({"failed": str(error)})
        return
    gc.collect()
    gc.freeze()  # the collector does not touch what the runners share with us
    control.send({"ready": True})
    Keeper(control, options).serve()


if __name__ == "__main__":
    main()
