"""Reading a file of the source, which other programs may be changing."""

from __future__ import annotations

import errno
import os
import stat
from types import TracebackType

from ebbtide.tasks.files.entries import Entry
from ebbtide.tasks.files.errors import FileChanged, FileUnusable, reason
from ebbtide.tasks.files.names import to_bytes
from ebbtide.tasks.files.progress import Meter

__all__ = ["CHUNK", "SourceFile"]

CHUNK = 1024 * 1024  # bytes read between two checkpoints

# Between the scan and here a file may have been replaced by a FIFO, which must not block, or by a link,
# which must not be followed.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


class SourceFile:
    """The content of one scanned file, read once from start to end; a context manager.

    It gives exactly the bytes there were at the scan, or raises: inode, size and time of change are
    compared with the scan when it is opened and again after the last byte. A file that grows without
    end is read no further than its size at the scan.

    Raises:
        FileUnusable: it cannot be opened or read.
        FileChanged: it is gone, or another, shorter, longer or written to since the scan.
    """

    def __init__(self, source: bytes, entry: Entry, meter: Meter) -> None:
        self._entry = entry
        self._meter = meter
        self._path = os.path.join(source, to_bytes(entry.path))
        self._file = -1

    def __enter__(self) -> SourceFile:
        try:
            self._file = os.open(self._path, _FLAGS)
        except FileNotFoundError:
            raise FileChanged(self._entry.path, "it is gone") from None
        except OSError as error:
            if error.errno == errno.ELOOP:  # what O_NOFOLLOW says to a link
                raise FileChanged(self._entry.path, "it was replaced by a link") from None
            raise self._unusable(error) from error
        try:
            self._compare()
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._read(1):
                    raise FileChanged(self._entry.path, f"it has grown beyond {self._entry.size} bytes")
                self._compare()
        finally:
            os.close(self._file)

    def read(self, size: int) -> bytes:
        """Exactly the next `size` bytes. Each call is a checkpoint, so `size` is to be `CHUNK` at most."""
        data = self._read(size)
        while len(data) < size:
            more = self._read(size - len(data))
            if not more:
                raise FileChanged(self._entry.path, f"it is shorter than its {self._entry.size} bytes")
            data += more
        self._meter.step(size)
        return data

    def _read(self, size: int) -> bytes:
        try:
            return os.read(self._file, size)
        except OSError as error:
            raise self._unusable(error) from error

    def _compare(self) -> None:
        entry, now = self._entry, os.fstat(self._file)
        if not stat.S_ISREG(now.st_mode) or (now.st_dev, now.st_ino) != (entry.device, entry.inode):
            raise FileChanged(entry.path, "it was replaced by another")
        if now.st_size != entry.size:
            raise FileChanged(entry.path, f"it has {now.st_size} bytes, {entry.size} at the scan")
        if now.st_mtime_ns != entry.mtime_ns:
            raise FileChanged(entry.path, "it was written to")

    def _unusable(self, error: OSError) -> FileUnusable:
        return FileUnusable(self._entry.path, reason(error))
