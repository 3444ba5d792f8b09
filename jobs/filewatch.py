"""Hears from the kernel that a file was written to, or something in a folder (inotify, of Linux)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

__all__ = ["FileWatch", "FolderWatch"]

_MODIFIED = 0x2
_WRITTEN = 0x8  # and closed
_MOVED_IN = 0x80
_MOVED_AWAY = 0x800  # what is watched itself
_IGNORED = 0x8000  # what is watched is gone: nothing more will come
_ONLY_A_FOLDER = 0x01000000
_NO_LINK = 0x02000000
_EVENT = struct.Struct("iIII")
_MOST_BYTES = 64 * 1024


class FileWatch:
    """A watch on one file. Writes through a mapping of it in memory are not heard.

    Raises:
        OSError: there is no such file, or the system has no watch to give.
    """

    def __init__(self, path: str) -> None:
        self.descriptor = _watch(path, _MODIFIED)

    def heard(self) -> bool:
        """Whether it was written to since the last call. Raises OSError once the file is gone."""
        return bool(list(_events(self.descriptor)))

    def close(self) -> None:
        os.close(self.descriptor)


class FolderWatch:
    """A watch on what appears in one folder: files that were moved there, or written to and closed.

    Raises:
        OSError: there is no such folder, or the system has no watch to give.
    """

    def __init__(self, path: str) -> None:
        # A slash at its end would have a link followed.
        path = os.path.abspath(path)
        self.descriptor = _watch(path, _WRITTEN | _MOVED_IN | _MOVED_AWAY | _ONLY_A_FOLDER | _NO_LINK)

    def heard(self) -> set[str]:
        """The names of what has appeared since the last call; an empty one: whatever it was.

        Raises OSError once the folder is gone.
        """
        return set(_events(self.descriptor))

    def close(self) -> None:
        os.close(self.descriptor)


def _watch(path: str, mask: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        raise OSError("this system has no inotify")
    descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "no inotify instance")
    if libc.inotify_add_watch(descriptor, os.fsencode(path), mask) < 0:
        error = ctypes.get_errno()
        os.close(descriptor)
        raise OSError(error, os.strerror(error), path)
    return descriptor


def _events(descriptor: int) -> Iterator[str]:
    """The name that each event tells: of a file in the watched folder, or empty."""
    try:
        data = os.read(descriptor, _MOST_BYTES)
    except BlockingIOError:
        return
    position = 0
    while position < len(data):
        _, mask, _, length = _EVENT.unpack_from(data, position)
        position += _EVENT.size
        if mask & (_IGNORED | _MOVED_AWAY):
            raise OSError("what was watched is gone")
        yield os.fsdecode(data[position : position + length].rstrip(b"\0"))
        position += length
