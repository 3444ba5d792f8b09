"""Fault points: named places at which a test makes a process pause, raise or die. Unarmed they do nothing.

A test arms one in its own process with `arm`, and in processes that it starts by their environment:
EBBTIDE_TEST_FAULTS=journal.committed:kill:3,conductor.claimed:stop names points, what happens there, and at
which time that a process comes there (default: the first). Each process counts for itself. If
EBBTIDE_TEST_FAULTS_FOLDER names a folder, a fault is armed only from when a file of its name, such as
conductor.claimed:stop, is put there; the process to which it happens takes that away.
"""

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["POINTS", "FaultRaised", "arm", "point", "watch"]

#: Every point, and when a process comes there.
POINTS = {
    "store.committing": "any transaction of Ebbtide is about to be committed",
    "store.committed": "a transaction has been committed; whoever asked for it has not been told",
    "conductor.claimed": "a claim is stored; no runner has been told",
    "task.beginning": "a task is about to begin; nothing says so yet",
    "task.begun": "it is stored that a task has begun; its `execute` comes next",
    "task.saving": "a task is about to store the data of a checkpoint",
    "task.saved": "that data is stored; the task goes on",
    "task.ended": "an `execute` has returned or raised; nobody knows yet",
    "undo.beginning": "the undo of a task is about to begin; nothing says so yet",
    "undo.begun": "it is stored that an undo has begun; `revert` comes next",
    "undo.ended": "a `revert` has returned or raised; nobody knows yet",
    "journal.committing": "a run is about to store what it has collected",
    "journal.committed": "that is stored",
    "outcome.committing": "a run has come to its end and is about to leave its job",
    "outcome.committed": "the outcome is stored; the conductor has not been told",
    "keeper.releasing": "all runners are dead; the keeper is about to give the lease up",
    "keeper.released": "the keeper has given the lease up",
}
FAULTS_VARIABLE = "EBBTIDE_TEST_FAULTS"
FOLDER_VARIABLE = "EBBTIDE_TEST_FAULTS_FOLDER"
EXIT_STATUS = 70


class FaultRaised(Exception):
    """What the action `raise` raises: an error that nobody expects."""


class Fault:
    """An action that is armed at a point."""

    def __init__(self, name: str, action: Callable[[], object], at: int, switch: Path | None = None) -> None:
        if name not in POINTS:
            raise ValueError(f"there is no fault point '{name}'; known: {', '.join(POINTS)}")
        if at < 1:
            raise ValueError(f"fault point {name} is armed for time {at}, which never comes")
        self.name = name
        self.happened = threading.Event()  # set when its time has come, just before the action
        self._action = action
        self._at = self._left = at
        self._switch = switch
        self._lock = threading.Lock()

    def meet(self, name: str, task: str | None) -> None:
        """A thread has come to the point `name`."""
        if name != self.name:
            return
        with self._lock:
            if self._switch is not None and not self._switch.exists():
                self._left = self._at
                return
            self._left -= 1
            due = self._left == 0
        if due and self._take():
            self.happened.set()
            self._action()

    def _take(self) -> bool:
        """Whether no other process was here first."""
        if self._switch is None:
            return True
        try:
            self._switch.unlink()
        except FileNotFoundError:
            return False
        return True


class Watcher:
    """Calls its action at every point."""

    def __init__(self, action: Callable[[str, str | None], object]) -> None:
        self._action = action

    def meet(self, name: str, task: str | None) -> None:
        self._action(name, task)


def point(name: str, task: str | None = None) -> None:
    """A process comes to the point `name`; with the name of the task, where it is about one."""
    if _armed:
        for each in _armed:
            each.meet(name, task)


@contextmanager
def arm(name: str, action: Callable[[], object], *, at: int = 1) -> Iterator[Fault]:
    """While this lasts, the `at`th thread of this process that comes to the point does `action` there.

    The action may wait for a gate, or raise whatever a test wants raised.
    """
    fault = Fault(name, action, at)
    with _as_armed(fault):
        yield fault


@contextmanager
def watch(action: Callable[[str, str | None], object]) -> Iterator[None]:
    """While this lasts, every thread that comes to any point calls ``action(point, task)`` there."""
    with _as_armed(Watcher(action)):
        yield


@contextmanager
def _as_armed(new: Fault | Watcher) -> Iterator[None]:
    global _armed
    _armed = (*_armed, new)
    try:
        yield
    finally:
        _armed = tuple(other for other in _armed if other is not new)


def _raise() -> None:
    raise FaultRaised("raised by an armed fault point")


# To this very thread, which goes no step further: a signal to the process stops it by any of its threads.
_ACTIONS: dict[str, Callable[[], object]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: signal.pthread_kill(threading.get_ident(), signal.SIGSTOP),
    "exit": lambda: os._exit(EXIT_STATUS),
    "raise": _raise,
}


def _from_environment(environ: Mapping[str, str]) -> Iterator[Fault]:
    folder = environ.get(FOLDER_VARIABLE)
    for text in filter(None, environ.get(FAULTS_VARIABLE, "").split(",")):
        found = re.fullmatch(rf"([a-z.]+):({'|'.join(_ACTIONS)})(?::(\d+))?", text)
        if found is None:
            raise ValueError(f"{FAULTS_VARIABLE}: '{text}' is not POINT:ACTION or POINT:ACTION:TIME")
        name, action, at = found.groups(default="1")
        yield Fault(name, _ACTIONS[action], int(at), Path(folder, text) if folder else None)


# Read here and once: whatever process this is, it is armed before it comes to a point, and so are its forks.
# Replaced as a whole: `point` looks at it without a lock.
_armed: tuple[Fault | Watcher, ...] = tuple(_from_environment(os.environ))
