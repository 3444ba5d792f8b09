"""A folder that one job at a time changes the names in."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator

__all__ = ["locked"]

_RETRY_SECONDS = 0.02


@contextlib.contextmanager
def locked(folder: str, wait: Callable[[float], None]) -> Iterator[None]:
    """Keep other jobs from switching names in `folder`; calls `wait(seconds)` while one of them does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while not _try_lock(descriptor):
            wait(_RETRY_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _try_lock(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Some network file systems lock no folders. The lock only orders jobs that switch one
        # destination in the same instant; each switch is atomic without it.
        return True
    return True
