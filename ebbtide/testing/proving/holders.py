"""Forking holders, hearing what they tell, and ending what they leave. For a process with a single thread."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ebbtide.conductor.undowatch import UndoWatch
from ebbtide.tasks.wrapping import describe
from ebbtide.testing.proving.endings import ENDING, held
from ebbtide.testing.proving.plans import Address, Deed
from ebbtide.trees import die_with_parent, end_tree

__all__ = ["ChildFailed", "Heard", "Holder", "answer_of"]


class ChildFailed(Exception):
    """A child could not do what it was for; the message says why."""


# An undo whose time is over is told to end first, and then ended: here at once.
_KILL_AFTER_SECONDS = 0.0
_LOOK_SECONDS = 0.02


@dataclass
class Heard:
    """What a holder has told, and how it ended.

    Attributes:
        hung: the undos for which it was ended, since they took longer than they may, with words for it.
        ended: how many holders before it were, which it has followed.
    """

    owner: str | None = None
    edge: str | None = None
    value: Any = None  # of `answer_of`
    answers: list[str] = field(default_factory=list)
    asked: int = 0  # how many answers there should be
    points: list[Address] = field(default_factory=list)
    deeds: dict[Deed, int] = field(default_factory=dict)  # each with how many points were told before
    failure: str | None = None
    late: bool = False
    hung: dict[str, str] = field(default_factory=dict)
    ended: int = 0
    status: int | None = None  # of waitpid, once it is reaped

    @property
    def killed(self) -> bool:
        """Whether it died of the deed that it was told to do."""
        dead = self.status is not None and os.WIFSIGNALED(self.status)
        return dead and Deed.KILL in self.deeds and os.WTERMSIG(self.status or 0) == signal.SIGKILL

    def follow(self, before: Heard) -> None:
        """Go on where another one was ended: what that had told counts as told by this one."""
        self.deeds = before.deeds | {
            deed: told + len(before.points) for deed, told in self.deeds.items() if deed not in before.deeds
        }
        self.points[:0] = before.points
        self.answers[:0] = before.answers
        self.asked += before.asked
        self.ended = before.ended + 1

    def take(self, told: dict[str, Any]) -> None:
        if "point" in told:
            self.points.append(Address(*told["point"]))
        elif "asked" in told:
            self.asked += 1
        elif "answer" in told:
            self.answers.append(told["answer"])
        elif "deed" in told:
            self.deeds.setdefault(Deed(told["deed"]), len(self.points))
        else:
            for name, value in told.items():
                setattr(self, name, value)


class Holder:
    """A forked process that runs ``call(writer, bed)``, tells lines of JSON by `writer`, and then ends.

    It may sleep by reading from `bed`, once it has told so.

    It has a process group of its own, so that Ctrl-C is for the prover alone, and no standard streams.
    """

    def __init__(self, call: Callable[[int, int], None], seconds: float) -> None:
        self.heard = Heard()
        self._undos = UndoWatch(_KILL_AFTER_SECONDS)
        self._deadline = time.monotonic() + seconds
        self._rest = b""
        self._reader, writer = os.pipe2(os.O_CLOEXEC)
        bed, self._alarm = os.pipe2(os.O_CLOEXEC)
        self._woken = False
        parent = os.getpid()
        with held():  # what is raised in the child before it is one would go on there as it does here
            self.pid = os.fork()
            if self.pid == 0:
                _be_child(parent, (self._reader, self._alarm), writer, lambda: call(writer, bed))
        os.close(writer)
        os.close(bed)
        self._ended = os.pidfd_open(self.pid)

    def wait(self) -> Heard:
        """Hear it until it has ended, or has stopped itself; whoever is late, or at an undo for too long, is
        ended.
        """
        while self.heard.status is None:
            left = self._deadline - time.monotonic()
            look = min(left, _LOOK_SECONDS) if self._undos.climbing else left
            ready = select.select([self._reader, self._ended], [], [], max(0.0, look))[0]
            self._undos.climb()
            if not ready and (time.monotonic() >= self._deadline or self._undos.hung):
                self.heard.hung = self._undos.hung
                self.heard.late = not self.heard.hung
                end_tree(self.pid)
                self._reap()
            elif self._reader in ready and self._hear() and self.asleep:
                return self.heard
            elif self._ended in ready:
                self._reap()
        return self.heard

    @property
    def asleep(self) -> bool:
        """Whether it has told that it sleeps, and was not woken."""
        return Deed.SLEEP in self.heard.deeds and not self._woken

    def wake(self, seconds: float) -> Heard:
        """Let it go on from where it sleeps; returns once it has ended."""
        self._deadline = time.monotonic() + seconds
        self._woken = True
        os.write(self._alarm, b".")
        return self.wait()

    def end(self) -> None:
        """End it with all below it, whatever it does. Nothing happens when it has ended."""
        if self.heard.status is None:
            end_tree(self.pid)
            self._reap()

    def _reap(self) -> None:
        self._close(os.waitpid(self.pid, 0)[1])

    def _close(self, status: int) -> None:
        self.heard.status = status
        os.set_blocking(self._reader, False)  # something that it has left may hold the other end
        while self._hear():
            pass
        for descriptor in (self._reader, self._alarm, self._ended):
            os.close(descriptor)

    def _hear(self) -> bool:
        """Take what was told; False: there is nothing."""
        try:
            data = os.read(self._reader, 65536)
        except BlockingIOError:
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "undoing" in told:
                self._undos.hear(*told["undoing"])
            else:
                self.heard.take(told)
        return bool(data)


def _be_child(parent: int, ours: tuple[int, ...], writer: int, call: Callable[[], None]) -> None:
    """Never returns: whatever the program had planned to do at its end is its own."""
    try:
        die_with_parent(parent)
        os.setpgid(0, 0)
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        gc.disable()  # what the program has left behind is none of ours to collect
        for descriptor in ours:
            os.close(descriptor)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        call()
        status = 0
    except BaseException as error:  # noqa: BLE001  # told, not raised into the program that was forked
        status = 70
        with contextlib.suppress(OSError):
            os.write(writer, (json.dumps({"failure": describe(error)}) + "\n").encode())
    os._exit(status)


def answer_of(call: Callable[[], Any], seconds: float) -> Any:
    """What `call` returns in a child of its own, as JSON values.

    Raises:
        ChildFailed: it raised, died, or was late.
    """

    def tell(writer: int, bed: int) -> None:
        line = (json.dumps({"value": call()}) + "\n").encode()
        while line:
            line = line[os.write(writer, line) :]

    child = Holder(tell, seconds)
    try:
        heard = child.wait()
    finally:
        child.end()
    if heard.status != 0 or heard.failure is not None:
        raise ChildFailed("it took too long" if heard.late else heard.failure or "its process died")
    return heard.value
