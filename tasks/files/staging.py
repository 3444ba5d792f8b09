"""The staging folder: where a job keeps what it makes until it is published."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from ebbtide.tasks.files.errors import no_space_or

__all__ = ["SparingFile", "Staging", "durable", "remove_file", "sync_folder"]


# The store often lies on the same disk, and an undo begins with a commit: a job that took the last bytes
# could neither go on nor give them back.
LEFT_FREE: Final = 4 * 1024 * 1024
# In pieces, before each of which the disk is looked at; so tasks side by side cannot go far below.
_BUFFER: Final = 256 * 1024


class Staging:
    """The names of everything in a staging folder. Looks at no disk.

    The folder lies in the destination, since publishing renames, and is named for the job: after a
    crash the same job finds it again, and no other job touches it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.destination = os.path.dirname(folder)
        self.version = os.path.join(folder, "version")  # becomes the published version as it is
        self.manifest = os.path.join(self.version, "manifest.json")
        self.skipped = os.path.join(folder, "skipped.jsonl")
        self.link = os.path.join(folder, "current")

    @classmethod
    def of(cls, destination: str, job_id: str) -> Staging:
        return cls(os.path.join(destination, f".staging-{job_id}"))

    def listing(self, part: int) -> str:
        """The entries of one part; parts count from 1."""
        return os.path.join(self.folder, f"listing-{part}.jsonl")

    def digests(self, part: int) -> str:
        """The digests of one part's files, a line each, in the order of its listing."""
        return os.path.join(self.folder, f"digests-{part}.txt")

    def archive(self, part: int) -> str:
        return os.path.join(self.version, f"part-{part}.tar.gz")


@contextlib.contextmanager
def durable(path: str) -> Iterator[BinaryIO]:
    """A new file, or an older one emptied, to be written; on disk for good when the block ends well.

    Raises:
        NoSpace: the disk is full but for `LEFT_FREE`, or the quota, or files may not be that large.
        FolderUnusable: it cannot be written for another reason.
    """
    try:
        with io.BufferedWriter(SparingFile(path, "wb"), _BUFFER) as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise no_space_or(error, path) from error


class SparingFile(io.FileIO):
    """A file that does not take the last bytes of its disk."""

    def write(self, data: Any) -> int:
        found = os.fstatvfs(self.fileno())
        # A file system without blocks does not tell how full it is.
        if found.f_blocks and found.f_bavail * found.f_frsize < LEFT_FREE + len(data):
            left = f"no space left on device, but for the last {LEFT_FREE >> 20} megabytes"
            raise OSError(errno.ENOSPC, left, self.name)
        return super().write(data)


def sync_folder(path: str) -> None:
    """Put a folder's names on disk for good."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_file(path: str) -> None:
    """Remove a file that may be gone already."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
