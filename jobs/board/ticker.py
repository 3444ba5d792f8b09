"""A thread that does something again and again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

__all__ = ["Ticker"]

LOG = logging.getLogger(__name__)


class Ticker:
    """Calls `action` every so many seconds, from a thread of its own, until it is stopped.

    What the action raises is logged, once until it works again: whatever it does is tried again.
    """

    def __init__(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        self._seconds = seconds
        self._action = action
        self._stopped = threading.Event()
        self._broken = False
        # A daemon: a database that does not answer must not keep a program from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns once the action is not at work any more. Safe to call twice, and from the action itself."""
        self._stopped.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self._action()
                self._broken = False
            except Exception as error:  # noqa: BLE001  # the next turn may work
                if not self._broken:
                    LOG.warning("board.%s failed, and is tried again: %s", self._thread.name, error)
                self._broken = True
