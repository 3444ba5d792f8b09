"""SIGTERM and SIGINT, as calls."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["stop_signals"]


@contextlib.contextmanager
def stop_signals(told: Callable[[], None]) -> Iterator[None]:
    """Call `told` at each, while the block runs in a main thread; elsewhere they are none of ours."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        told()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
