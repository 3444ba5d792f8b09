"""Process trees: finding every descendant of a process and ending them. Linux only.

A runner is a subreaper: what its tasks start and orphan (setsid, double forks) becomes its own
child again, so a walk over /proc finds it. A runner's orphans fall to the keeper, which is one too.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import os
import select
import signal
import threading
import time
from collections.abc import Iterable

__all__ = [
    "become_subreaper",
    "children",
    "die_with_parent",
    "end_below",
    "end_marked",
    "end_step",
    "end_tree",
    "term_marked",
    "term_tree",
]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

LOG = logging.getLogger(__name__)

# How long what was killed may take to end: a large one has to give much memory back.
_KERNEL_SECONDS = 10.0

_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")

_pause = threading.Event()  # never set

_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Adopt the orphans among one's descendants, instead of process 1."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Be sent the signal `by` when the process `parent` ends. Call it first thing in the child.

    The kernel watches the *thread* that forked: the parent has to be single-threaded.
    """
    _prctl(_PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:
        os._exit(1)  # it ended before the kernel was told


def children(pid: int) -> list[int]:
    """The living children of a process; those that have ended and wait to be reaped are left out."""
    found: set[int] = set()
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return []
    for thread in threads:
        gone = contextlib.suppress(FileNotFoundError, ProcessLookupError)
        with gone, open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as listing:
            found.update(int(child) for child in listing.read().split())
    return [child for child in found if _alive(child)]


def term_tree(pid: int, *, before: float) -> None:
    """SIGTERM a process and its descendants, once: they may end in order, and need not.

    Args:
        before: seconds since boot; what was started then or later is let be.
    """
    for each in (*_descendants(pid), pid):
        if each == pid or _started(each) < before - _TICK_SECONDS:
            _signal(each, signal.SIGTERM)


def end_tree(pid: int) -> bool:
    """SIGKILL a process and all its descendants; the caller reaps `pid`. False: `pid` may not be killed."""
    try:
        while not end_step(pid):
            _pause.wait(0.001)  # for the kernel, which may have to wake a process before it ends
    except PermissionError:
        return False
    return True


def end_step(pid: int) -> bool:
    """One step of `end_tree`, which does not wait; True: it was the last.

    The process is stopped, so that it starts nothing more. Then its descendants are killed, in each
    step anew until a walk finds none: each that dies hands its children up to `pid`. It goes last.

    Raises:
        PermissionError: `pid` may not be killed.
    """
    _signal(pid, signal.SIGSTOP)
    killed = [_signal(each, signal.SIGKILL) for each in _descendants(pid)]
    if any(killed):  # those that may not be killed are out of reach, and not waited for
        return False
    if not _signal(pid, signal.SIGKILL):
        raise PermissionError(f"process {pid} has another user")
    return True


def end_below() -> None:
    """SIGKILL all descendants of this process and reap them: what the tasks of a job have left.

    Children that have ended already are reaped too, adopted ones and others alike.
    """
    for pid in _end_descendants(os.getpid()):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def _end_descendants(pid: int) -> set[int]:
    """Kill until a walk finds none but those out of reach: who changed user, or whom the kernel holds.

    Returns those that were killed and have ended.
    """
    killed: set[int] = set()
    refused: set[int] = set()
    give_up = time.monotonic() + _KERNEL_SECONDS
    while living := set(_descendants(pid)) - refused:
        if time.monotonic() > give_up:
            # Killed and not ending: it waits inside the kernel, for a dead disk say, and runs no code.
            LOG.error("processes %s do not end although they are killed", sorted(living))
            return killed - living
        for descendant in living:
            (killed if _signal(descendant, signal.SIGKILL) else refused).add(descendant)
        if living <= killed:
            _pause.wait(0.001)  # for the kernel, which may have to wake a process before it ends
    return killed


def end_marked(mark: str) -> None:
    """SIGKILL every process that was started with `mark` in its environment, until all have ended.

    For a tree whose root died before it could end it: what the root's death orphaned is below nobody
    any more. A process that was given another environment on its way is not found.
    """
    give_up = time.monotonic() + _KERNEL_SECONDS
    while marked := _marked(mark):
        ending = {}
        for pid in marked:
            with contextlib.suppress(ProcessLookupError):
                ending[os.pidfd_open(pid)] = pid
        try:
            # Looked at again: by now the number may be somebody else's.
            killed = {end: pid for end, pid in ending.items() if _has(pid, mark.encode())}
            for end in killed:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(end, signal.SIGKILL)
            # A process that ends loses its environment first, and its files and locks only then.
            if not _have_ended(killed, give_up):
                LOG.error("of processes %s some do not end although they are killed", sorted(killed.values()))
                return
        finally:
            for end in ending:
                os.close(end)


def _have_ended(ends: Iterable[int], give_up: float) -> bool:
    """Wait for the processes of these descriptors, until `give_up` at most."""
    for end in ends:
        poll = select.poll()
        poll.register(end, select.POLLIN)
        if not poll.poll(max(0.0, give_up - time.monotonic()) * 1000):
            return False
    return True


def term_marked(mark: str, *, but_below: int) -> None:
    """SIGTERM, once, the processes that were started with `mark` and are not of the tree of `but_below`."""
    tree = {but_below, *_descendants(but_below)}
    for pid in _marked(mark):
        if pid not in tree:
            _signal(pid, signal.SIGTERM)


def _marked(mark: str) -> list[int]:
    needle = mark.encode()
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _has(pid, needle)]


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    waiting = children(pid)
    while waiting:
        child = waiting.pop()
        found.append(child)
        waiting.extend(children(child))
    return found


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            # The name in brackets may hold anything, blanks and brackets too.
            state = stat.read().rpartition(")")[2].split()[0]
        # That is the state of its first thread. While others go on, the process still has its children.
        return state not in "ZX" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def _started(pid: int) -> float:
    """When a process was started, in seconds since boot, as the kernel tells; infinity: it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return int(stat.read().rpartition(")")[2].split()[19]) * _TICK_SECONDS
    except (FileNotFoundError, ProcessLookupError):
        return math.inf


def _has(pid: int, needle: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as environment:
            return needle in environment.read()
    except OSError:
        return False  # it has ended, or belongs to somebody else


def _signal(pid: int, number: signal.Signals) -> bool:
    """Whether the process may be sent it; one that has ended already may."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
