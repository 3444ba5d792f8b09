"""The signal `file`: what appears in a folder, told by the kernel; asked for where that cannot tell."""

from __future__ import annotations

import logging
import os
import time
from threading import Lock

from ebbtide.errors import FolderRefused
from ebbtide.jobs.filewatch import FolderWatch
from ebbtide.jobs.folders import closed_folder, require_links
from ebbtide.jobs.signals.signal import Signal, wait_for
from ebbtide.wording import one_line

__all__ = ["FileSignal"]

LOG = logging.getLogger(__name__)

_BELL = ".bell"
_RETRY_SECONDS = 1.0


class FileSignal(Signal):
    """Rings for those who listen to the same folder, by writing to a file of no meaning in it.

    It rings as well for a cancel request that any program puts there; see `ebbtide.jobs.requests`.

    Args:
        folder: this user's alone; it is made when it is not there.

    Raises:
        FolderRefused: it is not, or a file in it cannot have two names, by which requests are moved.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder
        self._guard = Lock()  # `close` may come from another thread
        self._watch: FolderWatch | None = None
        self._next_try = 0.0
        self._broken = False  # and logged
        self._lost = False  # the folder cannot be looked at; it is tried again now and then
        self._first = True
        self._appeared = True  # or may have, since `appeared` was asked; touched by who listens alone
        self._seen: object = None  # how the folder was at the last look without a watch
        require_links(folder)

    def ring(self, job_id: str) -> None:
        """As promised by `Signal`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with closed_folder(self.folder) as folder:
                descriptor = os.open(_BELL, flags, 0o600, dir_fd=folder)
                try:
                    os.write(descriptor, job_id.encode())
                finally:
                    os.close(descriptor)  # that is what is heard
        except (OSError, FolderRefused) as error:
            self._note(error)
        else:
            self._broken = False

    def changed(self) -> bool:
        """As promised by `Signal`."""
        with self._guard:
            if self._closed.is_set():
                return True
            first, self._first = self._first, False
            try:
                rang = self._heard()
            except (OSError, FolderRefused) as error:
                self._note(error)
                self._drop()
                newly, self._lost = not self._lost, True
                return newly or first
            return rang or first

    def appeared(self) -> bool:
        """Whether `changed` has heard of anything but the bell since the last call; True at the first one.

        For the thread that listens.
        """
        appeared, self._appeared = self._appeared, False
        return appeared

    @property
    def listening(self) -> bool:
        """As promised by `Signal`."""
        with self._guard:
            return not self._first and (self._watch is not None or self._seen is not None)

    @property
    def descriptor(self) -> int | None:
        """As promised by `Signal`; None where the kernel has no watch to give."""
        with self._guard:
            return None if self._watch is None else self._watch.descriptor

    def pause(self, seconds: float) -> None:
        """As promised by `Signal`."""
        descriptor = self.descriptor
        if descriptor is None or self._closed.is_set():
            super().pause(seconds)
        else:
            wait_for(descriptor, seconds)

    def close(self) -> None:
        """As promised by `Signal`."""
        super().close()
        with self._guard:
            self._drop()

    def _heard(self) -> bool:
        if self._watch is not None:
            names = self._watch.heard()
            # A name with a dot is nobody's request, but the bell's.
            appeared = any(not name.startswith(".") for name in names)
            self._appeared |= appeared
            return appeared or _BELL in names
        if time.monotonic() >= self._next_try:
            self._next_try = time.monotonic() + _RETRY_SECONDS
            with closed_folder(self.folder):
                pass  # made again, if somebody has removed it
            self._lost = False
            try:
                self._watch = FolderWatch(self.folder)
                self._broken = False
                self._appeared = True
                return True  # what appeared before it watched is looked for once, now
            except OSError:
                pass  # asked for, then
        if self._lost:
            return False
        before, self._seen = self._seen, self._look()
        self._appeared |= self._seen != before
        return self._seen != before

    def _look(self) -> object:
        with closed_folder(self.folder) as folder:
            marks = [
                (found.st_ino, found.st_mtime_ns) for found in (os.fstat(folder), _bell(folder)) if found
            ]
        return marks

    def _note(self, error: Exception) -> None:
        if not self._broken:
            LOG.warning(
                "signal.broken file: %s; the sweep finds what changes meanwhile", one_line(str(error))
            )
        self._broken = True

    def _drop(self) -> None:
        self._seen = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None


def _bell(folder: int) -> os.stat_result | None:
    try:
        return os.stat(_BELL, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
