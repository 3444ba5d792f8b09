"""The signal `local`: within one process, for a conductor that is embedded beside its posters."""

from __future__ import annotations

import logging
from collections import defaultdict
from threading import Lock

from ebbtide.jobs.signals.bell import Bell
from ebbtide.jobs.signals.signal import Signal, wait_for

__all__ = ["LocalSignal"]

LOG = logging.getLogger(__name__)

_guard = Lock()
_listeners: dict[str, set[LocalSignal]] = defaultdict(set)  # by store; written under the guard alone


class LocalSignal(Signal):
    """Rings for all who listen to the same store in this process. No other process hears it.

    Args:
        store: what is listened to, by its URL.
    """

    def __init__(self, store: str) -> None:
        super().__init__()
        self._store = store
        # Written under the guard alone:
        self._bell: Bell | None = None
        self._first = True
        self._broken = False  # and logged

    def ring(self, job_id: str) -> None:
        """As promised by `Signal`."""
        with _guard:
            bells = [listener._bell for listener in _listeners.get(self._store, ())]
        for bell in bells:
            if bell is not None:
                bell.ring()

    def changed(self) -> bool:
        """As promised by `Signal`."""
        with _guard:
            if self._closed.is_set():
                return True
            first, self._first = self._first, False
            if self._bell is None:
                self._begin()
            bell = self._bell
        return (bell is not None and bell.heard()) or first

    def _begin(self) -> None:
        try:
            self._bell = Bell()
        except OSError as error:
            if not self._broken:
                told = f"no pipe to be woken by ({error.strerror})"
                LOG.warning("signal.broken local: %s; until it is mended the sweep finds what changes", told)
            self._broken = True
            return
        self._bell.ring()  # what was rung before it could be heard is looked for once, now
        self._broken = False
        _listeners[self._store].add(self)

    @property
    def listening(self) -> bool:
        """As promised by `Signal`."""
        return self.descriptor is not None

    @property
    def descriptor(self) -> int | None:
        """As promised by `Signal`."""
        bell = self._bell
        return None if bell is None else bell.descriptor

    def pause(self, seconds: float) -> None:
        """As promised by `Signal`."""
        descriptor = self.descriptor
        if descriptor is None:
            super().pause(seconds)
        else:
            wait_for(descriptor, seconds)

    def close(self) -> None:
        """As promised by `Signal`."""
        super().close()
        with _guard:
            _listeners[self._store].discard(self)
            if not _listeners[self._store]:
                del _listeners[self._store]
        if self._bell is not None:
            self._bell.close()
