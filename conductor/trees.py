"""Process trees: finding every descendant of a process and ending them. Linux only.

A runner is a subreaper: what its tasks start and orphan (setsid, double forks) becomes its own
child again, so a walk over /proc finds it. A runner's orphans fall to the keeper, which is one too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

__all__ = ["become_subreaper", "children", "die_with_parent", "end_marked", "end_tree", "reap_orphans"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Adopt the orphans among one's descendants, instead of process 1."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Be killed when the process `parent` ends. Call it first thing in the child.

    The kernel watches the *thread* that forked: the parent has to be single-threaded.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
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


def end_tree(pid: int) -> None:
    """SIGKILL a process and all its descendants; the caller reaps `pid`.

    The process is stopped first, so that it starts nothing more; then its descendants are killed
    from the leaves' side until a walk finds none: each that dies hands its children up to `pid`.
    """
    _signal(pid, signal.SIGSTOP)
    while living := _descendants(pid):
        for descendant in living:
            _signal(descendant, signal.SIGKILL)
    _signal(pid, signal.SIGKILL)


def end_marked(mark: str) -> None:
    """SIGKILL every process that was started with `mark` in its environment, until there is none.

    For a tree whose root died before it could end it: what the root's death orphaned is below nobody
    any more. A process that was given another environment on its way is not found.
    """
    needle = mark.encode()
    while marked := [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _has(pid, needle)]:
        for pid in marked:
            _signal(pid, signal.SIGKILL)


def reap_orphans() -> None:
    """Reap the children of this process that have ended; those that it adopted nobody else reaps."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


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
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _has(pid: int, needle: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as environment:
            return needle in environment.read()
    except OSError:
        return False  # it has ended, or belongs to somebody else


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
