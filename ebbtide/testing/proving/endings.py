"""Signals that end a program, which wait where something must not be cut in two."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

__all__ = ["ENDING", "forget", "held", "let_in", "raise_once"]

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """A block that they do not reach: what comes meanwhile comes at its end. A fork inherits that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def let_in() -> Iterator[None]:
    """A block within such a block that they do reach."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def forget() -> None:
    """Drop what has come meanwhile, within a block that they do not reach."""
    while signal.sigtimedwait(ENDING, 0) is not None:
        pass


def raise_once(number: int, frame: object) -> None:
    """A handler that raises KeyboardInterrupt. What comes after that is ignored: it cuts no cleaning up."""
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
