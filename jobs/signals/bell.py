"""A bell between the threads of one process, which whoever waits for descriptors can wait for as well."""

from __future__ import annotations

import contextlib
import os
from threading import Lock

__all__ = ["Bell"]

_MOST_BYTES = 65536


class Bell:
    """A pipe that can be read once somebody has rung. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._guard = Lock()  # nobody writes to a number that is another file's already
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._open = True

    @property
    def descriptor(self) -> int | None:
        """None once it is closed."""
        with self._guard:
            return self._reader if self._open else None

    def ring(self) -> None:
        with self._guard, contextlib.suppress(BlockingIOError):  # a full pipe rings already
            if self._open:
                os.write(self._writer, b"!")

    def heard(self) -> bool:
        """Whether anybody has rung since the last call; always, once it is closed."""
        with self._guard:
            if not self._open:
                return True
            with contextlib.suppress(BlockingIOError):
                return bool(os.read(self._reader, _MOST_BYTES))
            return False

    def close(self) -> None:
        """Ends a wait for it as well. Safe to call twice."""
        self.ring()
        with self._guard:
            if self._open:
                self._open = False
                os.close(self._writer)
                os.close(self._reader)
