"""Hears from the kernel that a file was written to (inotify, of Linux)."""

from __future__ import annotations

import ctypes
import os
import struct

__all__ = ["FileWatch"]

_MODIFIED = 0x2
_IGNORED = 0x8000  # the file is gone: nothing more will come
_EVENT = struct.Struct("iIII")  # of a watched file; no name follows
_MOST_BYTES = 64 * 1024


class FileWatch:
    """A watch on one file. Writes through a mapping of it in memory are not heard.

    Raises:
        OSError: there is no such file, or the system has no watch to give.
    """

    def __init__(self, path: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "inotify_init1"):
            raise OSError("this system has no inotify")
        self.descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "no inotify instance")
        if libc.inotify_add_watch(self.descriptor, os.fsencode(path), _MODIFIED) < 0:
            error = ctypes.get_errno()
            os.close(self.descriptor)
            raise OSError(error, os.strerror(error), path)

    def heard(self) -> bool:
        """Whether it was written to since the last call. Raises OSError once the file is gone."""
        try:
            data = os.read(self.descriptor, _MOST_BYTES)
        except BlockingIOError:
            return False
        if any(mask & _IGNORED for _, mask, _, _ in _EVENT.iter_unpack(data)):
            raise OSError("the watched file is gone")
        return True

    def close(self) -> None:
        os.close(self.descriptor)
